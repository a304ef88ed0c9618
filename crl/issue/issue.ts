import { createPublicKey, hash, type KeyObject, verify } from 'node:crypto';
import { type Suite, subjectPublicKeyBits, suiteOfKey } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import type { ParsedCrl } from '../../core/asn1/crl-reader.ts';
import { unsignedInteger } from '../../core/asn1/der-writer.ts';
import { authorityKey, keyIdentifier } from '../../core/asn1/extension.ts';
import { type Bytes, view } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import {
  checkAlone,
  checkDelta,
  checkNothingLost,
  checkSuccession,
  type Expected,
  type MayLeave,
} from '../encode/check.ts';
import { type CrlFields, type PreparedCrl, prepareCrl } from '../encode/encode.ts';
import { deltaPointName } from '../encode/names.ts';
import type { ShardContent } from '../entries/entry-store.ts';
import type { PublishedShard } from '../folder/published.ts';
import type { BuildOrder, ShardToBuild } from './build-order.ts';
import { type Composition, type Predecessors, saidSince, storedBySerial } from './compose.ts';

/** What a shard's next CRLs are made of. */
export interface Issuing {
  readonly order: BuildOrder;
  readonly composition: Composition;
  readonly predecessors: Predecessors;
  readonly content: ShardContent;
  /** Whether the complete CRL is the base of deltas to come. */
  readonly isScheduled: boolean;
  readonly before: PublishedShard | undefined;
}

/** CRLs of one number, which say the same (RFC 5280 §5.2.4): signed, read back and checked. */
export interface Issued {
  readonly number: number;
  readonly thisUpdateMs: number;
  /** For when the list is known to be right. */
  readonly knownMs: number;
  readonly complete: Bytes | null;
  readonly delta: Bytes | null;
  readonly baseNumber: number;
}

/** Signs with the authority's key, by a hash. */
export type Sign = (toBeSigned: Bytes, hash: Suite['hash']) => Promise<Bytes>;

/** Issues a shard's CRLs. Throws where a signature cannot be had, or a check fails. */
export async function issue(issuing: Issuing, sign: Sign): Promise<Issued> {
  const { order, predecessors } = issuing;
  const identity = issuerOf(order.shard.certificate);
  const number = nextNumber(issuing);
  const thisUpdateMs = thisUpdateOf(issuing);
  const knownMs = knownAt(order);
  const baseNumber = predecessors.base?.number ?? number;
  const prepared = prepare(
    issuing,
    { ...identity, ...order.shard, number, thisUpdateMs },
    {
      knownMs,
      baseNumber,
    },
  );
  const seal = async (crl: PreparedCrl | null): Promise<Bytes | null> =>
    crl ? crl.seal(await sign(crl.toBeSigned, identity.suite.hash)) : null;
  const [complete, delta] = await Promise.all([seal(prepared.complete), seal(prepared.delta)]);
  const { distributionPointName } = order.shard;
  check(issuing, { complete, delta }, { ...identity, distributionPointName });
  return { number, thisUpdateMs, knownMs, complete, delta, baseNumber };
}

/** A number that rises, whatever happens to clocks and files. */
function nextNumber({ order, before, predecessors }: Issuing): number {
  const { complete, base, delta } = predecessors;
  const numbers = [before, complete, base, delta].map((each) => each?.number ?? 0);
  return Math.max(Math.max(...numbers) + 1, order.nowMs);
}

const wholeSecond = (ms: number): number => Math.floor(ms / 1000) * 1000;

/** The time for which the list is known to be right; no later one where a clock was ahead. */
export const knownAt = ({ watermarkMs, nowMs }: BuildOrder): number =>
  wholeSecond(Math.min(watermarkMs, nowMs));

/**
 * A while before that, for relying parties whose clocks lag; not before what is listed was revoked, nor before what was
 * published. What was published by a clock that was ahead does not count.
 */
function thisUpdateOf({ order, composition, predecessors }: Issuing): number {
  const known = knownAt(order);
  const published = Object.values(predecessors).map((crl) => crl?.thisUpdateMs ?? 0);
  const before = published.filter((ms) => ms <= known);
  return Math.max(wholeSecond(known - order.backdateMs), wholeSecond(composition.latestMs), ...before);
}

