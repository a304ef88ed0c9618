import { subjectPublicKeyBits, verifySignature } from '../core/algorithms.ts';
import { type Bytes, digest, hex } from '../core/bytes.ts';
import { parseCertificate } from '../core/certificate-reader.ts';
import type { Clock } from '../core/clock.ts';
import { DerError } from '../core/der-reader.ts';
import { PkiError } from '../core/errors.ts';
import type { Signer } from '../core/signer.ts';
import { type CertId, type CertIdHash, type OcspRequest, parseOcspRequest } from './request.ts';
import {
  type CertStatus,
  encodeErrorResponse,
  encodeResponse,
  encodeResponseData,
  type OcspErrorStatus,
} from './response.ts';
import type { StatusIndex } from './status-index.ts';

/** A delegated responder for one authority (RFC 6960 §4.2.2.2). */
export interface ResponderKey {
  readonly authority: string;
  readonly signer: Signer<'ocsp'>;
  /** Certificate DER. */
  readonly certificate: Bytes;
  readonly notAfterMs: number;
}

export interface OcspAnswer {
  readonly der: Bytes;
  /** Present where the answer may be cached: it is signed and repeats no nonce. */
  readonly cacheable: { readonly thisUpdateMs: number; readonly nextUpdateMs: number } | null;
}

/** The four hashes that CertID may use, of one authority's name and key. */
type AuthorityHashes = Readonly<Record<CertIdHash, { readonly name: string; readonly key: string }>>;

const hashNames = ['sha1', 'sha256', 'sha384', 'sha512'] as const;

/** Why there is no signed answer; thrown within this file only. */
class Refusal extends Error {
  readonly status: OcspErrorStatus;

  constructor(status: OcspErrorStatus) {
    super(status);
    this.status = status;
  }
}

/** Answers OCSP requests from a status index. Knows nothing of HTTP. */
export class Responder {
  readonly #index: StatusIndex;
  #keys: ReadonlyMap<string, ResponderKey> = new Map();
  readonly #clock: Clock;
  readonly #responseValidityMs: number;
  readonly #feedLagMsMax: number;
  readonly #hashes = new Map<string, AuthorityHashes>();

  constructor(options: {
    index: StatusIndex;
    keys: readonly ResponderKey[];
    clock: Clock;
    responseValidityMs: number;
    feedLagMsMax: number;
  }) {
    this.#index = options.index;
    this.setKeys(options.keys);
    this.#clock = options.clock;
    this.#responseValidityMs = options.responseValidityMs;
    this.#feedLagMsMax = options.feedLagMsMax;
  }

  /** From the next request on these sign: how a certificate is replaced before it ends. */
  setKeys(keys: readonly ResponderKey[]): void {
    this.#keys = new Map(keys.map((key) => [key.authority, key]));
  }

  /**
   * Always answers, with an error status where it cannot sign: malformedRequest; unauthorized for an issuer it
   * does not serve (RFC 5019 §2.2.3); tryLater while its feed lags or its token is busy or gone.
   */
  async answer(request: Bytes): Promise<OcspAnswer> {
    try {
      return await this.#sign(parseOcspRequest(request));
    } catch (error) {
      return { der: encodeErrorResponse(statusFor(error)), cacheable: null };
    }
  }

  async #sign({ certIds, nonce }: OcspRequest): Promise<OcspAnswer> {
    const nowMs = this.#clock.wallMs();
    // The watermark, not the clock: the time at which the status is known to be right.
    const thisUpdateMs = Math.min(this.#index.watermarkMs, nowMs);
    if (this.#index.lagMs > this.#feedLagMsMax) throw new Refusal('tryLater');
    const key = this.#keyFor(certIds);
    const nextUpdateMs = Math.min(thisUpdateMs + this.#responseValidityMs, key.notAfterMs);
    if (nextUpdateMs <= nowMs) throw new Refusal('tryLater');
    const responseData = encodeResponseData({
      responderKeyHash: digest('sha1', subjectPublicKeyBits(key.signer.publicKey)),
      producedMs: nowMs,
      thisUpdateMs,
      nextUpdateMs,
      responses: certIds.map(({ encoded, serial }) => ({
        certId: encoded,
        status: certStatus(this.#index.lookup(key.authority, serial)),
      })),
      nonce,
    });
    const signature = await key.signer.sign(responseData);
    if (!verifySignature(key.signer.suite, key.signer.publicKey, responseData, signature))
      throw new Refusal('tryLater');
    const der = encodeResponse(responseData, key.signer.suite, signature, key.certificate);
    return { der, cacheable: nonce ? null : { thisUpdateMs, nextUpdateMs } };
  }

  /** One response has one signer: certificates of several issuers in one request are refused. */
  #keyFor(certIds: readonly CertId[]): ResponderKey {
    const names = new Set(certIds.map((certId) => this.#authorityOf(certId)));
    const [name] = names;
    const key = name === undefined ? undefined : this.#keys.get(name);
    if (names.size !== 1 || !key) throw new Refusal('unauthorized');
    return key;
  }

  #authorityOf({ hash, issuerNameHash, issuerKeyHash }: CertId): string | undefined {
    if (!hash) return undefined;
    for (const [name, certificate] of this.#index.authorities) {
      const hashes = this.#hashes.get(name) ?? authorityHashes(certificate);
      this.#hashes.set(name, hashes);
      if (hashes[hash].key === hex(issuerKeyHash) && hashes[hash].name === hex(issuerNameHash)) return name;
    }
    return undefined;
  }
}

function statusFor(error: unknown): OcspErrorStatus {
  if (error instanceof Refusal) return error.status;
  if (error instanceof DerError) return 'malformedRequest';
  if (error instanceof PkiError && (error.code === 'overloaded' || error.code === 'token-unavailable'))
    return 'tryLater';
  return 'internalError';
}

/** Hold is reported as revoked with its reason (RFC 6960 §2.2). Retired is not never-issued, and no longer answered for. */
function certStatus(indexed: ReturnType<StatusIndex['lookup']>): CertStatus {
  if (indexed.type === 'revoked') return indexed;
  return { type: indexed.type === 'good' ? 'good' : 'unknown' };
}

function authorityHashes(certificate: Bytes): AuthorityHashes {
  const { subject, publicKey } = parseCertificate(certificate);
  const key = subjectPublicKeyBits(publicKey);
  const of = (hash: CertIdHash) => ({ name: hex(digest(hash, subject)), key: hex(digest(hash, key)) });
  return Object.fromEntries(hashNames.map((hash) => [hash, of(hash)])) as AuthorityHashes;
}
