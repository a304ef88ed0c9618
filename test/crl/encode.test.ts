import { execFileSync } from 'node:child_process';
import * as asn1js from 'asn1js';
import fc from 'fast-check';
import * as pkijs from 'pkijs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { subjectPublicKeyBits, suites } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { parseCrl } from '../../core/asn1/crl-reader.ts';
import { DerError } from '../../core/asn1/der-reader.ts';
import { sequence, unsignedInteger } from '../../core/asn1/der-writer.ts';
import { authorityKey, keyIdentifier } from '../../core/asn1/extension.ts';
import { encodeName } from '../../core/asn1/name.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { type CrlFields, encodeCrlEntry, encodeRemoval, prepareCrl } from '../../crl/encode/encode.ts';
import { entriesOf } from '../../crl/encode/entries.ts';
import { deltaPointName } from '../../crl/encode/names.ts';
import { softwareSigner } from '../../hsm/pool/software-signer.ts';
import { exact } from '../support/actors.ts';
import { fileOf, fixtureKey, openssl, removeScratch } from '../support/harness.ts';
import { authorityCertificate, pointOf } from '../support/press.ts';

let certificate: Bytes;
let fields: CrlFields;
const signer = softwareSigner({
  purpose: 'crl',
  suite: suites['rsa2048-sha256'],
  privateKey: fixtureKey('authority'),
});
const point = pointOf('card-signing/1/13113/0');

beforeAll(async () => {
  certificate = await authorityCertificate(1);
  const { subject, serial, publicKey } = parseCertificate(certificate);
  fields = {
    suite: signer.suite,
    issuer: subject,
    reference: {
      subject,
      serialNumber: unsignedInteger(serial),
      subjectKeyIdentifier: keyIdentifier(subjectPublicKeyBits(publicKey)),
    },
    thisUpdateMs: Date.UTC(2026, 10, 21),
    nextUpdateMs: Date.UTC(2026, 10, 23),
    number: 1_795_219_200_000,
    baseNumber: null,
    distributionPointName: point,
    scope: 'onlyContainsUserCerts',
    freshest: deltaPointName(point),
  };
});
afterAll(removeScratch);

const seal = async (over: Partial<CrlFields>, ...entries: Bytes[]): Promise<Bytes> => {
  const prepared = prepareCrl({ ...fields, ...over }, entries);
  return prepared.seal(await signer.sign(prepared.toBeSigned));
};

const entries = [
  encodeCrlEntry({
    serial: Uint8Array.of(0x80, 1),
    revokedMs: Date.UTC(2025, 5, 1),
    reason: 'keyCompromise',
    invalidityMs: Date.UTC(2025, 4, 1),
  }),
  encodeCrlEntry({
    serial: Uint8Array.of(5),
    revokedMs: Date.UTC(2050, 5, 1),
    reason: null,
    invalidityMs: null,
  }),
  encodeCrlEntry({
    serial: Uint8Array.of(1, 2, 3),
    revokedMs: Date.UTC(2026, 5, 1),
    reason: 'certificateHold',
    invalidityMs: null,
  }),
];

const certtool = (crl: Bytes): string =>
  execFileSync('certtool', ['--crl-info', '--inder', '--infile', fileOf(crl)], { encoding: 'utf8' });
const opensslCrl = (crl: Bytes): string => {
  const ca = fileOf(openssl('x509', '-inform', 'DER', '-in', fileOf(certificate)));
  return openssl('crl', '-inform', 'DER', '-in', fileOf(crl), '-CAfile', ca, '-noout', '-text');
};

