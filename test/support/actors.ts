import type { ChipKey } from '../../bench/load/keys.ts';
import 'reflect-metadata';
import { createPrivateKey, generateKeyPairSync, type KeyObject, sign, webcrypto } from 'node:crypto';
import { join } from 'node:path';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import * as asn1js from 'asn1js';
import * as pkijs from 'pkijs';
import { request } from 'undici';
import { CaClient, type Issued } from '../../ca/client/client.ts';
import type { Device, PhoneOperation } from '../../ca/request/enrolment.ts';
import { encodePhoneEnrolment } from '../../ca/request/enrolment.ts';
import { oid } from '../../core/asn1/oids.ts';
import { digest } from '../../core/runtime/bytes.ts';
import { factoryOf, keysOf } from './primes.ts';

// The people of the demo, the tests and the benches: a counter, a card, a phone, a relying party. Each uses only
// what such a party has: the API, HTTP, keys of its own, and libraries that are not ours.

/** A client whose key and certificate `warifu client NAME` left in a data folder; `first` is the ceremony's. */
export function namedClient(folder: string, address: string, name: string): CaClient {
  return CaClient.fromFiles({
    address,
    key: join(folder, 'clients', `${name}.key`),
    cert: join(folder, 'clients', `${name}.pem`),
    ca: join(folder, 'tls', 'operations-ca.pem'),
  });
}

/** A key pair as a chip makes it, with the PKCS#10 request that proves it. */
export type { ChipKey } from '../../bench/load/keys.ts';

const rsa = {
  name: 'RSASSA-PKCS1-v1_5',
  hash: 'SHA-256',
  modulusLength: 2048,
  publicExponent: Uint8Array.of(1, 0, 1),
};

const keys = factoryOf('chips');
let left = keysOf('chips');

/** A key that no other call in this process returns; every process returns the same, so that no record sees those of two. */
export async function makeChipKey(): Promise<ChipKey> {
  if (left === 0) return generateChipKey();
  left -= 1;
  return keys.next();
}

/** Returns a new key. */
export async function generateChipKey(): Promise<ChipKey> {
  const pem = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'der' },
  });
  const { subtle } = webcrypto;
  const keys = {
    privateKey: await subtle.importKey('pkcs8', pem.privateKey, rsa, true, ['sign']),
    publicKey: await subtle.importKey('spki', pem.publicKey, rsa, true, ['verify']),
  };
  const certificationRequest = await Pkcs10CertificateRequestGenerator.create(
    { name: 'CN=ignored', keys, signingAlgorithm: rsa },
    webcrypto,
  );
  const privateKey = createPrivateKey({ key: pem.privateKey, format: 'der', type: 'pkcs8' });
  return { privateKey, request: new Uint8Array(certificationRequest.rawData) };
}

export const base64 = (octets: Uint8Array): string => Buffer.from(octets).toString('base64');

/** What a counter sends for a card; all of it can be overridden. */
export function cardRequest(keys: { signing?: ChipKey; authentication?: ChipKey }, overrides: object = {}) {
  const { signing, authentication } = keys;
  return {
    holderId: 'holder-1',
    cardId: 'card-1',
    cardExpiresOn: '2035-06-30',
    municipalityCode: '13113',
    deskCode: 'DESK00001',
    basicFour: {
      name: '番号　花子',
      address: '東京都渋谷区例町一丁目１番地',
      birthDate: '1990-04-01',
      sex: 'female',
    },
    requests: {
      ...(signing ? { signing: base64(signing.request) } : {}),
      ...(authentication ? { authentication: base64(authentication.request) } : {}),
    },
    ...overrides,
  };
}

export const derOf = (pem: string): Uint8Array =>
  Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64');

export const pemOf = (issued: Issued, kind: string): string => {
  const found = issued.certificates.find((certificate) => certificate.kind === kind);
  if (!found) throw new Error(`no ${kind} certificate was issued`);
  return found.certificate;
};

export const enrolmentContentType = '1.3.6.1.4.1.32473.8.1';

export interface EnrolmentParts {
  readonly cardSigningKey: KeyObject;
  readonly cardSigningCertificate: Uint8Array;
  readonly challenge: Uint8Array;
  readonly device: Device;
  readonly operation?: PhoneOperation;
  /** The phone whose place is taken. */
  readonly replaces?: string;
  /** Absent where authentication alone is asked for. */
  readonly signing?: ChipKey;
  /** Absent where a signing certificate alone is asked for. */
  readonly authentication?: ChipKey;
  /** Version of the terms agreed to. */
  readonly terms?: string;
  readonly appletVersion?: string;
  readonly appVersion?: string;
}

