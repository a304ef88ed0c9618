import { type KeyObject, verify } from 'node:crypto';
import type { Suite } from '../../core/asn1/algorithms.ts';
import { type ParsedCrl, parseCrl } from '../../core/asn1/crl-reader.ts';
import { type Bytes, equal, view } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { encodeRemoval } from './encode.ts';
import { entriesOf, entryChanges, serialName } from './entries.ts';

// The publisher trusts neither the token, nor the encoder, nor what an earlier run left. What is about to replace
// a CRL is read back from its octets and compared with it; on any doubt the old one stays.

/** Whose CRLs they are, and how the certificates name them. */
export interface Expected {
  readonly suite: Suite;
  readonly publicKey: KeyObject;
  /** Name DER. */
  readonly issuer: Bytes;
  /** AuthorityKeyIdentifier DER. */
  readonly authorityKey: Bytes;
  /** DistributionPointName DER. */
  readonly distributionPointName: Bytes;
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
  if (!view(crl.distributionPoint).includes(view(distributionPointName)))
    refuse('its distribution point is not the one that certificates name');
  if (crl.nextUpdateMs <= crl.thisUpdateMs) refuse('it ends before it begins');
  return crl;
}

/** What must rise, and what must stay, from one CRL of a shard to the next of its kind. */
export function checkSuccession(next: ParsedCrl, previous: ParsedCrl): void {
  if (next.number <= previous.number) refuse('its number does not rise');
  if (!equal(next.distributionPoint, previous.distributionPoint))
    refuse('its distribution point has changed');
  if ((next.baseNumber === null) !== (previous.baseNumber === null)) refuse('it is of another kind');
  if ((next.baseNumber ?? 0) < (previous.baseNumber ?? 0)) refuse('its base is an earlier one');
}

/** Whether a certificate, by its INTEGER in hex, may be listed no more. */
export type MayLeave = (serial: string) => boolean;

function checkLeaving(entries: readonly Bytes[], mayLeave: MayLeave): void {
  const lost = entries.find((entry) => !mayLeave(serialName(entry)));
  if (lost) refuse(`certificate ${serialName(lost)} would no longer be listed`);
}

/**
 * No certificate may leave the list but one that was released, or that has ended and stood on a scheduled CRL since
 * (RFC 5280 §3.3): also where it is only a delta that says so.
 */
export function checkNothingLost(list: Bytes, previous: ParsedCrl, mayLeave: MayLeave): void {
  checkLeaving(entryChanges(previous.entries, list).removed, mayLeave);
}

/**
 * A delta CRL must say of each certificate that is not as its base has it, or that anything was said of since the base, what
 * the complete list says, and of no other (RFC 5280 §5.2.4).
 */
export function checkDelta(
  delta: ParsedCrl,
  about: {
    readonly base: ParsedCrl;
    readonly list: Bytes;
    /** Entries of the delta before it, to the same base. */
    readonly said: readonly Bytes[];
    readonly mayLeave: MayLeave;
  },
): void {
  const { base, list, mayLeave } = about;
  if (delta.baseNumber !== base.number) refuse('the delta is to another base');
  const saying = entriesBySerial(entriesOf(delta.entries));
  const { added, removed } = entryChanges(base.entries, list);
  checkLeaving(removed, mayLeave);
  const expected = entriesBySerial([...added, ...removed.map(encodeRemoval)]);
  const asBefore = about.said.filter((entry) => !expected.has(serialName(entry)));
  const ofBase = asBefore.length > 0 ? entriesBySerial(entriesOf(base.entries)) : new Map<string, Bytes>();
  for (const entry of asBefore) {
    const [removal, listed] = [encodeRemoval(entry), ofBase.get(serialName(entry))];
    if (!listed && !equal(entry, removal)) checkLeaving([entry], mayLeave);
    expected.set(serialName(entry), listed ?? removal);
  }
  for (const [serial, entry] of expected) {
    const found = saying.get(serial);
    if (!found || !equal(found, entry)) refuse(`the delta does not say what became of ${serial}`);
  }
  const other = [...saying.keys()].find((serial) => !expected.has(serial));
  if (other) refuse(`the delta lists ${other} for no reason`);
}

const entriesBySerial = (entries: readonly Bytes[]): Map<string, Bytes> =>
  new Map(entries.map((entry) => [serialName(entry), entry]));
