import { DerError } from '../core/asn1/der-reader.ts';
import { serialLength } from '../core/crypto/serial.ts';
import { type Asker, mayAsk } from '../core/http/verifier-register.ts';
import type { Bytes } from '../core/runtime/bytes.ts';
import type { Clock } from '../core/runtime/clock.ts';
import type { IndexReader, Place } from './index/index-reader.ts';
import { type Stamp, stampOf } from './index/segment.ts';
import type { Answer } from './protocol/prepared-answer.ts';
import { certIdPrefix, isOfOurForm, type Question, Shapes } from './protocol/question.ts';
import { type CertId, type OcspRequest, parseOcspRequest } from './protocol/request.ts';
import { type CertStatus, type SingleResponse, thisUpdateOf } from './protocol/response.ts';
import { AnswerCache, type CachedAnswer, toKeep } from './sign/answer-cache.ts';
import {
  Composer,
  type Context,
  type ReadyKey,
  type ResponderPolicy,
  readyKey,
  silence,
} from './sign/composer.ts';
import { chooseKey, Issuers, type ResponderKey } from './sign/issuers.ts';
import { errors, type Reply, signed } from './sign/sign.ts';
import type { Work, WorkQueue } from './sign/work-queue.ts';

/** Receives who asked about which certificate, and the answer. */
export type AskedListener = (asked: {
  readonly verifier: string;
  readonly authority: string;
  readonly serial: Bytes;
  readonly status: CertStatus['type'];
}) => void;

/** A certificate asked about; `authority` is undefined where its issuer is none of ours. */
interface Asked {
  readonly certId: CertId;
  readonly authority: string | undefined;
}

/** An answer, and what may be kept of it. */
type SignedReply = (answer: Answer, kept?: CachedAnswer) => void;

/** Contexts kept: a few authorities, hashes, preferences. */
const contextsMax = 256;
/** A certificate whose status changes under each signature is answered tryLater after so many. */
const attemptsMax = 3;
/** How full the queue may be before nonces are ignored, where the policy says so. */
const overloadedShare = 0.5;

/** Answers OCSP requests from a status index. Knows nothing of sockets. One for each thread. */
export class Responder {
  readonly #index: IndexReader;
  readonly #clock: Clock;
  readonly #composer: Composer;
  readonly #queue: WorkQueue;
  readonly #nonceWaitingMax: number;
  readonly #asked: AskedListener | null;
  readonly #failed: (error: unknown) => void;
  readonly #kept: () => void;
  readonly #cache: AnswerCache;
  readonly #shapes = new Shapes<Context>();
  readonly #contexts = new Map<string, Context>();
  /** Who waits for an answer that is being signed, by cache key. */
  readonly #waiting = new Map<string, Reply[]>();
  readonly #cacheKey = Buffer.alloc(serialLength + 4);
  /** Of contexts, by name: one that is made again under the same key finds what was signed before. */
  readonly #contextIds = new Map<string, number>();
  #nextContextId = 0;
  #keys: ReadonlyMap<string, readonly ReadyKey[]> = new Map();
  #issuers: Issuers;

  constructor(options: {
    index: IndexReader;
    /** The first of an authority is its default. */
    keys: readonly ResponderKey[];
    clock: Clock;
    policy: ResponderPolicy;
    queue: WorkQueue;
    /** Of the queue. */
    waitingMax: number;
    asked: AskedListener | null;
    /** Receives what was thrown while an answer was made; the request was answered internalError. */
    failed: (error: unknown) => void;
    /** Called for each answer that was signed before, and is given again. */
    kept?: () => void;
  }) {
    const { index, clock, policy } = options;
    this.#index = index;
    this.#clock = clock;
    this.#composer = new Composer(index, clock, policy);
    this.#queue = options.queue;
    this.#nonceWaitingMax =
      policy.nonceUnderOverload === 'ignore'
        ? options.waitingMax * overloadedShare
        : Number.POSITIVE_INFINITY;
    this.#asked = options.asked;
    this.#failed = options.failed;
    this.#kept = options.kept ?? (() => undefined);
    this.#cache = new AnswerCache(policy.cacheOctetsMax);
    this.#issuers = new Issuers(index.authorities);
    this.setKeys(options.keys);
  }

