import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { removeScratch, runWarifu, scratch } from '../support/harness.ts';

let script: string;

beforeAll(async () => {
  script = join(scratch(), 'completion');
  writeFileSync(script, (await runWarifu('completion')).output);
});
afterAll(removeScratch);

/** What bash offers for the last of these words. */
function offered(...words: string[]): string[] {
  const line = words.map((word) => `'${word}'`).join(' ');
  const asked = `source ${script}; COMP_WORDS=(warifu ${line}); COMP_CWORD=${words.length}; _warifu; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return execFileSync('bash', ['-c', asked], { encoding: 'utf8' })
    .split('\n')
    .filter((word) => word !== '');
}

it.each([
  [['conf'], ['config']],
  [
    ['config', ''],
    ['check', 'show', 'schema', 'example', '--help'],
  ],
  [['config', 'check', '--d'], ['--data']],
  [['issue-batch', '--ans'], ['--answers']],
  // Behind the value of an option, and an argument.
  [['history', '--data', 'folder', '--ho'], ['--holder']],
  [['restore', 'backup.db', '--jou'], ['--journal']],
  [['no-such-command', '--x'], []],
])('completes %j to %j', (words, wanted) => {
  expect(offered(...words)).toEqual(wanted);
});
