import { closeSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import { PkiError } from '../../core/runtime/errors.ts';
import { findModule } from '../../hsm/pkcs11/find-module.ts';
import { type CheckReport, checkModule } from '../../hsm/pkcs11/module-check.ts';
import { readPin } from '../../hsm/pkcs11/pin.ts';
import { openNew } from './new-file.ts';
import { readTypedPin } from './operator.ts';

export interface ModuleCheckOptions {
  readonly module?: string;
  readonly token: string;
  readonly pinFile?: string;
  readonly report?: string;
  readonly json: boolean;
}

/** Checks a module, and prints what was found. Throws `token-unavailable` where it lacks what the CA needs. */
export async function runModuleCheck(options: ModuleCheckOptions): Promise<void> {
  const { module, token, pinFile, report: file, json } = options;
  const pin =
    pinFile === undefined
      ? readTypedPin(`token ${token}`)
      : readPin({ from: 'file', file: resolve(pinFile) });
  // One attempt of few: none is wasted on an empty one.
  if (pin === '') throw new PkiError('bad-request', 'no PIN was given');
  // Before anything is tried: a place that cannot be written is found out now.
  const out = file === undefined ? undefined : openNew(file);
  const report = await checkModule(findModule(module), token, pin);
  const text = `${JSON.stringify(report, null, 2)}\n`;
  if (out !== undefined) {
    writeSync(out, text);
    closeSync(out);
  }
  process.stdout.write(json ? text : printed(report));
  const missing = report.results.filter(({ passed, isNeeded }) => isNeeded && !passed);
  if (missing.length > 0)
    throw new PkiError(
      'token-unavailable',
      `the module lacks what the CA needs: ${missing.map(({ name }) => name).join('; ')}`,
    );
}

function printed({ library, token, results, perSecond }: CheckReport): string {
  const lines = [
    `${library.manufacturer} ${library.description} ${library.version}, PKCS#11 ${library.cryptoki}; ${token.manufacturer} ${token.model} ${token.firmware}`,
    ...results.map(
      ({ name, passed, isNeeded, found, why }) =>
        `${passed ? 'ok      ' : isNeeded ? 'MISSING ' : 'lacking '} ${name}: ${found}${passed ? '' : ` (${why})`}`,
    ),
    ...Object.entries(perSecond).map(
      ([suite, rate]) => `speed    ${suite}: ${Math.round(rate)} a second in one session`,
    ),
  ];
  return lines.map((line) => `${line}\n`).join('');
}