  /** From the next signature on these sign: how a certificate is replaced before it ends. */
  setKeys(keys: readonly ResponderKey[]): void {
    this.#keys = Map.groupBy(keys.map(readyKey), ({ authority }) => authority);
    this.#shapes.clear();
    this.#contexts.clear();
    // Requests from now on do not wait for what the signers of before have not answered.
    this.#waiting.clear();
  }

  /** The index has got to know another authority. */
  authoritiesChanged(): void {
    this.#issuers = new Issuers(this.#index.authorities);
  }

  /** Whether what is asked for is not signed now: its feed lags. */
  get isLate(): boolean {
    return this.#composer.isLagging(this.#clock.wallMs());
  }

  /** Answers that are kept. */
  get cached(): number {
    return this.#cache.size;
  }

  /**
   * Always answers, with an error status where it cannot sign: malformedRequest; unauthorized for an issuer or a
   * certificate that it does not answer for (RFC 9919 §3.2.3), and for what it does not support; tryLater while its feed
   * lags and nothing that was signed before can be given, its token is gone or too much waits for it; unauthorized, too, where the
   * verifier that asks may not ask about such certificates. `verifier` is null where it is not known. The octets of the request must
   * not change until it is answered.
   */
  ask(request: Buffer, verifier: Asker | null, reply: Reply): void {
    const question = this.#shapes.match(request);
    if (question) this.#askOne(question, verifier, reply);
    else this.#askInFull(request, verifier, reply);
  }

  /** Whether a verifier may ask what a request asks; not where that cannot be read. */
  mayAsk(request: Buffer, verifier: Asker | null): boolean {
    const asked = (parseOrNull(request)?.certIds ?? []).map((each) => ({
      authority: this.#issuers.find(each),
    }));
    return asked.length > 0 && mayAskAll(verifier, asked);
  }

  /** As `ask`, for callers that would rather wait. */
  answer(request: Buffer, verifier: Asker | null = null): Promise<Answer> {
    return new Promise((resolve) => this.ask(request, verifier, resolve));
  }

