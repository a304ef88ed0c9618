import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, it } from 'vitest';
import { removeScratch, scratch } from './support/harness.ts';

afterAll(removeScratch);

it('npm run demo tells its story, leaves its artefacts, and ends with 0', async () => {
  const out = join(scratch(), 'out');
  const demo = new URL('../bench/demo/demo.ts', import.meta.url).pathname;
  const { stdout } = await promisify(execFile)(process.execPath, [demo, '--out', out]);
  expect(stdout.match(/OCSP says good/g)).toHaveLength(4);
  expect(stdout.match(/OCSP says revoked/g)).toHaveLength(4);
  expect(stdout.match(/the CRL lists/g)).toHaveLength(4);
  const kinds = ['card-signing', 'card-authentication', 'phone-signing', 'phone-authentication'];
  const files = kinds.flatMap((kind) => [
    `${kind}.pem`,
    `${kind}.crl`,
    `good-${kind}.ocsp`,
    `revoked-${kind}.ocsp`,
  ]);
  expect(readdirSync(out).sort()).toEqual([...files, 'signing-ca.pem', 'authentication-ca.pem'].sort());
});
