import { execFileSync } from 'node:child_process';
import * as pkijs from 'pkijs';
import { afterAll, describe, expect, it } from 'vitest';
import { parseCertificationRequest } from '../../ca/request/certification-request.ts';
import { exact, makeChipKey } from '../support/actors.ts';
import { fileOf, fixture, removeScratch } from '../support/harness.ts';

afterAll(removeScratch);

const parse = (der: Uint8Array) => parseCertificationRequest(der, 'requests.signing');

function opensslRequest(key: string, ...args: string[]): Buffer {
  return execFileSync('openssl', ['req', '-new', '-key', key, '-subj', '/CN=x', '-outform', 'DER', ...args]);
}

function opensslKey(...args: string[]): string {
  return fileOf(execFileSync('openssl', ['genpkey', ...args], { stdio: ['ignore', 'pipe', 'ignore'] }));
}

describe('a PKCS#10 request', () => {
  it('from openssl, and from @peculiar/x509, gives its key as pkijs reads it', async () => {
    for (const der of [opensslRequest(fixture('holder.key')), (await makeChipKey()).request]) {
      const oracle = pkijs.CertificationRequest.fromBER(exact(der));
      const spki = Buffer.from(oracle.subjectPublicKeyInfo.toSchema().toBER());
      expect(Buffer.from(parse(der).publicKey)).toEqual(spki);
    }
  });

  it('for P-384 is read where the profile wants one', () => {
    expect(parse(opensslRequest(fixture('p384.key'), '-sha384'))).toMatchObject({ type: 'p384' });
  });

  it('is refused when its signature fails (RFC 2986 §4.2)', () => {
    const der = opensslRequest(fixture('holder.key'));
    der[der.length - 1] = (der.at(-1) ?? 0) ^ 1;
    expect(() => parse(der)).toThrow(expect.objectContaining({ code: 'invalid-proof-of-possession' }));
  });

  it('is refused when signed with another hash than the profile’s', () => {
    const der = opensslRequest(fixture('holder.key'), '-sha512');
    expect(() => parse(der)).toThrow(expect.objectContaining({ code: 'invalid-proof-of-possession' }));
  });

  it.each([
    [
      'an RSA key of 3072 bits',
      () => opensslKey('-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:3072'),
      '2048 bits',
    ],
    [
      'an RSA key with e = 3',
      () =>
        opensslKey(
          '-algorithm',
          'RSA',
          '-pkeyopt',
          'rsa_keygen_bits:2048',
          '-pkeyopt',
          'rsa_keygen_pubexp:3',
        ),
      '65537',
    ],
    ['a key on a curve', () => fixture('p256.key'), 'none of rsa2048, p384'],
  ])('is refused for %s', (_what, key, message) => {
    expect(() => parse(opensslRequest(key()))).toThrow(
      expect.objectContaining({ code: 'invalid-key', message: expect.stringContaining(message) }),
    );
  });

  it('is refused with octets behind it, cut short, or when it is something else', () => {
    const der = opensslRequest(fixture('holder.key'));
    for (const bad of [
      Buffer.concat([der, Buffer.from([0])]),
      der.subarray(0, -1),
      Buffer.from('hello'),
      Buffer.alloc(0),
    ]) {
      expect(() => parse(bad)).toThrow(
        expect.objectContaining({
          code: 'bad-request',
          message: expect.stringContaining('requests.signing'),
        }),
      );
    }
  });
});
