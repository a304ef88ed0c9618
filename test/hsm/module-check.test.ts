import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import graphene from 'graphene-pk11';
import { afterAll, describe, expect, it } from 'vitest';
import { suites } from '../../core/asn1/algorithms.ts';
import { findModule } from '../../hsm/pkcs11/find-module.ts';
import { findSlot, initializeToken, loadModule } from '../../hsm/pkcs11/module.ts';
import { checkModule } from '../../hsm/pkcs11/module-check.ts';
import { useSoftHsmFolder } from '../../hsm/pkcs11/softhsm.ts';
import { Token } from '../../hsm/pkcs11/token.ts';
import { removeScratch, runWarifu, scratch } from '../support/harness.ts';

afterAll(removeScratch);

const pin = 'a-pin-that-is-said-nowhere';

function newToken(label: string): { module: string; folder: string } {
  const folder = scratch();
  useSoftHsmFolder(join(folder, 'softhsm'));
  const module = findModule(undefined);
  initializeToken(loadModule(module), label, pin);
  return { module, folder };
}

const labelsIn = (module: string, label: string): string[] => {
  const session = findSlot(loadModule(module), label)?.open(graphene.SessionFlag.SERIAL_SESSION);
  session?.login(pin, graphene.UserType.USER);
  const found = session?.find();
  const labels = Array.from({ length: found?.length ?? 0 }, (_, i) =>
    String(found?.items(i).getAttribute({ label: null }).label),
  );
  session?.close();
  return labels;
};

describe('the check of a PKCS#11 module', () => {
  it('finds that SoftHSM does what the CA needs, and leaves the token as it was, also after a check that was killed', async () => {
    const { module, folder } = newToken('to-check');
    // As a check leaves it that is killed.
    const own = Token.open(loadModule(module), 'to-check', pin);
    own.generateKeyPair('warifu-check-p256-sha256', suites['p256-sha256']);
    own.close();
    const report = await checkModule(module, 'to-check', pin);
    expect(report.results.filter(({ passed }) => !passed)).toEqual([]);
    expect(report.library.manufacturer).toContain('SoftHSM');
    expect(Object.keys(report.perSecond)).toEqual(['rsa2048-sha256', 'p256-sha256', 'p384-sha384']);
    for (const rate of Object.values(report.perSecond)) expect(rate).toBeGreaterThan(10);
    expect(labelsIn(module, 'to-check')).toEqual([]);

    const pinFile = join(folder, 'pin');
    writeFileSync(pinFile, pin, { mode: 0o600 });
    const file = join(folder, 'report.json');
    const asked = ['hsm', 'check', '--token', 'to-check', '--pin-file', pinFile];
    const run = await runWarifu(...asked, '--report', file);
    expect(run).toMatchObject({ code: 0, output: expect.stringContaining('ok       AES-256-GCM') });
    expect(JSON.parse(readFileSync(file, 'utf8')).results).toHaveLength(report.results.length);
    expect(run.output + readFileSync(file, 'utf8')).not.toContain(pin);
  }, 30_000);

  it('refuses a token that holds anything, and touches nothing on it', async () => {
    const { module } = newToken('in-use');
    const own = Token.open(loadModule(module), 'in-use', pin);
    own.generateKeyPair('kept', suites['p256-sha256']);
    await expect(checkModule(module, 'in-use', pin)).rejects.toThrow(/holds 2 objects: make an empty one/);
    expect(own.hasKeyPair('kept')).toBe(true);
    own.close();
    expect(labelsIn(module, 'in-use')).toEqual(['kept', 'kept']);
  });

  it('says what a module cannot do, and which of it the CA needs', async () => {
    const { module } = newToken('short-of');
    const real = loadModule(module);
    const { C_OpenSession, C_CloseSession, C_EncryptInit } = real.lib;
    let sessions = 0;
    try {
      // A module with few sessions, and without AES-GCM.
      real.lib.C_OpenSession = function open(...given) {
        if (sessions === 20) throw new Error('CKR_SESSION_COUNT:177');
        sessions += 1;
        return C_OpenSession.apply(this, given);
      };
      real.lib.C_CloseSession = function close(...given) {
        sessions -= 1;
        return C_CloseSession.apply(this, given);
      };
      real.lib.C_EncryptInit = () => {
        throw new Error('CKR_MECHANISM_INVALID:112');
      };
      const { results } = await checkModule(module, 'short-of', pin);
      const failed = results.filter(({ passed }) => !passed);
      expect(failed.map(({ name, isNeeded }) => [name, isNeeded])).toEqual([
        ['AES-256-GCM', true],
        ['64 sessions at once', false],
      ]);
      expect(failed[0]?.found).toContain('CKR_MECHANISM_INVALID');
    } finally {
      Object.assign(real.lib, { C_OpenSession, C_CloseSession, C_EncryptInit });
    }
  }, 30_000);

  it('refuses a token that is not there, and a wrong PIN, and names no PIN', async () => {
    const { module, folder } = newToken('there');
    await expect(checkModule(module, 'not-there', pin)).rejects.toThrow(/no token labelled not-there/);
    writeFileSync(join(folder, 'pin'), 'wrong-one', { mode: 0o600 });
    const run = await runWarifu('hsm', 'check', '--token', 'there', '--pin-file', join(folder, 'pin'));
    expect(run.code).toBe(1);
    expect(run.output).toContain('CKR_PIN_INCORRECT');
    expect(run.output).not.toContain('wrong-one');
  });
});
