import { createPublicKey, verify } from 'node:crypto';
import * as asn1js from 'asn1js';
import * as pkijs from 'pkijs';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { DerError, DerReader } from '../../core/asn1/der-reader.ts';
import { context, tag, tlv } from '../../core/asn1/der-writer.ts';
import { oid } from '../../core/asn1/oids.ts';
import { type Bytes, digest, equal, view } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';

/** One who is said to have signed a message. */
export interface MessageSigner {
  /** Name DER and serial octets of the certificate. */
  readonly issuer: Bytes;
  readonly serial: Bytes;
  /** Throws `invalid-signed-request` unless that certificate signed the message, as this profile wants it. */
  verify(certificate: Bytes): void;
}

/** A CMS SignedData, taken apart but not yet believed. */
export interface SignedMessage {
  readonly content: Bytes;
  readonly signers: readonly [MessageSigner, ...MessageSigner[]];
  /** Certificates that came with it, DER: a claim, until one of them is found to have signed. */
  certificates(): readonly Bytes[];
}

function refuse(what: string, cause?: unknown): never {
  throw new PkiError('invalid-signed-request', what, { cause });
}

const hashes: Readonly<Record<string, 'sha256' | 'sha384'>> = {
  [oid.sha256]: 'sha256',
  [oid.sha384]: 'sha384',
};

/**
 * Reads a SignedData (RFC 5652 §5) with pkijs: the cold path. Wanted are one signer, or as many as are allowed, each named by
 * issuer and serial number, attached content of the given type, and of each signer the signed attributes contentType,
 * messageDigest, signingTime and signingCertificateV2, each once. Freshness comes from the challenge in the content: phones'
 * clocks are not to be trusted, so signingTime is evidence only.
 */
export function readSignedMessage(der: Bytes, contentType: string, signersMax = 1): SignedMessage {
  const { signedData, signerInfos } = parse(der, signersMax);
  const content = signedData.encapContentInfo;
  if (content.eContentType !== contentType) refuse('eContentType: not the one that is wanted here');
  if (!(content.eContent instanceof asn1js.OctetString))
    refuse('the content is not attached as an OCTET STRING');
  const octets = new Uint8Array(content.eContent.getValue());
  const read = (signerInfo: pkijs.SignerInfo) => readSigner(signerInfo, octets, contentType);
  const [first, ...others] = signerInfos;
  const certificates = () =>
    (signedData.certificates ?? []).map((each) => new Uint8Array(each.toSchema().toBER()));
  return { content: octets, signers: [read(first), ...others.map(read)], certificates };
}

function readSigner(signerInfo: pkijs.SignerInfo, content: Bytes, contentType: string): MessageSigner {
  const { sid } = signerInfo;
  if (!(sid instanceof pkijs.IssuerAndSerialNumber))
    refuse('the signer is not named by issuer and serial number');
  const serial = new Uint8Array(sid.serialNumber.valueBlock.valueHexView);
  return {
    issuer: new Uint8Array(sid.issuer.toSchema().toBER()),
    serial: serial[0] === 0 ? serial.subarray(1) : serial,
    verify: (certificate) => verifySigner(signerInfo, content, contentType, certificate),
  };
}

interface Parsed {
  readonly signedData: pkijs.SignedData;
  readonly signerInfos: readonly [pkijs.SignerInfo, ...pkijs.SignerInfo[]];
}

function parse(der: Bytes, signersMax: number): Parsed {
  try {
    const decoded = asn1js.fromBER(Uint8Array.from(der).buffer);
    if (decoded.offset !== der.length) refuse('not a CMS SignedData and nothing behind it');
    const info = new pkijs.ContentInfo({ schema: decoded.result });
    if (info.contentType !== oid.signedData) refuse('not a CMS SignedData');
    const signedData = new pkijs.SignedData({ schema: info.content });
    const [first, ...others] = signedData.signerInfos;
    if (!first || others.length >= signersMax)
      refuse(signersMax === 1 ? 'not exactly one signer' : `not one signer to ${signersMax}`);
    return { signedData, signerInfos: [first, ...others] };
  } catch (error) {
    if (error instanceof PkiError) throw error;
    refuse('not a CMS SignedData', error);
  }
}