describe('a complete CRL (RFC 5280 §5)', () => {
  it('is what pkijs writes again octet for octet, and our reader reads', async () => {
    const der = await seal({}, ...entries);
    const parsed = pkijs.CertificateRevocationList.fromBER(exact(der));
    expect(Buffer.from(parsed.toSchema(true).toBER())).toEqual(Buffer.from(der));
    expect(parseCrl(der)).toMatchObject({
      number: 1_795_219_200_000,
      baseNumber: null,
      thisUpdateMs: Date.UTC(2026, 10, 21),
      nextUpdateMs: Date.UTC(2026, 10, 23),
    });
    expect(entriesOf(parseCrl(der).entries)).toEqual(entries.map((entry) => new Uint8Array(entry)));
    expect(Buffer.from(parseCrl(der).authorityKey)).toEqual(Buffer.from(authorityKey(fields.reference)));
  });

  it('is read and verified by openssl, with its reasons, dates, distribution point and delta address', async () => {
    const said = opensslCrl(await seal({}, ...entries));
    for (const text of [
      'verify OK',
      'Key Compromise',
      'Certificate Hold',
      'Invalidity Date',
      'X509v3 Issuing Distribution Point: critical',
      'Only User Certificates',
      'URI:http://crl.example/crl/card-signing/1/13113/0.crl',
      'X509v3 Freshest CRL',
      'URI:http://crl.example/crl/card-signing/1/13113/0-delta.crl',
    ])
      expect(said).toContain(text);
  });

  it('is read by GnuTLS', async () => {
    const said = certtool(await seal({}, ...entries));
    expect(said).toContain('Revoked certificates (3)');
    expect(said).toContain('Serial Number (hex): 008001');
    expect(said).toContain('Signature Algorithm: RSA-SHA256');
  });

  it('leaves out the list where it is empty (§5.1.2.6), and unspecified as a reason (§5.3.1)', async () => {
    const der = await seal({});
    expect(pkijs.CertificateRevocationList.fromBER(exact(der)).revokedCertificates).toBeUndefined();
    expect(parseCrl(der).entries).toHaveLength(0);
    const plain = { serial: Uint8Array.of(5), revokedMs: 0, invalidityMs: null };
    expect(encodeCrlEntry({ ...plain, reason: 'unspecified' })).toEqual(
      encodeCrlEntry({ ...plain, reason: null }),
    );
  });

  it('says so where it is of CA certificates', async () => {
    expect(opensslCrl(await seal({ scope: 'onlyContainsCACerts' }))).toContain('Only CA Certificates');
  });

  // Around 128, 256 and 65,536 octets, where lengths get longer; pkijs reads no more than 10,000 values.
  it('is well formed whatever its length, by pkijs', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(fc.integer({ min: 0, max: 6 }), fc.integer({ min: 520, max: 580 })),
        async (count) => {
          const list = Array.from({ length: count }, (_, i) =>
            encodeCrlEntry({
              serial: Buffer.concat([Buffer.alloc(98, 1), Buffer.of(i >> 8, i & 0xff)]),
              revokedMs: Date.UTC(2026, 0, 1),
              reason: null,
              invalidityMs: null,
            }),
          );
          const der = await seal({}, ...list);
          const { revokedCertificates = [] } = pkijs.CertificateRevocationList.fromBER(exact(der));
          expect(revokedCertificates).toHaveLength(count);
          expect(entriesOf(parseCrl(der).entries)).toHaveLength(count);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('is sealed as well where signatures differ in length (P-384)', async () => {
    const suite = suites['p384-sha384'];
    const ecdsa = softwareSigner({ purpose: 'crl', suite, privateKey: fixtureKey('p384') });
    for (let i = 0; i < 8; i++) {
      const prepared = prepareCrl({ ...fields, suite }, entries);
      const der = prepared.seal(await ecdsa.sign(prepared.toBeSigned));
      expect(asn1js.fromBER(exact(der)).offset).toBe(der.length);
      expect(certtool(der)).toContain('ECDSA-SHA384');
    }
  });
});

describe('a delta CRL (RFC 5280 §5.2.4)', () => {
  it('names its base, critically, and takes back with removeFromCRL, by openssl, GnuTLS and pkijs', async () => {
    const [, , held = new Uint8Array()] = entries;
    const delta = await seal({ baseNumber: 17, freshest: null }, encodeRemoval(held), entries[1] ?? held);
    const said = opensslCrl(delta);
    expect(said).toContain('X509v3 Delta CRL Indicator: critical');
    expect(said).toContain('Remove From CRL');
    expect(said).not.toContain('Freshest');
    expect(certtool(delta)).toContain('Revoked certificates (2)');
    const parsed = pkijs.CertificateRevocationList.fromBER(exact(delta));
    expect(Buffer.from(parsed.toSchema(true).toBER())).toEqual(Buffer.from(delta));
    expect(parseCrl(delta).baseNumber).toBe(17);
  });
});

describe('our reader', () => {
  it.each([
    ['a CRL that is cut off', (der: Buffer) => der.subarray(0, -1)],
    ['a certificate', () => Buffer.from(certificate)],
    ['something that is no DER', () => Buffer.from('no CRL')],
    ['nothing', () => Buffer.alloc(0)],
    ['octets behind it', (der: Buffer) => Buffer.concat([der, Buffer.of(0)])],
  ])('refuses %s', async (_what, spoil) => {
    const der = Buffer.from(await seal({}, ...entries));
    expect(() => parseCrl(spoil(der))).toThrow(DerError);
  });

  it('refuses a CRL without a number', () => {
    const tbs = sequence(
      unsignedInteger(Uint8Array.of(1)),
      fields.suite.algorithmIdentifier,
      encodeName([['C', 'JP']]),
    );
    expect(() => parseCrl(sequence(tbs, fields.suite.algorithmIdentifier))).toThrow(DerError);
  });
});