export const defaultDevice: Device = {
  deviceId: 'phone-1',
  platform: 'android',
  model: 'Example 9',
  osVersion: '16',
  secureElement: 'GP-SE 2.3',
  patchLevel: '2026-10',
};

/** The enrolment as the app builds it, before the card signs. */
export function enrolmentContent(parts: EnrolmentParts): Uint8Array {
  return encodePhoneEnrolment({
    operation: parts.operation ?? 'issue-to-phone',
    replaces: parts.replaces ?? null,
    cardCertificate: digest('sha256', parts.cardSigningCertificate),
    challenge: parts.challenge,
    device: parts.device,
    signingRequest: parts.signing?.request ?? null,
    authenticationRequest: parts.authentication?.request ?? null,
    terms: parts.terms ?? null,
    appletVersion: parts.appletVersion ?? null,
    appVersion: parts.appVersion ?? null,
  });
}

/** Defects a test may build into a signed enrolment. */
export interface SignedMessageDefects {
  readonly contentType?: string;
  readonly omitAttribute?: string;
  readonly signingKey?: KeyObject;
  readonly messageDigest?: Uint8Array;
  readonly signingCertificate?: Uint8Array;
}

/** Who signs a message. */
interface MessageSigner {
  readonly key: KeyObject;
  /** DER. */
  readonly certificate: Uint8Array;
}

const octets = (value: Uint8Array) => new asn1js.OctetString({ valueHex: exact(value) });

/** The signed attributes of one signer, DER of the SET that is signed (RFC 5652 §5.4). */
export function signedAttributes(
  content: Uint8Array,
  certificate: Uint8Array,
  defects: SignedMessageDefects = {},
): { attributes: pkijs.Attribute[]; der: Uint8Array } {
  const contentType = defects.contentType ?? enrolmentContentType;
  const certHash = octets(digest('sha256', defects.signingCertificate ?? certificate));
  const nest = (value: asn1js.BaseBlock) => new asn1js.Sequence({ value: [value] });
  const attributes = [
    new pkijs.Attribute({
      type: oid.contentType,
      values: [new asn1js.ObjectIdentifier({ value: contentType })],
    }),
    new pkijs.Attribute({ type: oid.signingTime, values: [new asn1js.UTCTime({ valueDate: new Date() })] }),
    new pkijs.Attribute({
      type: oid.messageDigest,
      values: [octets(defects.messageDigest ?? digest('sha256', content))],
    }),
    new pkijs.Attribute({ type: oid.signingCertificateV2, values: [nest(nest(nest(certHash)))] }),
  ]
    .filter(({ type }) => type !== defects.omitAttribute)
    .sort((a, b) => Buffer.compare(Buffer.from(a.toSchema().toBER()), Buffer.from(b.toSchema().toBER())));
  const set = new asn1js.Set({ value: attributes.map((attribute) => attribute.toSchema()) });
  return { attributes, der: new Uint8Array(set.toBER()) };
}

const sha256 = () => new pkijs.AlgorithmIdentifier({ algorithmId: oid.sha256 });

/** A CMS SignedData as the card makes it, built with pkijs; by several keys where `others` sign too. */
export function signEnrolment(
  content: Uint8Array,
  parts: EnrolmentParts,
  defects: SignedMessageDefects = {},
  others: readonly MessageSigner[] = [],
): Uint8Array {
  const signers = [{ key: parts.cardSigningKey, certificate: parts.cardSigningCertificate }, ...others];
  const signedBy = signers.map(({ key, certificate }) => {
    const { attributes, der } = signedAttributes(content, certificate, defects);
    return { attributes, certificate, signature: sign('sha256', der, defects.signingKey ?? key) };
  });
  return signedMessage(content, signedBy, defects.contentType);
}

/** A CMS SignedData from signatures that were made before. */
export function signedMessage(
  content: Uint8Array,
  signedBy: readonly {
    readonly attributes: pkijs.Attribute[];
    readonly certificate: Uint8Array;
    readonly signature: Uint8Array;
  }[],
  contentType = enrolmentContentType,
): Uint8Array {
  const certificates = signedBy.map(({ certificate }) => pkijs.Certificate.fromBER(exact(certificate)));
  const signerInfos = signedBy.map(({ attributes, certificate, signature }) => {
    const { issuer, serialNumber } = pkijs.Certificate.fromBER(exact(certificate));
    return new pkijs.SignerInfo({
      version: 1,
      sid: new pkijs.IssuerAndSerialNumber({ issuer, serialNumber }),
      digestAlgorithm: sha256(),
      signedAttrs: new pkijs.SignedAndUnsignedAttributes({ type: 0, attributes }),
      signatureAlgorithm: new pkijs.AlgorithmIdentifier({
        algorithmId: oid.rsaEncryption,
        algorithmParams: new asn1js.Null(),
      }),
      signature: octets(signature),
    });
  });
  const signedData = new pkijs.SignedData({
    version: 3,
    digestAlgorithms: [sha256()],
    encapContentInfo: new pkijs.EncapsulatedContentInfo({
      eContentType: contentType,
      eContent: octets(content),
    }),
    certificates,
    signerInfos,
  });
  const info = new pkijs.ContentInfo({ contentType: oid.signedData, content: signedData.toSchema(true) });
  return new Uint8Array(info.toSchema().toBER());
}

