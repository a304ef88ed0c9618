import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { checkPublicKey, holderKeyTypes } from '../../ca/request/key.ts';
import { keyChecks } from '../../ca/request/key-checks/all.ts';
import { squareRoot } from '../../ca/request/key-checks/rsa-close-primes.ts';
import { DerReader } from '../../core/asn1/der-reader.ts';
import { tag } from '../../core/asn1/der-writer.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import { fileOf, fixture, removeScratch } from '../support/harness.ts';

afterAll(removeScratch);

/** Public keys with one defect each, named after it; test/fixtures/keys/make.mjs made them. */
const defects: Readonly<Record<string, RegExp>> = {
  'rsa-2047-bits': /not of 2048 bits/,
  'rsa-3072-bits': /not of 2048 bits/,
  'rsa-even': /is even/,
  'rsa-exponent-3': /exponent is not 65537/,
  'rsa-factor-751': /divisible by 751/,
  'rsa-factor-3': /divisible by 3$/,
  'rsa-roca': /CVE-2017-15361/,
  'rsa-close-primes': /CVE-2022-26320/,
  'rsa-close-primes-at-the-end-of-the-search': /CVE-2022-26320/,
  'rsa-prime': /is a prime/,
  'rsa-square-of-a-prime': /CVE-2022-26320|is a power/,
  'rsa-cube-of-a-prime': /is a power/,
  'rsa-eleventh-power-of-a-prime': /is a power/,
  'rsa-power-of-a-small-prime': /is a power/,
  'p384-off-curve': /not a point of its curve/,
  'p384-coordinate-beyond-the-field': /not of the field/,
  'p384-compressed': /not an uncompressed point/,
};

const keyOf = (name: string): Buffer => readFileSync(fixture(`keys/${name}.der`));

describe('a key with a known defect', () => {
  it('has a fixture for each defect, and each fixture a test', () => {
    const files = readdirSync(fixture('keys')).filter((name) => name.endsWith('.der'));
    expect(files.map((name) => name.slice(0, -'.der'.length)).sort()).toEqual(Object.keys(defects).sort());
  });

  it.each(Object.entries(defects))('is refused: %s', (name, message) => {
    expect(() => checkPublicKey(keyOf(name), holderKeyTypes)).toThrow(
      expect.objectContaining({ code: 'invalid-key', message: expect.stringMatching(message) }),
    );
  });

  it('on a list of keys that Debian made is refused, and only there (CVE-2008-0166)', () => {
    const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const spki = publicKey.export({ format: 'der', type: 'spki' });
    const modulus = Buffer.from(String(publicKey.export({ format: 'jwk' }).n), 'base64url');
    // As the scripts of openssl-blacklist make a line of it.
    const line = hex(digest('sha1', `Modulus=${hex(modulus).toUpperCase()}\n`)).slice(20);
    const list = fileOf(`# a list\n00000000000000000000\n${line}\n`);
    expect(() => checkPublicKey(spki, holderKeyTypes, keyChecks({ debianBlocklists: [list] }))).toThrow(
      /CVE-2008-0166/,
    );
    expect(
      checkPublicKey(
        spki,
        holderKeyTypes,
        keyChecks({ debianBlocklists: [fileOf('00000000000000000000\n')] }),
      ).type,
    ).toBe('rsa2048');
    expect(() => keyChecks({ debianBlocklists: [fileOf('not a list\n')] })).toThrow(
      /line 1 is not 20 hex digits/,
    );
  });
});

describe('good keys', () => {
  it('are accepted, of either type', () => {
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;
    const ec = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey;
    for (const key of [rsa, ec]) {
      const spki = key.export({ format: 'der', type: 'spki' });
      expect(checkPublicKey(spki, holderKeyTypes).keyHash).toHaveLength(32);
    }
  });

  it('of P-384 are points just where OpenSSL says so', () => {
    const spki = generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey.export({
      format: 'der',
      type: 'spki',
    });
    const accepts = (act: () => unknown): boolean => {
      try {
        act();
        return true;
      } catch {
        return false;
      }
    };
    fc.assert(
      fc.property(
        fc.integer({ min: spki.length - 96, max: spki.length - 1 }),
        fc.integer({ min: 0, max: 255 }),
        (at, by) => {
          const changed = Buffer.from(spki);
          changed[at] = (changed[at] ?? 0) ^ by;
          const ours = accepts(() => checkPublicKey(changed, holderKeyTypes));
          const theirs = accepts(() => createPublicKey({ key: changed, format: 'der', type: 'spki' }));
          expect(ours).toBe(theirs);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('a square root is the integer part of it, whatever the number', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 2100n }), (n) => {
        const root = squareRoot(n);
        expect(root * root <= n && (root + 1n) * (root + 1n) > n).toBe(true);
      }),
    );
  });
});

it('a hash of a key is of its material, whatever it is wrapped in', () => {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const spki = publicKey.export({ format: 'der', type: 'spki' });
  const info = new DerReader(spki).enter(tag.sequence);
  info.whole(tag.sequence);
  expect(checkPublicKey(spki, holderKeyTypes).keyHash).toEqual(digest('sha256', info.bitString()));
});
