import { existsSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fail, readJson } from '../../core/config/read.ts';
import { noDataFolder } from '../../core/runtime/data-folder.ts';
import { readCrlNodeConfig } from '../../crl/config/options.ts';
import { readOcspNodeConfig } from '../../ocsp/config/options.ts';
import { type Config, readConfig } from '../config/config.ts';
import { layout } from './layout.ts';
import { refuseUnfit } from './production.ts';

// Configurations as an operator looks at them: what is wrong with a file, and what holds in the end.

/** The configuration files of a data folder: of a CA, or of a node, which may serve OCSP and CRLs. */
function filesIn(folder: string): readonly { readonly file: string; readonly read: () => object }[] {
  const node = join(folder, 'node.json');
  if (!existsSync(node)) {
    const file = join(folder, 'warifu.json');
    const read = (): Config => {
      const config = readConfig(file);
      // What a start refuses of production, the ceremony aside.
      refuseUnfit(layout(folder), config);
      return config;
    };
    return [{ file, read }];
  }
  const given = readJson(node, (input) => input as Record<string, unknown>);
  return [
    ...('ocsp' in given || !('crl' in given) ? [{ file: node, read: () => readOcspNodeConfig(node) }] : []),
    ...('crl' in given ? [{ file: node, read: () => readCrlNodeConfig(node) }] : []),
  ];
}

/** Checks what a data folder is configured by, without starting anything; a line for each file. Throws `bad-request` with every fault. */
export function checkFolder(folder: string): string[] {
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) fail(noDataFolder(resolve(folder)));
  return filesIn(resolve(folder)).flatMap(({ file, read }) => {
    const config = read();
    const state = existsSync(file)
      ? `${basename(file)} is a valid configuration`
      : `there is no ${file}: defaults hold`;
    return [state, ...remarks(config)];
  });
}

/** What is no fault, and seldom meant: certificates name an address of this machine at which nothing of it listens. */
function remarks(config: object): string[] {
  const { ocsp, crl } = config as Partial<Config>;
  return Object.entries({ ocsp, crl }).flatMap(([name, service]) => {
    if (!service || !('publicUrl' in service) || !URL.canParse(service.publicUrl)) return [];
    const { hostname, port, host } = new URL(service.publicUrl);
    const isHere = /^(127\.|localhost$|\[::1\]$)/.test(hostname);
    return isHere && Number(port || 80) !== service.port
      ? [
          `note: certificates will name ${host} for ever (${name}.publicUrl), and ${name}.port is ${service.port}`,
        ]
      : [];
  });
}

/** What holds in the end, defaults among it: JSON. It names files and environment variables of secrets, and holds none. */
export function effective(folder: string): string {
  const [first] = filesIn(resolve(folder));
  return `${JSON.stringify(first?.read() ?? {}, null, 2)}\n`;
}
