import { closeSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import { PkiError } from '../../core/runtime/errors.ts';
import { findModule } from '../../hsm/pkcs11/find-module.ts';
import { type CheckReport, checkModule } from '../../hsm/pkcs11/module-check.ts';
import { readPin } from '../../hsm/pkcs11/pin.ts';
import type { CommandAnswer } from './command-answer.ts';
import { openNew } from './new-file.ts';
import { readTypedPin } from './operator.ts';

export interface ModuleCheckOptions {
  readonly module?: string;
  readonly token: string;
  readonly pinFile?: string;
  readonly report?: string;
}

/** Checks a module, and says what was found; fails with `token-unavailable` where it lacks what the CA needs. */
export async function runModuleCheck(options: ModuleCheckOptions): Promise<CommandAnswer> {
  const { module, token, pinFile, report: file } = options;
  const pin =
    pinFile === undefined
      ? readTypedPin(`token ${token}`)
      : readPin({ from: 'file', file: resolve(pinFile) });
  // One attempt of few: none is wasted on an empty one.
  if (pin === '') throw new PkiError('bad-request', 'no PIN was given');
  // Before anything is tried: a place that cannot be written is found out now.
  const out = file === undefined ? undefined : openNew(file);
  const report = await checkModule(findModule(module), token, pin);
  if (out !== undefined) {
    writeSync(out, `${JSON.stringify(report, null, 2)}\n`);
    closeSync(out);
  }
  const missing = report.results.filter(({ passed, isNeeded }) => isNeeded && !passed);
  const answer = { lines: printed(report), value: report };
  if (missing.length === 0) return answer;
  const names = missing.map(({ name }) => name).join('; ');
  return {
    ...answer,
    failure: new PkiError('token-unavailable', `the module lacks what the CA needs: ${names}`),
  };
}

function printed({ library, token, results, perSecond }: CheckReport): string[] {
  return [
    `${library.manufacturer} ${library.description} ${library.version}, PKCS#11 ${library.cryptoki}; ${token.manufacturer} ${token.model} ${token.firmware}`,
    ...results.map(
      ({ name, passed, isNeeded, found, why }) =>
        `${passed ? 'ok      ' : isNeeded ? 'MISSING ' : 'lacking '} ${name}: ${found}${passed ? '' : ` (${why})`}`,
    ),
    ...Object.entries(perSecond).map(
      ([suite, rate]) => `speed    ${suite}: ${Math.round(rate)} a second in one session`,
    ),
  ];
}
