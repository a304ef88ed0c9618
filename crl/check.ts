import { type KeyObject, verify } from 'node:crypto';
import type { Suite } from '../core/algorithms.ts';
import { type Bytes, equal, view } from '../core/bytes.ts';
import { PkiError } from '../core/errors.ts';
import { encodeRemoval } from './encode.ts';
import { entriesOf, entryChanges, serialName, serialsOf } from './entries.ts';
import { type ParsedCrl, parseCrl } from './reader.ts';

// The publisher trusts nobody: neither the token, nor the encoder, nor what an earlier run left. What is about to replace
// a CRL is read back from its octets and compared with it; on any doubt the old one stays.

/** Whose CRLs they are, and how the certificates name them. */
export interface Expected {
  readonly suite: Suite;
  readonly publicKey: KeyObject;
  /** Name DER. */
  readonly issuer: Bytes;
  /** AuthorityKeyIdentifier DER. */
  readonly authorityKey: Bytes;
  /** DistributionPointName DER; null for a CRL of everything. */
  readonly distributionPointName: Bytes | null;
}

function refuse(what: string): never {
  throw new PkiError('internal', `not published: ${what}`);
}

/** Reads a CRL back and checks it by itself: its signature, its issuer, its distribution point (RFC 5280 §6.3.3). */
export function checkAlone(der: Bytes, expected: Expected): ParsedCrl {
  const crl = parseCrl(der);
  const { suite, publicKey, issuer, authorityKey, distributionPointName } = expected;
  if (!equal(crl.signatureAlgorithm, suite.algorithmIdentifier)) refuse('it is signed by another algorithm');
  if (!verify(suite.hash, crl.toBeSigned, publicKey, crl.signature)) refuse('its signature does not verify');
  if (!equal(crl.issuer, issuer)) refuse('its issuer is another');
  if (!equal(crl.authorityKey, authorityKey)) refuse('its authorityKeyIdentifier is another');
  const isNamed = distributionPointName
    ? view(crl.distributionPoint).includes(view(distributionPointName))
    : crl.distributionPoint.length === 0;
  if (!isNamed) refuse('its distribution point is not the one that certificates name');
  if (crl.nextUpdateMs <= crl.thisUpdateMs) refuse('it ends before it begins');
  return crl;
}

/** What must rise, and what must stay, from one CRL of a shard to the next of its kind. */
export function checkSuccession(next: ParsedCrl, previous: ParsedCrl): void {
  if (next.number <= previous.number) refuse('its number does not rise');
  if (next.thisUpdateMs < previous.thisUpdateMs) refuse('it is of an earlier time');
  if (!equal(next.distributionPoint, previous.distributionPoint))
    refuse('its distribution point has changed');
  if ((next.baseNumber === null) !== (previous.baseNumber === null)) refuse('it is of another kind');
  if ((next.baseNumber ?? 0) < (previous.baseNumber ?? 0)) refuse('its base is an earlier one');
}

/**
 * No certificate may leave a complete CRL but one that was released, or that has ended and stood on a scheduled CRL since
 * (RFC 5280 §3.3). `mayLeave` is asked by the certificate's INTEGER, hex.
 */
export function checkNothingLost(
  next: ParsedCrl,
  previous: ParsedCrl,
  mayLeave: (serial: string) => boolean,
): void {
  const { removed } = entryChanges(previous.entries, next.entries);
  const lost = removed.find((entry) => !mayLeave(serialName(entry)));
  if (lost) refuse(`certificate ${serialName(lost)} would no longer be listed`);
}

/**
 * A delta CRL with its base must say what the complete list says (RFC 5280 §5.2.4), and take back whatever the delta
 * before it said and no longer holds.
 */
export function checkDelta(
  delta: ParsedCrl,
  about: { readonly base: ParsedCrl; readonly list: Bytes; readonly previous: ParsedCrl | undefined },
): void {
  const { base, list, previous } = about;
  if (delta.baseNumber !== base.number) refuse('the delta is to another base');
  const said = entriesBySerial(delta.entries);
  const { added, removed } = entryChanges(base.entries, list);
  const changes = new Map(
    [...added, ...removed.map(encodeRemoval)].map((entry) => [serialName(entry), entry]),
  );
  for (const [serial, entry] of changes) {
    const found = said.get(serial);
    if (!found || !equal(found, entry)) refuse(`the delta does not say what became of ${serial}`);
  }
  const before = previous?.baseNumber === base.number ? entriesBySerial(previous.entries) : new Map();
  for (const [serial, entry] of said) {
    if (changes.has(serial)) continue;
    if (!before.has(serial) || !equal(entry, encodeRemoval(entry)))
      refuse(`the delta lists ${serial} for no reason`);
  }
  const silent = [...before.keys()].filter((serial) => !said.has(serial));
  const ofBase = silent.length > 0 ? serialsOf(base.entries) : new Set();
  const forgotten = silent.find((serial) => !ofBase.has(serial));
  if (forgotten) refuse(`the delta before it spoke of ${forgotten}`);
}

const entriesBySerial = (list: Bytes): Map<string, Bytes> =>
  new Map(entriesOf(list).map((entry) => [serialName(entry), entry]));