  #askInFull(request: Buffer, verifier: Asker | null, reply: Reply): void {
    const parsed = parseOrNull(request);
    if (!parsed) {
      reply(errors.malformedRequest);
      return;
    }
    const asked = parsed.certIds.map((certId) => ({ certId, authority: this.#issuers.find(certId) }));
    const key = this.#keyFor(asked, parsed);
    const [first] = parsed.certIds;
    if (!key || !first || parsed.unsupported !== null) {
      // Before it has caught up it does not know whom it answers for.
      reply(this.#composer.isLagging(this.#clock.wallMs()) ? errors.tryLater : errors.unauthorized);
    } else if (!mayAskAll(verifier, asked)) {
      reply(errors.unauthorized);
    } else if (asked.length > 1 || !isOfOurForm(first)) {
      this.#askMany(key, asked, parsed.nonce, this.#logging(asked, verifier, reply));
    } else {
      const context = this.#contextOf(key, first);
      this.#shapes.learn(request, parsed, context);
      this.#askOne({ context, serial: first.serial, nonce: parsed.nonce }, verifier, reply);
    }
  }

  #askOne({ context, serial, nonce: asked }: Question<Context>, verifier: Asker | null, to: Reply): void {
    const { authority } = context.key;
    if (verifier !== null && !mayAsk(verifier, authority)) {
      to(errors.unauthorized);
      return;
    }
    const reply = verifier === null ? to : this.#logging([{ authority, certId: { serial } }], verifier, to);
    const nonce = this.#queue.waiting > this.#nonceWaitingMax ? null : asked;
    const question = { context, serial, nonce };
    if (nonce) {
      this.#find(question, 1, reply);
      return;
    }
    const nowMs = this.#clock.wallMs();
    const cacheKey = this.#cacheKeyOf(question);
    const cached = this.#composer.isOutOfDate(nowMs) ? undefined : this.#cache.get(cacheKey, nowMs);
    if (cached) {
      if (nowMs >= cached.refreshAtMs) this.#refresh(cacheKey, cached, question);
      this.#kept();
      reply(cached.answer);
      return;
    }
    const waiting = this.#waiting.get(cacheKey);
    if (waiting) {
      waiting.push(reply);
      return;
    }
    const replies = [reply];
    this.#waiting.set(cacheKey, replies);
    const settle: SignedReply = (answer, kept) => {
      if (this.#waiting.get(cacheKey) === replies) this.#waiting.delete(cacheKey);
      for (const each of replies.splice(0)) each(answer);
      if (kept) this.#cache.set(cacheKey, kept);
    };
    try {
      this.#find(question, 1, settle);
    } catch (error) {
      this.#fail(error, settle);
    }
  }

  /** An error ends one request only; others that wait for the same answer get theirs. */
  #fail(error: unknown, reply: Reply): void {
    this.#failed(error);
    reply(errors.internalError);
  }

  /** Work for the queue that answers in any case. */
  #answering(act: () => undefined | Promise<void>, reply: Reply): Work {
    return () => {
      try {
        return act()?.catch((error: unknown) => this.#fail(error, reply));
      } catch (error) {
        this.#fail(error, reply);
        return undefined;
      }
    };
  }

  #cacheKeyOf({ context, serial }: Question<Context>): string {
    this.#cacheKey.set(serial);
    this.#cacheKey.writeUInt32LE(context.id, serialLength);
    return this.#cacheKey.toString('latin1');
  }

  /** Finds the certificate, and has an answer signed unless it is clear that there is none. */
  #find(question: Question<Context>, attempt: number, reply: SignedReply): void {
    const place = this.#index.find(question.context.key.authority, question.serial);
    const stamp = stampAt(place);
    const found = typeof place === 'string' ? null : place;
    if (stamp === stampOf.unissued || stamp === stampOf.retired) reply(errors[silence[stamp]]);
    else {
      const work = this.#answering(() => this.#signOne(question, found, attempt, reply), reply);
      if (!this.#queue.add(work)) reply(errors.tryLater);
    }
  }

  #signOne(
    question: Question<Context>,
    place: Place | null,
    attempt: number,
    reply: SignedReply,
  ): undefined | Promise<void> {
    const { context, serial, nonce } = question;
    const moment = this.#composer.moment(context.key);
    const stamp = place ? stampAt(place) : null;
    const status = moment && this.#composer.status(stamp, moment);
    if (!moment || !status) {
      reply(errors.tryLater);
      return undefined;
    }
    const data = this.#composer.one(context, moment, { serial, nonce, status });
    return signed(context.key, data, reply, (signature) => {
      // Signed while its status changed: what was acknowledged meanwhile must be in what we send.
      if (place && stampAt(place) !== stamp) {
        if (attempt === attemptsMax) reply(errors.tryLater);
        else this.#find(question, attempt + 1, reply);
        return;
      }
      const fresh = nonce ? null : { ...moment, thisUpdateMs: thisUpdateOf(moment, status) };
      const about = { fresh, statuses: one[status.type] };
      const answer = this.#composer.write(context.key, data, signature, about);
      reply(answer, place && stamp !== null && !nonce ? toKeep(answer, place, stamp, moment) : undefined);
    });
  }

