import { createPublicKey, generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { isIP, isIPv4 } from 'node:net';
import { dirname, join } from 'node:path';
import { subjectPublicKeyBits } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { context, sequence, tlv, unsignedInteger } from '../../core/asn1/der-writer.ts';
import { keyIdentifier } from '../../core/asn1/extension.ts';
import { encodeName, type NameAttribute, nameLengthMax } from '../../core/asn1/name.ts';
import { durationMs } from '../../core/config/duration.ts';
import type { Signer } from '../../core/crypto/signer.ts';
import { type Bytes, digest, equal, hex } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { createDurably, replaceDurably } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { readSecret } from '../../core/runtime/secret-file.ts';
import type { OperationsRecord } from '../../store/api/client-store.ts';
import { pem } from '../api/present.ts';
import type { Config } from '../config/config.ts';
import { isLoopback } from '../config/production.ts';
import { backdated } from '../issue/authority.ts';
import { PreparedCertificate } from '../issue/prepared.ts';
import { CertificateTemplate, type IssuerContext } from '../profile/certificate.ts';
import { extensionIds } from '../profile/lints/lint.ts';

// The operations CA: certificates for TLS between the service and its callers. Its key is in the CA token; leaf
// keys are files that only their owner reads, and are replaced before they end.

const dayMs = 86_400_000;
const serverLifeMs = 90 * dayMs;
const authorityLifeMs = 3650 * dayMs;
const attributes: readonly NameAttribute[] = [
  ['C', 'JP'],
  ['O', 'Warifu'],
  ['CN', 'Warifu operations CA'],
];

/** What its certificates have in common; its own has no issuer but itself: `certificate` is null. */
export function operationsContext(
  signer: Pick<Signer, 'suite' | 'publicKey'>,
  certificate: Bytes | null,
): IssuerContext {
  const parsed = certificate && parseCertificate(certificate);
  return {
    suite: signer.suite,
    issuer: encodeName(attributes),
    reference: parsed && {
      subject: parsed.subject,
      serialNumber: unsignedInteger(parsed.serial),
      subjectKeyIdentifier: keyIdentifier(subjectPublicKeyBits(signer.publicKey)),
    },
    issuerAltName: null,
    policy: null,
    ocspUri: null,
    caIssuersUri: null,
  };
}

/** Sixteen random octets, positive. */
function randomSerial(): Bytes {
  const serial = randomBytes(16);
  serial[0] = 0x40 | ((serial[0] ?? 0) & 0x3f);
  return serial;
}

const wholeSecond = (ms: number): number => Math.floor(ms / 1000) * 1000;

export interface OperationsAuthority {
  readonly signer: Signer<'certificate'>;
  /** Certificate DER; null while it is made. */
  readonly certificate: Bytes | null;
  readonly record: OperationsRecord;
  readonly clock: Clock;
  readonly config: Pick<Config, 'issuing' | 'limits'>;
}

/** Certifies a key in the order of all certificates: encode, lint, put on record, sign, complete. DER. */
async function certify(
  { signer, certificate, record, clock, config }: OperationsAuthority,
  wanted: {
    readonly kind: 'operations-authority' | 'tls-server' | 'tls-client';
    readonly commonName: string;
    readonly subject: Bytes;
    readonly publicKey: Bytes;
    readonly lifeMs: number;
    /** GeneralNames DER; servers only. */
    readonly subjectAltName: Bytes | null;
  },
): Promise<Bytes> {
  const { kind, commonName, subject, publicKey, lifeMs, subjectAltName } = wanted;
  const nowMs = clock.wallMs();
  const serial = randomSerial();
  const [notBeforeMs, notAfterMs] = [backdated(nowMs, config), wholeSecond(nowMs + lifeMs)];
  const template = new CertificateTemplate(kind, operationsContext(signer, certificate));
  const fields = { serial, notBeforeMs, notAfterMs, subject, publicKey, subjectAltName };
  const prepared = PreparedCertificate.prepare(template, { ...fields, distributionPointName: null });
  const { toBeSigned } = prepared;
  const serialNumber = hex(serial);
  const keyHash = digest('sha256', publicKey);
  const reserved = await record.reserve({
    ...{ serialNumber, kind, commonName, keyHash, notBeforeMs, notAfterMs, toBeSigned },
  });
  // Of a request that is repeated, those of the first.
  const own = PreparedCertificate.fromRecord(reserved.toBeSigned);
  const signature = reserved.signature ?? (await own.sign(signer));
  const signed = own.with(signer, signature);
  await record.complete(reserved.serialNumber, signature, hex(digest('sha256', signed)));
  return signed;
}

/** The operations CA's self-signed certificate, DER. */
export function issueOperationsAuthority(
  operations: Omit<OperationsAuthority, 'certificate'>,
): Promise<Bytes> {
  return certify(
    { ...operations, certificate: null },
    {
      kind: 'operations-authority',
      commonName: 'Warifu operations CA',
      subject: encodeName(attributes),
      publicKey: operations.signer.publicKey,
      lifeMs: authorityLifeMs,
      subjectAltName: null,
    },
  );
}

/** A name is cut to what an attribute has room for: the record says whose the certificate is. */
const leafSubject = (commonName: string): Bytes =>
  encodeName([
    ['C', 'JP'],
    ['O', 'Warifu'],
    ['CN', [...commonName].slice(0, nameLengthMax.CN).join('')],
  ]);

const lifeOf = (
  { config }: Pick<OperationsAuthority, 'config'>,
  kind: 'tls-server' | 'tls-client',
): number => (kind === 'tls-client' ? durationMs(config.limits.clientCertificate) : serverLifeMs);

/** A client certificate for a key that its owner made, DER. */
export function certifyClient(
  operations: OperationsAuthority,
  commonName: string,
  publicKey: Bytes,
): Promise<Bytes> {
  const subject = leafSubject(commonName);
  const kind = 'tls-client';
  const lifeMs = lifeOf(operations, kind);
  return certify(operations, { kind, commonName, subject, publicKey, lifeMs, subjectAltName: null });
}

export interface TlsLeaf {
  /** PEM. */
  readonly key: string;
  readonly cert: string;
}

/** Makes a P-256 key and a certificate for it, as files `<name>.key` (0600) and `<name>.pem`. */
export async function issueTlsLeaf(
  operations: OperationsAuthority,
  leaf: {
    readonly kind: 'tls-server' | 'tls-client';
    readonly commonName: string;
    /** GeneralNames DER; servers only. */
    readonly subjectAltName: Bytes | null;
    readonly folder: string;
    readonly name: string;
    /** Whether files of that name are replaced; else they must not exist. */
    readonly replaces: boolean;
  },
): Promise<TlsLeaf> {
  const files = [`${leaf.name}.key`, `${leaf.name}.pem`].map((name) => join(leaf.folder, name));
  const present = files.find((file) => existsSync(file));
  if (present !== undefined && !leaf.replaces)
    throw new PkiError(
      'bad-request',
      `${present} exists, and nothing is overwritten: take another name, or move it away`,
    );
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { kind, commonName, subjectAltName } = leaf;
  const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  const subject = leafSubject(commonName);
  const lifeMs = lifeOf(operations, kind);
  const wanted = { kind, commonName, subject, publicKey, lifeMs, subjectAltName };
  const certificate = await certify(operations, wanted);
  const key = String(privateKey.export({ format: 'pem', type: 'pkcs8' }));
  const cert = pem(certificate);
  mkdirSync(leaf.folder, { recursive: true, mode: 0o700 });
  const write = leaf.replaces ? replaceDurably : createDurably;
  write(join(leaf.folder, `${leaf.name}.key`), key);
  write(join(leaf.folder, `${leaf.name}.pem`), cert, 0o644);
  return { key, cert };
}

/**
 * The API's TLS key and certificate: what the files hold, or new ones where a third of their life is left or less, or where
 * they are for other names than are configured.
 */
export async function ensureServerLeaf(
  operations: OperationsAuthority,
  options: { readonly folder: string; readonly config: Pick<Config, 'api' | 'mode'> },
): Promise<TlsLeaf> {
  const keyFile = join(options.folder, 'api.key');
  const certFile = join(options.folder, 'api.pem');
  const subjectAltName = serverNames(options.config);
  if (existsSync(keyFile) && existsSync(certFile)) {
    const cert = readFileSync(certFile, 'utf8');
    const { notAfterMs, extensions } = parseCertificate(new X509Certificate(cert).raw);
    const named = extensions.find(({ id }) => id === extensionIds.subjectAltName)?.value;
    const isNamed = named !== undefined && equal(named, subjectAltName);
    if (isNamed && notAfterMs - operations.clock.wallMs() > serverLifeMs / 3)
      return { key: readSecret(keyFile), cert };
  }
  return issueTlsLeaf(operations, {
    kind: 'tls-server',
    commonName: 'Warifu CA API',
    subjectAltName,
    folder: dirname(keyFile),
    name: 'api',
    replaces: true,
  });
}

/** dNSName [2] and iPAddress [7] of what is configured, and but for production of this machine (RFC 5280 §4.2.1.6). */
function serverNames({ api: { host, names }, mode }: Pick<Config, 'api' | 'mode'>): Bytes {
  const anywhere = ['0.0.0.0', '::'];
  const own = ['localhost', '127.0.0.1', '::1', host].filter((name) => !anywhere.includes(name));
  const all = [...own.filter((name) => mode === 'development' || !isLoopback(name)), ...names];
  const encoded = [...new Set(all)].map((name) => {
    if (isIP(name) === 0) return tlv(context(2, 'primitive'), Buffer.from(name, 'latin1'));
    return tlv(context(7, 'primitive'), addressOctets(name));
  });
  return sequence(...encoded);
}

/** The 4 octets of an IPv4 address, the 16 of an IPv6 address. */
function addressOctets(address: string): Bytes {
  if (isIPv4(address)) return Uint8Array.from(address.split('.').map(Number));
  // A URL's host is written in one way: groups of hex digits, and one gap for zeros.
  const [before = '', after = ''] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::');
  const groups = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
  const [head, tail] = [groups(before), groups(after)];
  const all = [...head, ...new Array<number>(8 - head.length - tail.length).fill(0), ...tail];
  return Uint8Array.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}
