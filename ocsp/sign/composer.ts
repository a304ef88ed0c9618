import { subjectPublicKeyBits } from '../../core/asn1/algorithms.ts';
import { type Bytes, digest, hex } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { type IndexReader, statusOf } from '../index/index-reader.ts';
import { type Stamp, stampOf } from '../index/segment.ts';
import { Answer, postHead } from '../protocol/prepared-answer.ts';
import {
  type CertStatus,
  encodeResponseData,
  GoodTemplate,
  ResponseFrame,
  type ResponseMoment,
  type SingleResponse,
} from '../protocol/response.ts';
import type { ResponderKey } from './issuers.ts';

/** What an operator decides about answers. */
export interface ResponderPolicy {
  /** nextUpdate is so long after the time at which a status is known to be right. */
  readonly responseValidityMs: number;
  /** thisUpdate is so long before that time. */
  readonly backdateMs: number;
  /** How far the feed may lag for an answer to be signed. */
  readonly feedLagMsMax: number;
  /** How much further it may lag for one to be given that was signed before. */
  readonly signedAnswersForMs: number;
  /** How long after their end certificates are answered for; null: for ever, and nothing is said of it. */
  readonly archiveRetentionMs: number | null;
  /** What is said of a serial number that was never issued (RFC 6960 §2.2). */
  readonly neverIssued: 'unknown' | 'revoked';
  /** Under overload a nonce is left out, so that a cached answer will do, or nothing is (RFC 9654 §2.1). */
  readonly nonceUnderOverload: 'answer' | 'ignore';
  readonly cacheOctetsMax: number;
}

/** A key with what its answers have in common. */
export interface ReadyKey extends ResponderKey {
  readonly frame: ResponseFrame;
  readonly keyHash: Bytes;
  /** Of this certificate of this key, and of no other. */
  readonly name: string;
}

export function readyKey(key: ResponderKey): ReadyKey {
  return {
    ...key,
    frame: new ResponseFrame(key.signer.suite, key.certificate),
    keyHash: digest('sha1', subjectPublicKeyBits(key.signer.publicKey)),
    name: hex(digest('sha256', key.certificate)),
  };
}

/** What questions have in common that differ by serial number and nonce only. */
export interface Context {
  /** Of one CertID's form under one certificate of a responder. */
  readonly id: number;
  readonly key: ReadyKey;
  /** CertID of any one of them; its serial number is of 17 octets and ends it. */
  readonly certId: Bytes;
  /** By length of the nonce. */
  readonly templates: Map<number, GoodTemplate>;
}

/** A fraction of what feeds may lag. */
const lagCheckMs = 5;

/** A certificate that was never issued, called revoked: certificateHold since 1970 (RFC 6960 §2.2). */
const neverIssued: CertStatus = { type: 'revoked', revokedMs: 0, reason: 'certificateHold' };

/** Says what the index knows in the words of RFC 6960. */
export class Composer {
  readonly #index: IndexReader;
  readonly #clock: Clock;
  readonly #policy: ResponderPolicy;
  #lagCheckedMs = Number.NEGATIVE_INFINITY;
  #lagMs = Number.POSITIVE_INFINITY;

  constructor(index: IndexReader, clock: Clock, policy: ResponderPolicy) {
    this.#index = index;
    this.#clock = clock;
    this.#policy = policy;
  }

  /** Whether what is known here may be out of date, so that nothing is signed. */
  isLagging(nowMs: number): boolean {
    return this.#lag(nowMs) > this.#policy.feedLagMsMax;
  }

  /** Whether it is so old that not even what was signed before is given: each answer says itself of when it is. */
  isOutOfDate(nowMs: number): boolean {
    return this.#lag(nowMs) > this.#policy.feedLagMsMax + this.#policy.signedAnswersForMs;
  }

  /** Looked up once in a few milliseconds: it is asked for each answer. */
  #lag(nowMs: number): number {
    const isKnownToLag = this.#lagMs > this.#policy.feedLagMsMax;
    if (isKnownToLag || Math.abs(nowMs - this.#lagCheckedMs) >= lagCheckMs) {
      this.#lagCheckedMs = nowMs;
      this.#lagMs = this.#index.lagMs;
    }
    return this.#lagMs;
  }

