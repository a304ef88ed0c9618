import { type Bytes, hex } from '../runtime/bytes.ts';
import { DerReader } from './der-reader.ts';
import { context, objectIdentifier, tag } from './der-writer.ts';
import { oid } from './oids.ts';
import { openSigned } from './signed-data.ts';

/** A TBSCertList taken apart: views of its octets. */
export interface ParsedTbsCrl {
  /** AlgorithmIdentifier DER. */
  readonly signatureField: Bytes;
  /** Name DER. */
  readonly issuer: Bytes;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  /** Content of revokedCertificates. */
  readonly entries: Bytes;
  readonly number: number;
  /** BaseCRLNumber of a delta CRL; null for a complete one. */
  readonly baseNumber: number | null;
  /** IssuingDistributionPoint DER, and AuthorityKeyIdentifier DER; empty where there is none. */
  readonly distributionPoint: Bytes;
  readonly authorityKey: Bytes;
  /** Identifiers of all its extensions: content octets of each OID, hex. */
  readonly extensionIds: readonly string[];
}

/** A CRL taken apart: views of its octets. */
export interface ParsedCrl extends Omit<ParsedTbsCrl, 'signatureField' | 'extensionIds'> {
  readonly toBeSigned: Bytes;
  readonly signature: Bytes;
  readonly signatureAlgorithm: Bytes;
}

const idOf = (dotted: string): string => hex(objectIdentifier(dotted).subarray(2));
const ids = {
  number: idOf(oid.cRLNumber),
  delta: idOf(oid.deltaCRLIndicator),
  distributionPoint: idOf(oid.issuingDistributionPoint),
  authorityKey: idOf(oid.authorityKeyIdentifier),
};

/** Reads a CRL of the form that we publish (RFC 5280 §5.1); `DerError` where it is not one. */
export function parseCrl(der: Bytes): ParsedCrl {
  const { toBeSigned, signature, algorithmIdentifier } = openSigned(der);
  const { signatureField: _, extensionIds: __, ...parsed } = parseTbsCrl(toBeSigned);
  return { toBeSigned, signature, signatureAlgorithm: algorithmIdentifier, ...parsed };
}

/** Reads what is signed of a CRL; `DerError` where it is not one. */
export function parseTbsCrl(der: Bytes): ParsedTbsCrl {
  const outer = new DerReader(der);
  const tbs = outer.enter(tag.sequence);
  outer.end();
  if (tbs.smallInteger() !== 1) tbs.fail('not a v2 CRL');
  const signatureField = tbs.whole(tag.sequence);
  const issuer = tbs.whole(tag.sequence);
  const thisUpdateMs = tbs.time();
  const nextUpdateMs = tbs.time();
  const entries = tbs.peek() === tag.sequence ? tbs.content(tag.sequence) : new Uint8Array();
  const extensions = readExtensions(tbs.enter(context(0)));
  tbs.end();
  const number = extensions.get(ids.number);
  const base = extensions.get(ids.delta);
  if (!number) return tbs.fail('a CRL without a number');
  return {
    signatureField,
    issuer,
    thisUpdateMs,
    nextUpdateMs,
    entries,
    number: crlNumber(number),
    baseNumber: base ? crlNumber(base) : null,
    distributionPoint: extensions.get(ids.distributionPoint) ?? new Uint8Array(),
    authorityKey: extensions.get(ids.authorityKey) ?? new Uint8Array(),
    extensionIds: [...extensions.keys()],
  };
}

/** Values by identifier. */
function readExtensions(wrapper: DerReader): Map<string, Bytes> {
  const list = wrapper.enter(tag.sequence);
  wrapper.end();
  const values = new Map<string, Bytes>();
  while (!list.atEnd) {
    const extension = list.enter(tag.sequence);
    const id = extension.objectIdentifier();
    if (values.has(id)) extension.fail('an extension twice');
    if (extension.peek() === tag.boolean) extension.boolean();
    values.set(id, extension.content(tag.octetString));
    extension.end();
  }
  return values;
}

/** CRLNumber: ours are milliseconds, or count on from there. */
function crlNumber(value: Bytes): number {
  const reader = new DerReader(value);
  const octets = reader.unsigned();
  reader.end();
  if (octets.length > 6) reader.fail('a CRL number that is none of ours');
  return Number(`0x${hex(octets)}`);
}