/** A buffer of exactly these octets, as libraries over ArrayBuffer want it. */
export const exact = (octets: Uint8Array): ArrayBuffer => Uint8Array.from(octets).buffer;

/** An OCSP request built with pkijs. */
export async function ocspRequest(
  certificate: Uint8Array,
  issuer: Uint8Array,
  options: { hash?: string; nonce?: Uint8Array } = {},
): Promise<Uint8Array> {
  const query = new pkijs.OCSPRequest();
  await query.createForCertificate(pkijs.Certificate.fromBER(exact(certificate)), {
    hashAlgorithm: options.hash ?? 'SHA-256',
    issuerCertificate: pkijs.Certificate.fromBER(exact(issuer)),
  });
  if (options.nonce) {
    const value = new asn1js.OctetString({ valueHex: exact(options.nonce) }).toBER();
    query.tbsRequest.requestExtensions = [new pkijs.Extension({ extnID: oid.ocspNonce, extnValue: value })];
  }
  return new Uint8Array(query.toSchema(true).toBER());
}

export async function askOcsp(address: string, query: Uint8Array): Promise<Uint8Array> {
  const response = await request(address, {
    method: 'POST',
    headers: { 'content-type': 'application/ocsp-request' },
    body: Buffer.from(query),
  });
  if (response.statusCode !== 200) throw new Error(`OCSP answered HTTP ${response.statusCode}`);
  return new Uint8Array(await response.body.arrayBuffer());
}

/** The http address in a certificate's cRLDistributionPoints, as pkijs reads it. */
export function crlAddress(certificate: Uint8Array): string {
  const { extensions = [] } = pkijs.Certificate.fromBER(exact(certificate));
  const points = extensions.find(({ extnID }) => extnID === oid.cRLDistributionPoints)?.parsedValue;
  if (!(points instanceof pkijs.CRLDistributionPoints)) throw new Error('no cRLDistributionPoints');
  const names = points.distributionPoints.flatMap(({ distributionPoint }) =>
    Array.isArray(distributionPoint) ? distributionPoint : [],
  );
  const uri = names.find(({ type }) => type === 6)?.value;
  if (typeof uri !== 'string') throw new Error('no address in cRLDistributionPoints');
  return uri;
}

export async function fetchCrl(address: string): Promise<Uint8Array> {
  const response = await request(address);
  if (response.statusCode !== 200) throw new Error(`${address} answered HTTP ${response.statusCode}`);
  return new Uint8Array(await response.body.arrayBuffer());
}

export function crlNumber(crl: Uint8Array): bigint {
  const { crlExtensions } = pkijs.CertificateRevocationList.fromBER(exact(crl));
  const value = crlExtensions?.extensions.find(({ extnID }) => extnID === oid.cRLNumber)
    ?.parsedValue as asn1js.Integer;
  return value.toBigInt();
}

/** Serial numbers (hex) that a CRL lists, with their reasons. */
export function listed(crl: Uint8Array): Map<string, number> {
  const { revokedCertificates = [] } = pkijs.CertificateRevocationList.fromBER(exact(crl));
  return new Map(
    revokedCertificates.map(({ userCertificate, crlEntryExtensions }) => {
      const reason = crlEntryExtensions?.extensions.find(
        ({ extnID }) => extnID === oid.cRLReasons,
      )?.parsedValue;
      const number = reason instanceof asn1js.Enumerated ? reason.valueBlock.valueDec : 0;
      return [Buffer.from(userCertificate.valueBlock.valueHexView).toString('hex'), number];
    }),
  );
}

/** Waits until `ready` says so, asking every few milliseconds; rejects when it takes too long. */
export async function until(what: string, ready: () => Promise<boolean>, timeoutMs = 15_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await ready())) {
    if (performance.now() > deadline) throw new Error(`timed out waiting until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