  /** When an answer signed now is from and how long it holds; undefined where none can be signed. */
  moment(key: ReadyKey): ResponseMoment | undefined {
    const nowMs = this.#clock.wallMs();
    const { responseValidityMs, archiveRetentionMs, backdateMs } = this.#policy;
    // Never the wall clock: the time at which the status is known to be right, which the CA never dates back.
    const knownMs = this.#index.watermarkMs;
    const thisUpdateMs = knownMs - backdateMs;
    const nextUpdateMs = Math.min(knownMs + responseValidityMs, key.notAfterMs);
    if (this.isLagging(nowMs) || nextUpdateMs <= nowMs) return undefined;
    const archiveCutoffMs = archiveRetentionMs === null ? null : nowMs - archiveRetentionMs;
    return { responderKeyHash: key.keyHash, producedMs: nowMs, thisUpdateMs, nextUpdateMs, archiveCutoffMs };
  }

  /** `stamp` is null for what was never issued. undefined where there is nothing to say: not yet, or no longer. */
  status(stamp: Stamp | null, { producedMs }: ResponseMoment): CertStatus | undefined {
    if (stamp === null) return this.#policy.neverIssued === 'unknown' ? { type: 'unknown' } : neverIssued;
    const status = statusOf(stamp);
    // Dated by a clock that was ahead, it is said to be revoked as of now: of a time to come, some would take it for good.
    if (status.type === 'revoked') return { ...status, revokedMs: Math.min(status.revokedMs, producedMs) };
    return status.type === 'good' ? { type: 'good' } : undefined;
  }

  /** ResponseData about one certificate. */
  one(
    { certId, templates }: Context,
    moment: ResponseMoment,
    about: { readonly serial: Bytes; readonly nonce: Bytes | null; readonly status: CertStatus },
  ): Bytes {
    const { serial, nonce, status } = about;
    if (status.type !== 'good')
      return this.many(moment, [{ certId: certIdWith(certId, serial), status }], nonce);
    const nonceLength = nonce?.length ?? 0;
    const template = templates.get(nonceLength) ?? new GoodTemplate(moment, certId, nonceLength);
    templates.set(nonceLength, template);
    return template.fill(moment, serial, nonce);
  }

  many(moment: ResponseMoment, responses: readonly SingleResponse[], nonce: Bytes | null): Bytes {
    const extendedRevoke = responses.some(({ status }) => status === neverIssued);
    return encodeResponseData(moment, { responses, nonce, extendedRevoke });
  }

  /** The whole answer; `fresh` where it may be kept. */
  write(
    key: ReadyKey,
    data: Bytes,
    signature: Bytes,
    about: { readonly fresh: ResponseMoment | null; readonly statuses: readonly CertStatus['type'][] },
  ): Answer {
    let headLength = 0;
    const prefix = (length: number): Buffer => {
      const head = postHead(length);
      headLength = head.length;
      return head;
    };
    const whole = key.frame.write(data, signature, prefix, about.fresh ? 'own' : 'pooled');
    // Hundreds of thousands of these may be kept: nothing in them that is not needed.
    const { thisUpdateMs = 0, nextUpdateMs = 0 } = about.fresh ?? {};
    const fresh = about.fresh ? { thisUpdateMs, nextUpdateMs } : null;
    return new Answer(whole, headLength, fresh, about.statuses);
  }
}

/** A CertID with another serial number of the same length. */
function certIdWith(certId: Bytes, serial: Bytes): Bytes {
  const other = Uint8Array.from(certId);
  other.set(serial, certId.length - serial.length);
  return other;
}

/** Stamps of which nothing is said: why. */
export const silence = {
  /** One of our own serial numbers, which the feed has not sent yet. */
  [stampOf.unissued]: 'tryLater',
  /** Beyond the archive cutoff: this responder has no authority over it any more (RFC 9919 §3.2.3). */
  [stampOf.retired]: 'unauthorized',
} as const;
