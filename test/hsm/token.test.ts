import { createPublicKey, verify } from 'node:crypto';
import { join } from 'node:path';
import pkcs11 from 'pkcs11js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { suites, verifySignature } from '../../core/asn1/algorithms.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { ThreadBackend } from '../../hsm/backend/thread-backend.ts';
import { findModule } from '../../hsm/pkcs11/find-module.ts';
import { initializeToken, loadModule } from '../../hsm/pkcs11/module.ts';
import { ModuleLock } from '../../hsm/pkcs11/module-lock.ts';
import { useSoftHsmFolder } from '../../hsm/pkcs11/softhsm.ts';
import { Token } from '../../hsm/pkcs11/token.ts';
import { SigningPool } from '../../hsm/pool/signing-pool.ts';
import { softwareSigner } from '../../hsm/pool/software-signer.ts';
import { fixtureKey, removeScratch, scratch } from '../support/harness.ts';

const pin = 'correct-horse-1';
let pool: SigningPool;
let token: Token;

beforeAll(() => {
  useSoftHsmFolder(join(scratch(), 'softhsm'));
  const path = findModule();
  const module = loadModule(path);
  initializeToken(module, 'test', pin);
  token = Token.open(module, 'test', pin);
  const gate = new ModuleLock((depth) => depth, systemClock);
  const home = new ThreadBackend({ threads: 2, gate, callTimeoutMs: 10_000 });
  pool = new SigningPool({ home, clock: systemClock, module: path });
});

afterAll(async () => {
  await pool.close();
  token.close();
  removeScratch();
});

/** As a process that is killed between the two halves leaves it. */
function removePrivateHalf(label: string): void {
  const { lib } = loadModule(findModule());
  const slot = lib
    .C_GetSlotList(true)
    .find((each) => lib.C_GetTokenInfo(each).label.trim() === 'test') as Buffer;
  const session = lib.C_OpenSession(slot, pkcs11.CKF_RW_SESSION | pkcs11.CKF_SERIAL_SESSION);
  const template = [
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PRIVATE_KEY },
    { type: pkcs11.CKA_LABEL, value: label },
  ];
  lib.C_FindObjectsInit(session, template);
  const [half] = lib.C_FindObjects(session, 1);
  lib.C_FindObjectsFinal(session);
  lib.C_DestroyObject(session, half as Buffer);
  lib.C_CloseSession(session);
}

