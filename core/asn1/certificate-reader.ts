import type { Bytes } from '../runtime/bytes.ts';
import { DerReader } from './der-reader.ts';
import { context, tag } from './der-writer.ts';
import { openSigned } from './signed-data.ts';

/** A certificate taken apart: views of its octets. */
export interface ParsedCertificate {
  readonly toBeSigned: Bytes;
  readonly signature: Bytes;
  readonly signatureAlgorithm: Bytes;
  /** Octets of the serial number, unsigned. */
  readonly serial: Bytes;
  readonly issuer: Bytes;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly subject: Bytes;
  readonly publicKey: Bytes;
  /** In order of appearance. */
  readonly extensions: readonly ParsedExtension[];
}

export interface ParsedExtension {
  /** Content octets of extnID, hex: OIDs of any size compare as octets. */
  readonly id: string;
  readonly critical: boolean;
  readonly value: Bytes;
}

/** Parses a certificate; `DerError` where it is not one (RFC 5280 §4.1). */
export function parseCertificate(der: Bytes): ParsedCertificate {
  const { toBeSigned, algorithmIdentifier, signature } = openSigned(der);
  return {
    ...parseTbsCertificate(toBeSigned),
    toBeSigned,
    signature,
    signatureAlgorithm: algorithmIdentifier,
  };
}

export type ParsedTbsCertificate = Omit<ParsedCertificate, 'toBeSigned' | 'signature' | 'signatureAlgorithm'>;

export function parseTbsCertificate(der: Bytes): ParsedTbsCertificate & { readonly signatureField: Bytes } {
  const outer = new DerReader(der);
  const tbs = outer.enter(tag.sequence);
  outer.end();
  const version = tbs.enter(context(0));
  if (version.smallInteger() !== 2) version.fail('not an X.509 v3 certificate');
  version.end();
  const serial = tbs.unsigned();
  const signatureField = tbs.whole(tag.sequence);
  const issuer = tbs.whole(tag.sequence);
  const validity = tbs.enter(tag.sequence);
  const notBeforeMs = validity.time();
  const notAfterMs = validity.time();
  validity.end();
  const subject = tbs.whole(tag.sequence);
  const publicKey = tbs.whole(tag.sequence);
  const extensions = tbs.atEnd ? [] : parseExtensions(tbs.enter(context(3)));
  tbs.end();
  return { serial, signatureField, issuer, notBeforeMs, notAfterMs, subject, publicKey, extensions };
}

function parseExtensions(wrapper: DerReader): ParsedExtension[] {
  const list = wrapper.enter(tag.sequence);
  wrapper.end();
  const extensions: ParsedExtension[] = [];
  while (!list.atEnd) {
    const body = list.enter(tag.sequence);
    const id = body.objectIdentifier();
    const critical = body.peek() === tag.boolean && body.boolean();
    const value = body.content(tag.octetString);
    body.end();
    extensions.push({ id, critical, value });
  }
  return extensions;
}

/** Whether it is time to replace a certificate: it is in its last third, or of a clock that was ahead. */
export function isDue(certificate: Bytes, nowMs: number): boolean {
  const { notBeforeMs, notAfterMs } = parseCertificate(certificate);
  return notBeforeMs > nowMs || notAfterMs - nowMs <= (notAfterMs - notBeforeMs) / 3;
}