  /** One SingleResponse for each CertID, in their order (RFC 6960 §4.2.1); *unknown* for issuers that are none of ours. */
  #askMany(key: ReadyKey, asked: readonly Asked[], nonce: Bytes | null, reply: Reply): void {
    const stamps = () =>
      asked.map(({ certId, authority }) =>
        authority === undefined ? undefined : stampAt(this.#index.find(authority, certId.serial)),
      );
    const work = (): undefined | Promise<void> => {
      const moment = this.#composer.moment(key);
      const before = stamps();
      const responses: SingleResponse[] = [];
      for (const [i, { certId }] of asked.entries()) {
        const stamp = before[i];
        const status = stamp === undefined ? unknown : moment && this.#composer.status(stamp, moment);
        if (status) responses.push({ certId: certId.encoded, status });
      }
      if (!moment || responses.length < asked.length) {
        reply(before.includes(stampOf.retired) ? errors.unauthorized : errors.tryLater);
        return undefined;
      }
      const data = this.#composer.many(moment, responses, nonce);
      return signed(key, data, reply, (signature) => {
        const changed = stamps().some((stamp, i) => stamp !== before[i]);
        const about = { fresh: nonce ? null : moment, statuses: responses.map(({ status }) => status.type) };
        reply(changed ? errors.tryLater : this.#composer.write(key, data, signature, about));
      });
    };
    if (!this.#queue.add(this.#answering(work, reply))) reply(errors.tryLater);
  }

  #refresh(cacheKey: string, cached: CachedAnswer, question: Question<Context>): void {
    if (cached.refreshing) return;
    cached.refreshing = true;
    // The octets of the question may be of a buffer that holds another by then.
    const own = { ...question, serial: Uint8Array.from(question.serial) };
    const refreshed: SignedReply = (_answer, kept) => {
      if (kept) this.#cache.set(cacheKey, kept);
      else cached.refreshing = false;
    };
    const work = this.#answering(() => this.#signOne(own, cached.place, attemptsMax, refreshed), refreshed);
    if (!this.#queue.addLater(work)) cached.refreshing = false;
  }

  /**
   * One response has one signer: the responder of the first authority that is asked about and has one. A client that
   * delegates by authority accepts it for that authority's certificates; one that trusts the responder itself, for all.
   */
  #keyFor(asked: readonly Asked[], { preferred }: OcspRequest): ReadyKey | undefined {
    for (const { authority } of asked) {
      const key = authority === undefined ? undefined : chooseKey(this.#keys.get(authority) ?? [], preferred);
      if (key) return key;
    }
    return undefined;
  }

  #contextOf(key: ReadyKey, certId: CertId): Context {
    // By the key that was chosen, not by how it was asked for: strangers must not be able to make contexts without end.
    const name = `${certIdPrefix(certId)}/${key.name}`;
    const known = this.#contexts.get(name);
    if (known) return known;
    if (this.#contextIds.size >= contextsMax) this.#forget();
    // Never one of another context: what is signed now may be kept after everything was forgotten.
    const id = this.#contextIds.get(name) ?? this.#nextContextId++;
    this.#contextIds.set(name, id);
    const context = { id, key, certId: Uint8Array.from(certId.encoded), templates: new Map() };
    this.#contexts.set(name, context);
    return context;
  }

  #forget(): void {
    this.#shapes.clear();
    this.#contexts.clear();
    this.#contextIds.clear();
    this.#cache.clear();
  }

  /** Logs the answer for each certificate, where the client is known. */
  #logging(
    asked: readonly { readonly authority: string | undefined; readonly certId: { readonly serial: Bytes } }[],
    verifier: Asker | null,
    reply: Reply,
  ): Reply {
    const log = this.#asked;
    if (!log || verifier === null) return reply;
    const { verifierId } = verifier;
    return (answer) => {
      for (const [i, status] of answer.statuses.entries()) {
        const { authority, certId } = asked[i] ?? {};
        if (authority !== undefined && certId)
          log({ verifier: verifierId, authority, serial: certId.serial, status });
      }
      reply(answer);
    };
  }
}

const mayAskAll = (verifier: Asker | null, asked: readonly Pick<Asked, 'authority'>[]): boolean =>
  verifier === null || asked.every(({ authority }) => authority === undefined || mayAsk(verifier, authority));

const unknown: CertStatus = { type: 'unknown' };

/** What is said of one certificate: shared by all answers that say it. */
const one = { good: ['good'], revoked: ['revoked'], unknown: ['unknown'] } as const;

/** null for a certificate that was never issued. */
function stampAt(place: Place | 'never-issued' | 'unissued'): Stamp | null {
  if (place === 'never-issued') return null;
  return place === 'unissued' ? stampOf.unissued : place.segment.stamp(place.offset);
}

function parseOrNull(request: Buffer): OcspRequest | null {
  try {
    return parseOcspRequest(request);
  } catch (error) {
    if (error instanceof DerError) return null;
    throw error;
  }
}