describe('a token', () => {
  it.each(Object.values(suites))(
    'generates $name keys that sign, verify, and cannot leave it',
    async (suite) => {
      const key = token.generateKeyPair(`key-${suite.name}`, suite);
      expect(token.isExtractable(key.label)).toBe(false);
      expect(token.findKeyPair(key.label, suite)).toEqual(key);
      const signer = pool.signer({ purpose: 'certificate', suite, tokenLabel: 'test', key });
      const messages = Array.from({ length: 100 }, (_, i) => Buffer.from(`message ${i}`.repeat(i + 1)));
      const signatures = await Promise.all(messages.map((message) => signer.sign(message)));
      const publicKey = createPublicKey({ key: Buffer.from(key.publicKey), format: 'der', type: 'spki' });
      for (const [i, message] of messages.entries()) {
        const signature = signatures[i] ?? Buffer.alloc(0);
        expect(verify(suite.hash, message, publicKey, signature)).toBe(true);
        expect(verifySignature(suite, key.publicKey, message, signature)).toBe(true);
        expect(verifySignature(suite, key.publicKey, Buffer.from('another'), signature)).toBe(false);
      }
    },
  );

  it('refuses a second key of the same label', () => {
    expect(() => token.generateKeyPair('key-p256-sha256', suites['p256-sha256'])).toThrow(/exists already/);
  });

  it('makes a pair where a process died in the middle of making one, and left half of it', () => {
    const suite = suites['p256-sha256'];
    const before = token.generateKeyPair('interrupted', suite);
    removePrivateHalf('interrupted');
    expect(token.hasKeyPair('interrupted')).toBe(false);
    expect(() => token.findKeyPair('interrupted', suite)).toThrow(/has no key interrupted/);
    const after = token.generateKeyPair('interrupted', suite);
    expect(after.publicKey).not.toEqual(before.publicKey);
    expect(token.findKeyPair('interrupted', suite)).toEqual(after);
  });

  it('wraps and unwraps secrets, for their context only', async () => {
    token.generateWrappingKey('wrap');
    const wrapper = token.keyWrapper('wrap');
    const secret = Buffer.from('sixteen octets!!');
    const wrapped = await wrapper.wrap('epoch:1', secret);
    expect(Buffer.from(wrapped).includes(secret)).toBe(false);
    expect(Buffer.from(await wrapper.unwrap('epoch:1', wrapped))).toEqual(secret);
    await expect(wrapper.unwrap('epoch:2', wrapped)).rejects.toMatchObject({ code: 'token-unavailable' });
    const altered = Uint8Array.from(wrapped);
    altered[20] = (altered[20] ?? 0) ^ 1;
    await expect(wrapper.unwrap('epoch:1', altered)).rejects.toMatchObject({ code: 'token-unavailable' });
  });

  it('remembers numbers that only rise', async () => {
    const memory = token.memory();
    expect(await memory.recall('x')).toBe(0);
    await memory.remember('x', 5);
    await memory.remember('x', 3);
    expect(await memory.recall('x')).toBe(5);
    await memory.remember('x', 2 ** 45);
    expect(await memory.recall('x')).toBe(2 ** 45);
    expect(await memory.recall('y')).toBe(0);
  });

  it('that does not exist, or whose PIN is wrong, is unavailable, and the PIN is not shown', () => {
    const module = loadModule(findModule());
    expect(() => Token.open(module, 'nowhere', pin)).toThrow(/no token labelled nowhere/);
    initializeToken(module, 'other', 'its-own-pin-2');
    try {
      Token.open(module, 'other', 'a-wrong-pin-3');
      expect.unreachable();
    } catch (error) {
      expect(error).toMatchObject({ code: 'token-unavailable' });
      expect(String((error as Error).message)).toContain('CKR_PIN_INCORRECT');
      expect(String((error as Error).stack)).not.toContain('a-wrong-pin-3');
    }
  });
});

describe('the signing pool', () => {
  it('says token-unavailable where the key is missing', async () => {
    const key = { label: 'missing', publicKey: new Uint8Array() };
    const signer = pool.signer({ purpose: 'ocsp', suite: suites['p256-sha256'], tokenLabel: 'test', key });
    await expect(signer.sign(Buffer.from('x'))).rejects.toMatchObject({ code: 'token-unavailable' });
  });

  it('says overloaded beyond its bound, and answers all it took', async () => {
    const suite = suites['p256-sha256'];
    const key = token.findKeyPair('key-p256-sha256', suite);
    const signer = pool.signer({ purpose: 'ocsp', suite, tokenLabel: 'test', key });
    const results = await Promise.allSettled(
      Array.from({ length: 3000 }, () => signer.sign(Buffer.from('x'))),
    );
    const refused = results.filter(({ status }) => status === 'rejected');
    expect(refused).toHaveLength(3000 - 2048);
    for (const result of refused)
      expect((result as PromiseRejectedResult).reason).toMatchObject({ code: 'overloaded' });
  });

  it('stops waiting when asked to', async () => {
    const suite = suites['p256-sha256'];
    const key = token.findKeyPair('key-p256-sha256', suite);
    const signer = pool.signer({ purpose: 'ocsp', suite, tokenLabel: 'test', key });
    const reason = new Error('no longer wanted');
    await expect(signer.sign(Buffer.from('x'), AbortSignal.abort(reason))).rejects.toBe(reason);
  });
});

it('a software signer signs as a token does', async () => {
  for (const [name, file] of [
    ['rsa2048-sha256', 'authority'],
    ['p256-sha256', 'p256'],
    ['p384-sha384', 'p384'],
  ] as const) {
    const signer = softwareSigner({ purpose: 'crl', suite: suites[name], privateKey: fixtureKey(file) });
    const signature = await signer.sign(Buffer.from('message'));
    expect(verifySignature(signer.suite, signer.publicKey, Buffer.from('message'), signature)).toBe(true);
  }
});
