import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

// How one of the project's packages is delivered and installed, and a program compiled that uses it.

/** Packs and installs one as a caller gets it, below `work`; gives the folder of the program that uses it. */
export function installPackage(
  name: 'warifu-client' | 'warifu-verifier',
  root: string,
  work: string,
): string {
  const packed = execFileSync(process.execPath, [join(root, 'packaging/pack.mjs'), work, name], {
    encoding: 'utf8',
  });
  const use = join(work, 'use');
  mkdirSync(use);
  writeFileSync(join(use, 'package.json'), JSON.stringify({ name: 'use', private: true, type: 'module' }));
  const tarball = packed.trim().slice(66);
  execFileSync('npm', ['install', '--offline', '--no-audit', '--no-fund', tarball], {
    cwd: use,
    stdio: 'pipe',
  });
  return use;
}

/** Options of `tsc`; `root` is the project's, for the types of Node. */
export const useOptions = (root: string): string[] => [
  ...['--ignoreConfig', '--strict', '--noEmit', '--target', 'es2022', '--module', 'nodenext'],
  ...['--types', 'node', '--typeRoots', `${root}/node_modules/@types`],
];
