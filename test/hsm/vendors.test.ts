import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pkcs11 from 'pkcs11js';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { suites } from '../../core/asn1/algorithms.ts';
import { octetString } from '../../core/asn1/der-writer.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { ThreadBackend } from '../../hsm/backend/thread-backend.ts';
import { findModule } from '../../hsm/pkcs11/find-module.ts';
import { KeySession } from '../../hsm/pkcs11/key-session.ts';
import { guardLogins, refusedPins } from '../../hsm/pkcs11/login-guard.ts';
import { healTokens, initializeToken, loadModule } from '../../hsm/pkcs11/module.ts';
import { ModuleLock } from '../../hsm/pkcs11/module-lock.ts';
import { useSoftHsmFolder } from '../../hsm/pkcs11/softhsm.ts';
import { Token, uncompressedPoint } from '../../hsm/pkcs11/token.ts';
import { SigningPool } from '../../hsm/pool/signing-pool.ts';
import { askOcsp, cardRequest, derOf, fetchCrl, makeChipKey, ocspRequest, pemOf } from '../support/actors.ts';
import {
  dataFolder,
  fixture,
  issueCard,
  ManualClock,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

// HSMs as vendors make them: SoftHSM behind test/fixtures/interposer.c, with the habits that others have.

const folder = scratch();
const faults = join(folder, 'faults');
const logins = join(folder, 'logins');
const interposer = join(folder, 'interposer.so');
const pin = 'correct-horse-1';

beforeAll(() => {
  const includes = new URL('../../node_modules/pkcs11js/includes/pkcs11', import.meta.url).pathname;
  execFileSync('cc', ['-shared', '-fPIC', '-o', interposer, fixture('interposer.c'), '-I', includes, '-ldl']);
  mkdirSync(faults);
  process.env.WARIFU_REAL_MODULE = findModule();
  process.env.WARIFU_FAULTS = faults;
  useSoftHsmFolder(join(folder, 'softhsm'));
});
afterEach(() => {
  for (const file of readdirSync(faults)) rmSync(join(faults, file));
});
afterAll(removeScratch);

const harm = (call: string, what = ''): void => writeFileSync(join(faults, call), what);
const count = (call: string): number => {
  const file = join(faults, `count.${call}`);
  return existsSync(file) ? statSync(file).size : 0;
};

function openToken(label: string): Token {
  const module = loadModule(interposer);
  initializeToken(module, label, pin);
  return Token.open(module, label, pin);
}

describe('an EC point', () => {
  it('is read bare and wrapped, distinguished by its length, and never in part (PKCS#11 v2.40 §2.3.3)', () => {
    for (const size of [32, 48]) {
      const bare = Buffer.alloc(1 + 2 * size, 7);
      bare[0] = 4;
      const wrapped = Buffer.from(octetString(bare));
      expect(uncompressedPoint(bare, size)).toEqual(bare);
      expect(Buffer.from(uncompressedPoint(wrapped, size))).toEqual(bare);
      expect(() => uncompressedPoint(Buffer.concat([wrapped, Buffer.of(0)]), size)).toThrow();
      expect(() => uncompressedPoint(bare.subarray(1), size)).toThrow();
      const compressed = Buffer.from(octetString(Buffer.concat([Buffer.of(2), bare.subarray(1, 1 + size)])));
      expect(() => uncompressedPoint(compressed, size)).toThrow(/form/);
    }
    // A bare point whose octets read as an OCTET STRING.
    const trap = Buffer.alloc(65, 1);
    trap.set([4, 63]);
    expect(uncompressedPoint(trap, 32)).toEqual(trap);
  });
});

describe('keys', () => {
  it('sign and do nothing else, and cannot be changed', () => {
    const token = openToken('attributes');
    token.generateKeyPair('rsa', suites['rsa2048-sha256']);
    token.generateKeyPair('ec', suites['p384-sha384']);
    token.generateWrappingKey('wrap');
    const library = new pkcs11.PKCS11();
    library.load(interposer);
    const slot = library
      .C_GetSlotList(true)
      .find((each) => library.C_GetTokenInfo(each).label.trim().startsWith('attributes'));
    if (!slot) throw new Error('no slot');
    const session = library.C_OpenSession(slot, pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION);
    const attribute = (label: string, keyClass: number, type: number): boolean => {
      library.C_FindObjectsInit(session, [
        { type: pkcs11.CKA_LABEL, value: label },
        { type: pkcs11.CKA_CLASS, value: keyClass },
      ]);
      const [key] = library.C_FindObjects(session, 1);
      library.C_FindObjectsFinal(session);
      if (!key) throw new Error(`no key ${label}`);
      const [found] = library.C_GetAttributeValue(session, key, [{ type }]);
      return Buffer.isBuffer(found?.value) && found.value[0] === 1;
    };
    for (const label of ['rsa', 'ec']) {
      const of = (type: number) => attribute(label, pkcs11.CKO_PRIVATE_KEY, type);
      expect([of(pkcs11.CKA_SIGN), of(pkcs11.CKA_SENSITIVE), of(pkcs11.CKA_PRIVATE)]).toEqual([
        true,
        true,
        true,
      ]);
      for (const type of [
        pkcs11.CKA_MODIFIABLE,
        pkcs11.CKA_DERIVE,
        pkcs11.CKA_DECRYPT,
        pkcs11.CKA_UNWRAP,
        pkcs11.CKA_EXTRACTABLE,
        pkcs11.CKA_SIGN_RECOVER,
      ])
        expect(of(type)).toBe(false);
    }
    const wrap = (type: number) => attribute('wrap', pkcs11.CKO_SECRET_KEY, type);
    for (const type of [
      pkcs11.CKA_MODIFIABLE,
      pkcs11.CKA_DERIVE,
      pkcs11.CKA_WRAP,
      pkcs11.CKA_UNWRAP,
      pkcs11.CKA_EXTRACTABLE,
      pkcs11.CKA_SIGN,
    ])
      expect(wrap(type)).toBe(false);
    library.C_CloseSession(session);
    token.close();
  });

  it('that are copied for each session are confined as the key is, and only they stay modifiable', () => {
    const token = openToken('copies');
    const suite = suites['p256-sha256'];
    expect(token.useOf(null)).toBe('copied');
    token.generateKeyPair('copied', suite, token.useOf(null));
    token.generateKeyPair('in place', suite, token.useOf(false));
    for (const keyLabel of ['copied', 'in place']) {
      const session = KeySession.open({
        module: interposer,
        tokenLabel: 'copies',
        keyLabel,
        suite: suite.name,
        copyKey: true,
      });
      expect(session.isCopy).toBe(keyLabel === 'copied');
      expect(session.sign(Buffer.from('x')).length).toBeGreaterThan(60);
      session.close();
    }
    token.close();
  });

  it('of another type than the suite’s are refused, not misread', () => {
    const token = openToken('types');
    token.generateKeyPair('k', suites['p256-sha256']);
    for (const other of ['rsa2048-sha256', 'p384-sha384'] as const)
      expect(() => token.findKeyPair('k', suites[other])).toThrow(/is none of/);
    token.close();
  });
});

describe('sessions', () => {
  it('stay as many through 5,000 heals, in the main thread and in those that sign', async () => {
    const token = openToken('heals');
    const module = loadModule(interposer);
    const suite = suites['p256-sha256'];
    const key = token.generateKeyPair('k', suite);
    const gate = new ModuleLock((depth) => healTokens(module, [[token]], depth), new ManualClock());
    const home = new ThreadBackend({ threads: 2, gate, callTimeoutMs: 10_000 });
    const pool = new SigningPool({ home, clock: systemClock, module: interposer });
    const signer = pool.signer({ purpose: 'ocsp', suite, tokenLabel: 'heals', key });
    const sessions = (): number => {
      const { lib } = module;
      const slot = lib
        .C_GetSlotList(true)
        .find((each) => lib.C_GetTokenInfo(each).label.trim().startsWith('heals'));
      if (!slot) throw new Error('no slot');
      return lib.C_GetTokenInfo(slot).sessionCount;
    };
    await Promise.all(Array.from({ length: 8 }, () => signer.sign(Buffer.from('x'))));
    const before = sessions();
    for (let i = 0; i < 5000; i++) token.heal('sessions');
    expect(sessions()).toBe(before);
    for (let i = 0; i < 20; i++) {
      home.resume('sessions');
      await Promise.all(Array.from({ length: 8 }, () => signer.sign(Buffer.from('x'))));
    }
    expect(sessions()).toBe(before);
    await pool.close();
    token.close();
  });
});

describe('a slot with a token that does not answer', () => {
  it('does not lock ours', async () => {
    const token = openToken('behind');
    const suite = suites['p256-sha256'];
    const key = token.generateKeyPair('k', suite);
    harm('foreign-slot');
    token.heal('sessions');
    const gate = new ModuleLock((depth) => depth, systemClock);
    const pool = new SigningPool({
      home: new ThreadBackend({ threads: 1, gate, callTimeoutMs: 5000 }),
      clock: systemClock,
      module: interposer,
    });
    const signer = pool.signer({ purpose: 'certificate', suite, tokenLabel: 'behind', key });
    expect((await signer.sign(Buffer.from('x'))).length).toBeGreaterThan(60);
    await pool.close();
    token.close();
  });
});

describe('a PIN that is refused', () => {
  it('is tried once, by no process again, and not before an operator has removed the note', () => {
    const own = join(scratch(), 'logins');
    guardLogins(own);
    const module = loadModule(interposer);
    initializeToken(module, 'locked', pin);
    for (let i = 0; i < 5; i++) expect(() => Token.open(module, 'locked', 'wrong')).toThrow(/locked/);
    // One by the security officer, who made the token.
    expect(count('C_Login')).toBe(2);
    expect(refusedPins(own)).toEqual(['locked']);
    // The right one is not tried either: it is not known that it is.
    expect(() => Token.open(module, 'locked', pin)).toThrow(
      /put the right one in place, then remove .*locked\.pin-refused/,
    );
    rmSync(join(own, 'locked.pin-refused'));
    Token.open(module, 'locked', pin).close();
    guardLogins(logins);
  });
});

describe('a service on such a module', () => {
  let test: TestService;

  const works = async (): Promise<boolean> => {
    const { status } = await test.api.post(
      '/card-certificates',
      cardRequest(
        { signing: await makeChipKey(), authentication: await makeChipKey() },
        { holderId: crypto.randomUUID(), cardId: crypto.randomUUID() },
      ),
    );
    return status === 201;
  };
  const answers = async (query: Uint8Array): Promise<boolean> =>
    (await askOcsp(test.service.addresses.ocsp, query)).length > 100;
  const within = async (ms: number, what: () => Promise<boolean>): Promise<boolean> => {
    for (const until = performance.now() + ms; performance.now() < until; ) {
      if (await what()) return true;
      await new Promise((done) => setTimeout(done, 100));
    }
    return false;
  };
  /** A request with a nonce: never answered from what is kept. */
  const query = async (): Promise<Uint8Array> => {
    const { card } = await issueCard(test.api);
    const ca = await fetchCrl(`${test.service.addresses.crl}/ca/signing-1.cer`);
    return ocspRequest(derOf(pemOf(card, 'card-signing')), ca, { nonce: Buffer.alloc(16, 1) });
  };

  it('with bare points does its ceremony, issues, answers, and begins a P-384 generation', async () => {
    harm('bare');
    const at = await dataFolder({ pkcs11: { module: interposer } });
    test = await startTestService({ folder: at });
    expect(await answers(await query())).toBe(true);
    await test.close();
    const main = new URL('../../ca/main.ts', import.meta.url).pathname;
    const output = execFileSync(
      process.execPath,
      [main, 'generation', '--suite', 'p384-sha384', '--data', at],
      { encoding: 'utf8' },
    );
    expect(output).toMatch(/signing-2 p384-sha384/);
    test = await startTestService({ folder: at });
    expect(await works()).toBe(true);
    await test.close();
  }, 60_000);

  it('signs again by itself where only initializing the module helps', async () => {
    test = await startTestService({ folder: await dataFolder({ pkcs11: { module: interposer } }) });
    const asked = await query();
    expect(await answers(asked)).toBe(true);
    harm('heal-on-finalize');
    harm('C_Sign', 'fail 48');
    expect(await within(15_000, () => answers(asked))).toBe(true);
    expect(await works()).toBe(true);
    expect(count('C_Finalize')).toBeGreaterThan(0);
    expect(count('C_Finalize')).toBeLessThan(5);
    await test.close();
  }, 60_000);

  it.each([160, 164])(
    'stops trying a PIN that the token refuses with %d, says so, and goes on when it is put right',
    async (code) => {
      const at = await dataFolder({ pkcs11: { module: interposer } });
      test = await startTestService({ folder: at });
      const asked = await query();
      expect(await answers(asked)).toBe(true);
      rmSync(join(faults, 'count.C_Login'), { force: true });
      harm('C_Login', `fail ${code}`);
      harm('C_SignInit', 'drop once');
      const until = performance.now() + 5000;
      while (performance.now() < until) {
        await Promise.all([answers(asked), works()]);
        await new Promise((done) => setTimeout(done, 100));
      }
      // One for each token: each has a PIN of its own.
      expect(count('C_Login')).toBeGreaterThan(0);
      expect(count('C_Login')).toBeLessThanOrEqual(2);
      expect(await within(10_000, async () => test.log().includes('ALARM: a token refused its PIN'))).toBe(
        true,
      );
      const health = await test.api.get<{ detail: string }>('/health');
      expect(health.status).toBe(503);
      rmSync(join(faults, 'C_Login'));
      for (const file of readdirSync(join(at, 'logins')).filter((name) => name.endsWith('.pin-refused'))) {
        expect(readFileSync(join(at, 'logins', file), 'utf8')).not.toMatch(/[0-9a-f]{32}/);
        rmSync(join(at, 'logins', file));
      }
      expect(await within(15_000, async () => (await answers(asked)) && works())).toBe(true);
      await test.close();
    },
    60_000,
  );
});
