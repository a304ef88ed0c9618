import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { suites, verifySignature } from '../../core/asn1/algorithms.ts';
import type { DigestSigner } from '../../core/crypto/signer.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { ProcessBackend } from '../../hsm/backend/process-backend.ts';
import { findModule } from '../../hsm/pkcs11/find-module.ts';
import { initializeToken, loadModule } from '../../hsm/pkcs11/module.ts';
import { useSoftHsmFolder } from '../../hsm/pkcs11/softhsm.ts';
import { Token, type TokenKey } from '../../hsm/pkcs11/token.ts';
import { SigningPool } from '../../hsm/pool/signing-pool.ts';
import { fixture, removeScratch, scratch } from '../support/harness.ts';

// Signing processes over a module that fails, hangs, crashes and drops sessions on command: SoftHSM behind
// test/fixtures/interposer.c.

const suite = suites['p256-sha256'];
const callTimeoutMs = 1500;
const folder = scratch();
const faults = join(folder, 'faults');
const tokens = join(folder, 'softhsm', 'tokens');
let interposer: string;
let key: TokenKey;
let home: ProcessBackend;
let pool: SigningPool;
let signer: DigestSigner<'certificate'>;
const ended: string[] = [];

/** A copy of a SoftHSM token under another label of the same length, as a vendor's cloning makes it. */
function copyToken(label: string, copy: string): void {
  const [original] = readdirSync(tokens).filter((name) =>
    readFileSync(join(tokens, name, 'token.object')).includes(label),
  );
  const to = join(tokens, `${copy}-0000-0000-0000-000000000000`);
  cpSync(join(tokens, original ?? ''), to, { recursive: true });
  const file = join(to, 'token.object');
  const serial = /[0-9a-f]{16}/.exec(readFileSync(file, 'latin1'))?.[0] ?? '';
  const text = readFileSync(file, 'latin1').replace(label, copy).replace(serial, '00000000c0b1e5a7');
  writeFileSync(file, Buffer.from(text, 'latin1'));
}

function harm(call: string, what: string): void {
  writeFileSync(join(faults, call), what);
}

async function signSome(count: number): Promise<void> {
  const messages = Array.from({ length: count }, (_, i) => Buffer.from(`message ${i}`));
  const signatures = await Promise.all(messages.map((message) => signer.sign(message)));
  for (const [i, message] of messages.entries())
    expect(verifySignature(suite, key.publicKey, message, signatures[i] ?? new Uint8Array())).toBe(true);
}

beforeAll(async () => {
  interposer = join(folder, 'interposer.so');
  const includes = new URL('../../node_modules/pkcs11js/includes/pkcs11', import.meta.url).pathname;
  execFileSync('cc', ['-shared', '-fPIC', '-o', interposer, fixture('interposer.c'), '-I', includes, '-ldl']);
  mkdirSync(faults);
  useSoftHsmFolder(join(folder, 'softhsm'));
  const module = loadModule(findModule());
  const pin = 'correct-horse-1';
  writeFileSync(join(folder, 'pin'), `${pin}\n`, { mode: 0o600 });
  initializeToken(module, 'first-token', pin);
  const token = Token.open(module, 'first-token', pin);
  key = token.generateKeyPair('k', suite);
  token.generateWrappingKey('w');
  token.close();
  copyToken('first-token', 'other-token');
  process.env.WARIFU_REAL_MODULE = findModule();
  process.env.WARIFU_FAULTS = faults;
  home = openHome();
  pool = new SigningPool({ home, clock: systemClock, module: interposer });
  const options = { purpose: 'certificate', suite, key } as const;
  signer = pool.signer({ ...options, tokenLabel: 'first-token', copies: ['other-token'] });
  await signSome(4);
});

function openHome(): ProcessBackend {
  const pin = { from: 'file', file: join(folder, 'pin') } as const;
  return new ProcessBackend({
    processes: 2,
    start: {
      module: interposer,
      softhsmFolder: join(folder, 'softhsm'),
      loginFolder: join(folder, 'logins'),
      tokens: ['first-token', 'other-token'].map((label) => ({ label, pin })),
    },
    callTimeoutMs,
    clock: systemClock,
    ended: ({ why }) => ended.push(why),
  });
}

afterEach(() => {
  for (const file of readdirSync(faults)) rmSync(join(faults, file));
});

afterAll(async () => {
  await pool.close();
  removeScratch();
});