function verifySigner(
  signerInfo: pkijs.SignerInfo,
  content: Bytes,
  contentType: string,
  certificate: Bytes,
): void {
  const hash = hashes[signerInfo.digestAlgorithm.algorithmId];
  if (!hash) refuse('the digest algorithm is neither SHA-256 nor SHA-384');
  const { signedAttrs } = signerInfo;
  if (!signedAttrs) refuse('signedAttrs are missing');
  const type = attribute(signedAttrs, oid.contentType);
  if (!(type instanceof asn1js.ObjectIdentifier) || type.getValue() !== contentType)
    refuse('contentType: not that of the content');
  const messageDigest = attribute(signedAttrs, oid.messageDigest);
  const stated =
    messageDigest instanceof asn1js.OctetString ? new Uint8Array(messageDigest.getValue()) : undefined;
  if (!stated || !equal(stated, digest(hash, content))) refuse('messageDigest: not that of the content');
  const time = attribute(signedAttrs, oid.signingTime);
  if (!(time instanceof asn1js.UTCTime || time instanceof asn1js.GeneralizedTime))
    refuse('signingTime: not a time');
  checkSigningCertificate(attribute(signedAttrs, oid.signingCertificateV2), certificate);
  const signed = derOfAttributes(new Uint8Array(signedAttrs.encodedValue));
  const key = createPublicKey({
    key: view(parseCertificate(certificate).publicKey),
    format: 'der',
    type: 'spki',
  });
  const signature = new Uint8Array(signerInfo.signature.getValue());
  if (!verify(hash, signed, key, signature)) refuse('the signature does not verify');
}

function attribute(attributes: pkijs.SignedAndUnsignedAttributes, type: string): asn1js.BaseBlock {
  const found = attributes.attributes.filter((candidate) => candidate.type === type);
  const value = found[0]?.values[0] as asn1js.BaseBlock | undefined;
  if (found.length !== 1 || found[0]?.values.length !== 1 || !value) {
    const name = Object.entries(oid).find(([, dotted]) => dotted === type)?.[0];
    refuse(`signedAttrs: not exactly one ${name}`);
  }
  return value;
}

/**
 * What is signed: the DER of the SET OF attributes, whatever order they were sent in (RFC 5652 §5.4), not the [0] in whose
 * place they stand. Each by itself must be DER as it is.
 */
function derOfAttributes(sent: Bytes): Bytes {
  try {
    const outer = new DerReader(sent);
    // pkijs gives them with the tag of the SET that they are.
    const list = outer.enter(tag.set);
    outer.end();
    const attributes: Bytes[] = [];
    while (!list.atEnd) {
      const attribute = list.whole(tag.sequence);
      checkDer(new DerReader(attribute));
      attributes.push(attribute);
    }
    return tlv(tag.set, ...attributes.sort(Buffer.compare));
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    return refuse(`signedAttrs: not DER: ${error.message}`, error);
  }
}

/** Throws `DerError` where a header within is not DER. */
function checkDer(reader: DerReader): void {
  while (!reader.atEnd) {
    const next = reader.peek() ?? 0;
    if ((next & 0x20) !== 0) checkDer(reader.enter(next));
    else reader.whole();
  }
}

/**
 *     SigningCertificateV2 ::= SEQUENCE { certs SEQUENCE OF ESSCertIDv2, policies OPTIONAL }      (RFC 5035 §3)
 *     ESSCertIDv2 ::= SEQUENCE { hashAlgorithm DEFAULT sha256, certHash OCTET STRING, issuerSerial OPTIONAL }
 *
 * The first names the signer's certificate, by any hash that is allowed here, and by issuer and serial number too where it
 * says them.
 */
function checkSigningCertificate(value: asn1js.BaseBlock, certificate: Bytes): void {
  const [first, second, third] = firstSequence(firstSequence(value))?.valueBlock.value ?? [];
  const isDefault = first instanceof asn1js.OctetString;
  const algorithm = first instanceof asn1js.Sequence ? first.valueBlock.value[0] : undefined;
  const named = algorithm instanceof asn1js.ObjectIdentifier ? algorithm.getValue() : undefined;
  const hash = isDefault ? 'sha256' : hashes[named ?? ''];
  const [certHash, issuerSerial] = isDefault ? [first, second] : [second, third];
  if (!hash || !(certHash instanceof asn1js.OctetString))
    refuse('signingCertificateV2: not an ESSCertIDv2 by SHA-256 or SHA-384');
  else if (!equal(new Uint8Array(certHash.getValue()), digest(hash, certificate)))
    refuse('signingCertificateV2: not the signer’s certificate');
  if (issuerSerial && !namesIssuerAndSerial(issuerSerial, certificate))
    refuse('signingCertificateV2: issuerSerial is not that of the signer’s certificate');
}

/** IssuerSerial ::= SEQUENCE { issuer GeneralNames, serialNumber CertificateSerialNumber } */
function namesIssuerAndSerial(value: asn1js.BaseBlock, certificate: Bytes): boolean {
  try {
    const reader = new DerReader(new Uint8Array(value.toBER())).enter(tag.sequence);
    const issuer = reader.enter(tag.sequence).enter(context(4)).whole(tag.sequence);
    const serial = reader.unsigned();
    const parsed = parseCertificate(certificate);
    return equal(issuer, parsed.issuer) && equal(serial, parsed.serial);
  } catch (error) {
    if (error instanceof DerError) return false;
    throw error;
  }
}

function firstSequence(block: asn1js.BaseBlock | undefined): asn1js.Sequence | undefined {
  const first = block instanceof asn1js.Sequence ? block.valueBlock.value[0] : undefined;
  return first instanceof asn1js.Sequence ? first : undefined;
}