function prepare(
  { order, composition, isScheduled }: Issuing,
  fields: Omit<CrlFields, 'baseNumber' | 'freshest' | 'nextUpdateMs'>,
  { knownMs, baseNumber }: { readonly knownMs: number; readonly baseNumber: number },
): { complete: PreparedCrl | null; delta: PreparedCrl | null } {
  const { deltaValidityMs, validityMs, shard, trigger, deltaIsNamed } = order;
  const { thisUpdateMs } = fields;
  let complete: PreparedCrl | null = null;
  if (isScheduled || trigger === 'event') {
    const hasFreshest = deltaValidityMs !== null && deltaIsNamed;
    const freshest = hasFreshest ? deltaPointName(shard.distributionPointName) : null;
    const nextUpdateMs = Math.max(knownMs, thisUpdateMs) + validityMs;
    complete = prepareCrl({ ...fields, baseNumber: null, freshest, nextUpdateMs }, [composition.complete]);
  }
  if (deltaValidityMs === null) return { complete, delta: null };
  const nextUpdateMs = Math.max(knownMs, thisUpdateMs) + deltaValidityMs;
  const delta = prepareCrl({ ...fields, baseNumber, freshest: null, nextUpdateMs }, composition.delta);
  return { complete, delta };
}

/** Believes nothing of what was just made. */
function check(
  { order, composition, predecessors, content }: Issuing,
  sealed: { readonly complete: Bytes | null; readonly delta: Bytes | null },
  expected: Expected,
): void {
  const { base } = predecessors;
  const mayLeave = evidence(content, base, knownAt(order));
  const complete = sealed.complete && checkAlone(sealed.complete, expected);
  const list = complete?.entries ?? composition.complete;
  if (!view(list).equals(composition.complete)) throw new PkiError('internal', 'a CRL lists something else');
  if (predecessors.complete) {
    if (complete) checkSuccession(complete, predecessors.complete);
    checkNothingLost(list, predecessors.complete, mayLeave);
  }
  if (!sealed.delta) return;
  const delta = checkAlone(sealed.delta, expected);
  if (predecessors.delta) checkSuccession(delta, predecessors.delta);
  const goesOnFrom = base ?? complete;
  if (!goesOnFrom) throw new PkiError('internal', 'a delta without a base');
  const said = base ? saidSince(predecessors, base) : [];
  checkDelta(delta, { base: goesOnFrom, list, said, mayLeave });
}

/** Predecessors that the authority never signed as they are now: a disk that fails flips bits. */
export function notGenuine(predecessors: Predecessors, certificate: Bytes): (keyof Predecessors)[] {
  const { suite, publicKey } = issuerOf(certificate);
  const names = ['complete', 'base', 'delta'] as const;
  return names.filter((name) => {
    const crl = predecessors[name];
    return crl && !verify(suite.hash, crl.toBeSigned, publicKey, crl.signature);
  });
}

/** Throws `internal` where octets are no CRL that the authority signed for the shard. What another publisher has made is believed no more than our own. */
export function checkPublished(
  der: Bytes,
  shard: Pick<ShardToBuild, 'certificate' | 'distributionPointName'>,
): ParsedCrl {
  const { distributionPointName } = shard;
  return checkAlone(der, { ...issuerOf(shard.certificate), distributionPointName });
}

/** Why a certificate may leave a complete CRL, by what is remembered of it and by what was published. */
function evidence(content: ShardContent, base: ParsedCrl | undefined, nowMs: number): MayLeave {
  let known: ReturnType<typeof storedBySerial> | undefined;
  return (serial) => {
    known ??= storedBySerial(content.buckets);
    const item = known.get(serial);
    if (!item || item.state === 'released') return item !== undefined;
    const wasShown = item.state === 'ended' || (base !== undefined && item.notAfterMs < base.thisUpdateMs);
    return wasShown && item.notAfterMs < nowMs;
  };
}

interface Identity extends Omit<Expected, 'distributionPointName'> {
  readonly suite: Suite;
  readonly reference: CrlFields['reference'];
  readonly publicKey: KeyObject;
}

const identities = new Map<string, Identity>();

/** What an authority's certificate says of its CRLs. */
function issuerOf(certificate: Bytes): Identity {
  const name = hash('sha256', certificate);
  const known = identities.get(name);
  if (known) return known;
  const { subject, serial, publicKey } = parseCertificate(certificate);
  const suite = suiteOfKey(publicKey);
  if (!suite) throw new PkiError('invalid-key', 'an authority with a key of a type that we do not know');
  const reference = {
    subject,
    serialNumber: unsignedInteger(serial),
    subjectKeyIdentifier: keyIdentifier(subjectPublicKeyBits(publicKey)),
  };
  const identity = {
    suite,
    reference,
    issuer: subject,
    authorityKey: authorityKey(reference),
    publicKey: createPublicKey({ key: view(publicKey), format: 'der', type: 'spki' }),
  };
  identities.set(name, identity);
  return identity;
}
