import 'reflect-metadata';
import { createPublicKey, webcrypto } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as x509 from '@peculiar/x509';
import * as asn1js from 'asn1js';
import fc from 'fast-check';
import * as pkijs from 'pkijs';
import { afterAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../ca/config/config.ts';
import {
  Authority,
  authorityAltName,
  authorityAttributes,
  authorityShard,
} from '../../ca/issue/authority.ts';
import { PreparedCertificate } from '../../ca/issue/prepared.ts';
import { type CertificateFields, CertificateTemplate } from '../../ca/profile/certificate.ts';
import { lint } from '../../ca/profile/lints/all.ts';
import { profiles } from '../../ca/profile/profiles.ts';
import { encodeIdentity, parseBasicFour } from '../../ca/request/identity.ts';
import { subjectPublicKeyBits, suites } from '../../core/asn1/algorithms.ts';
import { parseTbsCertificate } from '../../core/asn1/certificate-reader.ts';
import { objectIdentifier } from '../../core/asn1/der-writer.ts';
import { distributionPointName, keyIdentifier } from '../../core/asn1/extension.ts';
import { directoryName, encodeName, uriName } from '../../core/asn1/name.ts';
import { oid } from '../../core/asn1/oids.ts';
import { openSigned } from '../../core/asn1/signed-data.ts';
import { type CertificateKind, holderKinds, slotOf } from '../../core/model/kinds.ts';
import { softwareSigner } from '../../hsm/pool/software-signer.ts';
import type { CertificateStore, ShardCommand } from '../../store/api/certificate-store.ts';
import { exact } from '../support/actors.ts';
import { fileOf, fixture, fixtureKey, openssl, removeScratch } from '../support/harness.ts';

// With fixed keys, serial numbers and times certificates come out the same every time, and can be compared with
// golden files that a person has read against the scheme's papers.

const config = parseConfig({});
const issuedMs = Date.UTC(2026, 10, 20, 3, 0, 0);
const notAfterMs = Date.UTC(2031, 3, 1, 14, 59, 59);
const holderPublicKey = createPublicKey(readFileSync(fixture('holder.key'))).export({
  format: 'der',
  type: 'spki',
});
const signer = softwareSigner({
  purpose: 'certificate',
  suite: suites['rsa2048-sha256'],
  privateKey: fixtureKey('authority'),
});
const store = {
  leaseShard: async ({ next }: ShardCommand) => (next ? { shard: next, places: 1 } : { opens: 0 }),
} as unknown as CertificateStore;
const holderKeyIdentifier = keyIdentifier(subjectPublicKeyBits(holderPublicKey));
const issuerKeyIdentifier = keyIdentifier(subjectPublicKeyBits(signer.publicKey));
const serial = Buffer.from('0142b5c9e1f00718293a4b5c6d7e8f9012', 'hex');

afterAll(removeScratch);

async function caCertificate(slot: 'signing' | 'authentication'): Promise<Uint8Array> {
  const subject = encodeName(authorityAttributes(config.scheme, slot));
  const name = `${slot}-1`;
  const issuer = {
    suite: signer.suite,
    issuer: subject,
    reference: null,
    issuerAltName: null,
    policy: null,
    ocspUri: null,
    caIssuersUri: null,
  };
  return PreparedCertificate.prepare(new CertificateTemplate('authority', issuer), {
    serial: Buffer.from('01ca', 'hex'),
    notBeforeMs: issuedMs,
    notAfterMs: Date.UTC(2036, 10, 20, 2, 59, 59),
    subject,
    publicKey: signer.publicKey,
    subjectAltName: authorityAltName(config, slot),
    distributionPointName: authorityShard(config, slot, 1, name).distributionPointName,
  }).certify(signer);
}

async function authority(slot: 'signing' | 'authentication'): Promise<Authority> {
  const certificate = await caCertificate(slot);
  const name = `${slot}-1`;
  return new Authority({ name, slot, generation: 1, certificate, signer, massSigner: signer, store, config });
}

async function fieldsOf(kind: CertificateKind): Promise<CertificateFields> {
  const isHolder = (holderKinds as readonly string[]).includes(kind);
  const slot = kind.endsWith('-signing') ? 'signing' : 'authentication';
  const basicFour = {
    name: '番号　花子（旧姓　例）',
    address: '東京都渋谷区例町一丁目１番地',
    birthDate: '1980-02-17',
    sex: 'female' as const,
    nameSubstitution: '01000000000',
  };
  const shard = isHolder ? await (await authority(slot)).shardFor(kind as never, '13113') : null;
  const common =
    isHolder && slot === 'signing'
      ? [
          ['L', 'Tokyo-to'],
          ['L', 'Shibuya-ku'],
          ['CN', '2026112012000000042DESK00001'],
        ]
      : [['CN', '0123456789ABCDDESK00001']];
  return {
    serial,
    notBeforeMs: issuedMs,
    notAfterMs,
    subject: encodeName([['C', 'JP'], ...(common as ['L' | 'CN', string][])]),
    publicKey: holderPublicKey,
    subjectAltName:
      slot === 'signing' && isHolder
        ? encodeIdentity(parseBasicFour(basicFour, config.scheme, issuedMs))
        : null,
    distributionPointName: shard?.distributionPointName ?? null,
  };
}

async function certificate(kind: (typeof holderKinds)[number] | 'ocsp-responder'): Promise<Uint8Array> {
  const issuer = await authority(kind === 'ocsp-responder' ? 'signing' : slotOf(kind));
  return PreparedCertificate.prepare(
    new CertificateTemplate(kind, issuer.issuerContext(kind)),
    await fieldsOf(kind),
  ).certify(signer);
}

const asn1 = (der: Uint8Array): string => openssl('asn1parse', '-inform', 'DER', '-i', '-in', fileOf(der));
const golden = (name: string): string => fixture(`golden/${name}.txt`);

describe.each([...holderKinds, 'ocsp-responder'] as const)('a %s certificate', (kind) => {
  it('is, field by field, what the golden file says', async () => {
    await expect(asn1(await certificate(kind))).toMatchFileSnapshot(golden(kind));
  });

  it('is verified by openssl against its CA, strictly (RFC 5280)', async () => {
    const slot = kind === 'ocsp-responder' ? 'signing' : slotOf(kind);
    const ca = fileOf(openssl('x509', '-inform', 'DER', '-in', fileOf(await caCertificate(slot))));
    const leaf = fileOf(openssl('x509', '-inform', 'DER', '-in', fileOf(await certificate(kind))));
    const at = String(issuedMs / 1000 + 60);
    expect(openssl('verify', '-x509_strict', '-attime', at, '-CAfile', ca, leaf)).toContain('OK');
  });

  it('is read by pkijs, and written by pkijs octet for octet the same', async () => {
    const der = await certificate(kind);
    const parsed = pkijs.Certificate.fromBER(exact(der));
    expect(Buffer.from(parsed.toSchema(true).toBER())).toEqual(Buffer.from(der));
    expect(parsed.extensions?.map(({ extnID }) => extnID)).toHaveLength(profiles[kind].extensions.length);
  });
});

it.each(['signing', 'authentication'] as const)(
  'the %s CA certificate is what the golden file says',
  async (slot) => {
    await expect(asn1(await caCertificate(slot))).toMatchFileSnapshot(golden(`${slot}-ca`));
  },
);

describe('a template', () => {
  const rsa = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
  const context = (number: number, ...value: asn1js.BaseBlock[]) =>
    new asn1js.Constructed({ idBlock: { tagClass: 3, tagNumber: number }, value });
  const raw = (der: Uint8Array) => asn1js.fromBER(exact(der)).result as asn1js.BaseBlock;

  /** cRLDistributionPoints of one point with two names, by asn1js. */
  const distributionPoints = (name: Uint8Array, uri: string): ArrayBuffer => {
    const address = new asn1js.Primitive({
      idBlock: { tagClass: 3, tagNumber: 6 },
      valueHex: exact(Buffer.from(uri)),
    });
    const point = context(0, context(0, context(4, raw(name)), address));
    const points = new asn1js.Sequence({ value: [new asn1js.Sequence({ value: [point] })] });
    return points.toBER();
  };

  it('gives octet for octet what @peculiar/x509 renders from the same fields', async () => {
    const issuer = await authority('signing');
    const kind = 'card-signing';
    const template = issuer.template(kind);
    const fixedExtensions = parseTbsCertificate(template.encode(await fieldsOf(kind))).extensions;
    const pkcs8 = fixtureKey('authority').export({ format: 'der', type: 'pkcs8' });
    const signingKey = await webcrypto.subtle.importKey('pkcs8', pkcs8, rsa, false, ['sign']);
    const text = fc.string({ minLength: 1, maxLength: 30, unit: 'grapheme' });
    const fields = fc.record({
      serial: fc.uint8Array({ minLength: 16, maxLength: 16 }),
      municipality: text,
      name: text,
      notBefore: fc.integer({ min: 1_767_225_600, max: 1_798_761_600 }),
      days: fc.integer({ min: 1, max: 9000 }),
      shard: fc.nat(),
    });
    await fc.assert(
      fc.asyncProperty(fields, async ({ serial: random, municipality, name, notBefore, days, shard }) => {
        const subject = encodeName([
          ['C', 'JP'],
          ['L', municipality],
          ['CN', name],
        ]);
        const [notBeforeMs, uri] = [notBefore * 1000, `http://crl.example/${shard}.crl`];
        const lastSecondMs = (Math.floor(notBefore / 86_400) + days) * 86_400_000 + 53_999_000;
        const { subjectAltName } = await fieldsOf(kind);
        const serialNumber = Buffer.concat([Buffer.of(1), random]);
        const ours = template.encode({
          serial: serialNumber,
          notBeforeMs,
          notAfterMs: lastSecondMs,
          subject,
          publicKey: holderPublicKey,
          subjectAltName,
          distributionPointName: distributionPointName(directoryName(subject), uriName(uri)),
        });
        const values: Readonly<Record<string, ArrayBuffer>> = {
          '2.5.29.31': distributionPoints(subject, uri),
          '2.5.29.17': raw(subjectAltName ?? new Uint8Array()).toBER(),
        };
        const ids = [oid.keyUsage, oid.subjectAltName, oid.certificatePolicies, oid.issuerAltName];
        const rest = [oid.cRLDistributionPoints, oid.authorityInfoAccess, oid.authorityKeyIdentifier];
        const extensions: x509.Extension[] = [...ids, ...rest].map((id, i) => {
          const { critical = false, value = new Uint8Array() } = fixedExtensions[i] ?? {};
          return new x509.Extension(id, critical, values[id] ?? exact(value));
        });
        const publicKey = new x509.PublicKey(exact(holderPublicKey));
        extensions.push(await x509.SubjectKeyIdentifierExtension.create(publicKey, false, webcrypto));
        const theirs = await x509.X509CertificateGenerator.create(
          {
            serialNumber: serialNumber.toString('hex'),
            subject: new x509.Name(exact(subject)),
            issuer: new x509.Name(exact(encodeName(authorityAttributes(config.scheme, 'signing')))),
            notBefore: new Date(notBeforeMs),
            notAfter: new Date(lastSecondMs),
            publicKey,
            signingKey,
            signingAlgorithm: rsa,
            extensions,
          },
          webcrypto,
        );
        expect(Buffer.from(openSigned(new Uint8Array(theirs.rawData)).toBeSigned)).toEqual(Buffer.from(ours));
      }),
      { numRuns: 25 },
    );
  });
});

describe('lint', () => {
  /** Each defect, built into to-be-signed bytes by putting other octets in the place of some. */
  const defects: [what: string, found: RegExp, from: Uint8Array, to: Uint8Array][] = [
    [
      'another algorithm',
      /signature field/,
      suites['rsa2048-sha256'].algorithmIdentifier,
      Buffer.from('300d06092a864886f70d01010c0500', 'hex'),
    ],
    [
      'keyUsage of another kind',
      /keyUsage has/,
      Buffer.from('030206c0', 'hex'),
      Buffer.from('03020640', 'hex'),
    ],
    [
      'notAfter in the middle of a day',
      /ends with a day/,
      Buffer.from('310401145959Z'),
      Buffer.from('310401000000Z'),
    ],
    [
      'a subject with a BMPString',
      /PrintableString or UTF8String/,
      Buffer.from('0c08546f6b796f2d746f', 'hex'),
      Buffer.from('1e08546f6b796f2d746f', 'hex'),
    ],
    [
      'the basic four out of order',
      /basic four/,
      objectIdentifier('1.2.392.200149.8.5.5.4'),
      objectIdentifier('1.2.392.200149.8.5.5.3'),
    ],
    [
      'an address that is not http',
      /http address/,
      Buffer.from('http://127.0.0.1:8081/crl/card'),
      Buffer.from('ldap://127.0.0.1:8081/crl/card'),
    ],
    ['the identifier of another key', /SHA-1 of the key/, holderKeyIdentifier, Buffer.alloc(20, 7)],
    [
      'the identifier of another issuer',
      /names the key that signs/,
      issuerKeyIdentifier,
      Buffer.alloc(20, 7),
    ],
    [
      'policies that are not critical',
      /must be critical/,
      Buffer.from('0603551d200101ff', 'hex'),
      Buffer.from('0603551d20010100', 'hex'),
    ],
  ];

  it.each(defects)('finds %s', async (_what, found, from, to) => {
    const context = (await authority('signing')).issuerContext('card-signing');
    const tbs = Buffer.from(
      new CertificateTemplate('card-signing', context).encode(await fieldsOf('card-signing')),
    );
    expect(lint(tbs, 'card-signing', context)).toEqual([]);
    const at = tbs.indexOf(from);
    expect(at).toBeGreaterThan(0);
    tbs.set(to, at);
    expect(lint(tbs, 'card-signing', context).join('\n')).toMatch(found);
  });

  it('finds a key of another suite than its CA’s', async () => {
    const context = (await authority('signing')).issuerContext('card-signing');
    const publicKey = createPublicKey(fixtureKey('p384')).export({ format: 'der', type: 'spki' });
    const tbs = new CertificateTemplate('card-signing', context).encode({
      ...(await fieldsOf('card-signing')),
      publicKey,
    });
    expect(lint(tbs, 'card-signing', context).join()).toContain('of the suite');
  });
});

describe('preparing', () => {
  it('refuses to sign one prepared certificate twice', async () => {
    const context = (await authority('signing')).issuerContext('card-signing');
    const prepared = PreparedCertificate.prepare(
      new CertificateTemplate('card-signing', context),
      await fieldsOf('card-signing'),
    );
    await prepared.sign(signer);
    await expect(prepared.sign(signer)).rejects.toThrow('invariant broken');
  });

  it.each([
    ['a serial number of more than 20 octets', { serial: Buffer.alloc(21, 1) }, /serial number/],
    ['a serial number of zero', { serial: Buffer.alloc(1) }, /serial number/],
    ['notAfter before notBefore', { notAfterMs: issuedMs - 1000 }, /notBefore/],
  ])('refuses %s', async (_what, fields, message) => {
    const context = (await authority('signing')).issuerContext('card-signing');
    const whole = { ...(await fieldsOf('card-signing')), ...fields };
    expect(() =>
      PreparedCertificate.prepare(new CertificateTemplate('card-signing', context), whole),
    ).toThrow(message);
  });

  it('finds extensions that are not the profile’s', async () => {
    const context = (await authority('signing')).issuerContext('card-signing');
    const prepared = PreparedCertificate.prepare(
      new CertificateTemplate('card-signing', context),
      await fieldsOf('card-signing'),
    );
    expect(lint(prepared.toBeSigned, 'card-authentication', context).join()).toContain('extensions');
  });
});