const calls = [
  'C_GetInfo',
  'C_GetSlotList',
  'C_GetTokenInfo',
  'C_OpenSession',
  'C_CloseSession',
  'C_Login',
  'C_FindObjectsInit',
  'C_FindObjects',
  'C_FindObjectsFinal',
  'C_CopyObject',
  'C_SignInit',
  'C_Sign',
];
/** PKCS#11 v2.40 §5: CKR_ codes of a token and its sessions that are gone, one way or the other. */
const failures = {
  CKR_GENERAL_ERROR: 0x05,
  CKR_DEVICE_ERROR: 0x30,
  CKR_DEVICE_REMOVED: 0x32,
  CKR_OBJECT_HANDLE_INVALID: 0x82,
  CKR_SESSION_HANDLE_INVALID: 0xb3,
  CKR_TOKEN_NOT_PRESENT: 0xe0,
  CKR_USER_NOT_LOGGED_IN: 0x101,
};

describe('signing goes on', () => {
  it.each(calls)('where %s fails, whatever it says', async (call) => {
    for (const code of Object.values(failures)) {
      // With its sessions gone, everything is called that makes new ones.
      harm('C_SignInit', 'drop once');
      if (call !== 'C_SignInit') harm(call, `fail ${code} once`);
      await signSome(2);
      if (call === 'C_SignInit') harm(call, `fail ${code} once`);
      await signSome(2);
    }
  });

  it.each(['C_OpenSession', 'C_Login', 'C_FindObjects', 'C_SignInit', 'C_Sign'])(
    'where the module crashes in %s',
    async (call) => {
      const before = home.restarts;
      harm('C_SignInit', 'drop once');
      if (call !== 'C_SignInit') await signSome(1);
      harm(call, 'crash once');
      harm('C_FindObjectsFinal', 'drop once');
      await signSome(40);
      if (['C_SignInit', 'C_Sign'].includes(call)) expect(home.restarts).toBeGreaterThan(before);
    },
  );

  it.each(['C_SignInit', 'C_Sign'])('where %s never returns: its process is killed', async (call) => {
    ended.length = 0;
    harm(call, 'hang once');
    const startMs = performance.now();
    await signSome(40);
    expect(performance.now() - startMs).toBeLessThan(callTimeoutMs * 4);
    expect(ended).toEqual([`gave no answer within ${callTimeoutMs} ms and was killed`]);
  });

  it('with the copy of a token that goes away in the middle of it', async () => {
    const away = join(folder, 'away');
    const [name = ''] = readdirSync(tokens).filter((candidate) => candidate.startsWith('other-token'));
    const signing = signSome(400);
    renameSync(join(tokens, name), away);
    harm('C_SignInit', 'drop once');
    await signing;
    await signSome(50);
    renameSync(away, join(tokens, name));
    await signSome(50);
  });

  it('and what a token does besides is done again, too', async () => {
    const token = home.token('first-token');
    const wrapper = token.keyWrapper('w');
    harm('C_EncryptInit', `fail ${failures.CKR_SESSION_HANDLE_INVALID} once`);
    const wrapped = await wrapper.wrap('context', Buffer.from('secret'));
    harm('C_DecryptInit', 'crash once');
    expect(Buffer.from(await wrapper.unwrap('context', wrapped)).toString()).toBe('secret');
    harm('C_CreateObject', 'hang once');
    await token.memory().remember('x', 7);
    expect(await token.memory().recall('x')).toBe(7);
    expect((await token.findKeyPair('k', suite)).publicKey).toEqual(Buffer.from(key.publicKey));
  });
});

describe('what cannot be signed', () => {
  it('is token-unavailable, says why, and is signed again when the token is back', async () => {
    harm('C_Sign', `fail ${failures.CKR_DEVICE_ERROR}`);
    await expect(signer.sign(Buffer.from('x'))).rejects.toMatchObject({
      code: 'token-unavailable',
      message: expect.stringContaining('CKR_DEVICE_ERROR'),
    });
    expect(pool.states()).toContainEqual({ label: 'first-token', up: false, error: 'CKR_DEVICE_ERROR' });
    rmSync(join(faults, 'C_Sign'));
    await signSome(8);
    expect(pool.states().some(({ up }) => up)).toBe(true);
  });

  it('is no signature that does not verify: a wrong one is made again, and never given out', async () => {
    harm('C_Sign', 'corrupt once');
    await signSome(4);
    harm('C_Sign', 'corrupt');
    await expect(signer.sign(Buffer.from('x'))).rejects.toMatchObject({ code: 'token-unavailable' });
  });
});

it('no message to a signing process, and no argument or variable of one, holds a PIN', () => {
  const own = readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'latin1').includes('signing-process.ts');
    } catch (error) {
      // It ended meanwhile.
      return (error as NodeJS.ErrnoException).code === undefined;
    }
  });
  expect(own.length).toBeGreaterThan(0);
  for (const pid of own) {
    for (const file of ['cmdline', 'environ'])
      expect(readFileSync(`/proc/${pid}/${file}`, 'latin1')).not.toContain('correct-horse-1');
  }
});
