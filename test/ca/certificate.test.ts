import { createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as pkijs from 'pkijs';
import { afterAll, describe, expect, it } from 'vitest';
import { exact } from '../../bench/actors.ts';
import { Authority, authorityAltName, authorityAttributes, authorityShard } from '../../ca/authority.ts';
import { type CertificateFields, CertificateTemplate } from '../../ca/certificate.ts';
import { encodeIdentity, parseBasicFour } from '../../ca/identity.ts';
import { lint } from '../../ca/lint.ts';
import { PreparedCertificate } from '../../ca/prepared.ts';
import { profiles } from '../../ca/profiles.ts';
import { suites } from '../../core/algorithms.ts';
import type { CertificateStore, ShardCommand } from '../../core/certificate-store.ts';
import { parseConfig } from '../../core/config.ts';
import { type CertificateKind, holderKinds, slotOf } from '../../core/kinds.ts';
import { encodeName } from '../../core/name.ts';
import { softwareSigner } from '../../hsm/software-signer.ts';
import { fileOf, fixture, fixtureKey, openssl, removeScratch } from '../harness.ts';

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
  leaseShard: async ({ open }: ShardCommand) => ({ shard: open(0), places: 1 }),
} as unknown as CertificateStore;
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
