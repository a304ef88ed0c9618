import type { Suite, SuiteName } from '../asn1/algorithms.ts';
import type { Bytes } from '../runtime/bytes.ts';

/** What a key may sign. A signer is bound to one purpose where it is made, and the types keep it there. */
export type SigningPurpose = 'certificate' | 'crl' | 'ocsp' | 'audit' | 'message';

/**
 * A private key in a token, seen from outside.
 *
 * - Concurrency: `sign` may be called any number of times at once; a bounded queue holds what waits and rejects
 *   with `overloaded` when it is full.
 * - Errors: `overloaded`; `token-unavailable` when the token cannot be reached; an abort rejects with the
 *   signal's reason. A rejected call may still have signed: callers treat its bytes as possibly signed.
 * - Retry: signing the same bytes again is always allowed; a signer may do so by itself, elsewhere, and gives one result.
 * - Self-check: of purpose `certificate` nothing is given out that does not verify. CRLs are checked as a whole by who
 *   publishes them, OCSP responses by who signs them.
 */
export interface Signer<Purpose extends SigningPurpose = SigningPurpose> {
  readonly purpose: Purpose;
  readonly suite: Suite;
  /** SubjectPublicKeyInfo DER. */
  readonly publicKey: Bytes;
  /** Signs the message (not a digest of it); returns the signature as X.509 carries it. */
  sign(message: Bytes, signal?: AbortSignal): Promise<Bytes>;
}

/** A signer that also signs what was hashed elsewhere: the message may be large, and the token far away. */
export interface DigestSigner<Purpose extends SigningPurpose = SigningPurpose> extends Signer<Purpose> {
  /** `message`: it signs what it has read as a whole, and is given no digests. */
  readonly form: 'digest' | 'message';
  /** Signs a message of which only the digest, by the suite's hash, is at hand. */
  signDigest(digest: Bytes, signal?: AbortSignal): Promise<Bytes>;
}

/**
 * Wraps secrets (data keys, epoch keys) under a key that never leaves its token. `context` is authenticated:
 * what was wrapped for one use does not unwrap for another. Rejects with `token-unavailable`, also where the octets
 * were altered: the token does not say which.
 */
export interface KeyWrapper {
  wrap(context: string, secret: Bytes): Promise<Bytes>;
  unwrap(context: string, wrapped: Bytes): Promise<Bytes>;
}

/**
 * A few numbers the token remembers, each only ever rising: how a record learns that it is older than what has
 * already been issued from it.
 */
export interface TokenMemory {
  recall(name: string): Promise<number>;
  /** Durable once resolved. A lower value than remembered changes nothing. */
  remember(name: string, value: number): Promise<void>;
}

/** Which key of which token, and how to get at it: what a thread needs to sign by itself. Plain data, so that it can be sent to a thread. */
export interface KeySpec {
  readonly module: string;
  readonly tokenLabel: string;
  readonly keyLabel: string;
  readonly suite: SuiteName;
  /**
   * Whether signatures are made with a copy of the key that lives as long as the session (sensitive and not extractable
   * as the key itself). SoftHSM locks and reads a file for each use of a token object, and none for such a copy.
   * null: with SoftHSM only.
   */
  readonly copyKey: boolean | null;
}

/**
 * How far a module was opened again: sessions of its tokens, those of before to be closed by their users; or all of it, after
 * which sessions and handles of before mean nothing, or another's.
 */
export type HealDepth = 'sessions' | 'module';

/** What calls into a PKCS#11 module. */
export interface ModuleUser {
  /** Resolves once no call is under way; none is made until `resume`. */
  pause(): Promise<void>;
  /** Calls may be made again, in new sessions. */
  resume(depth: HealDepth): void;
}

/** What users of a module need of its gate. */
export interface Gate {
  /** Takes part; returns how to leave. */
  join(user: ModuleUser): () => void;
  /**
   * Reopens all sessions of the module while no thread uses it; after a recent attempt that failed, initializes the module
   * again. Concurrent calls share one attempt; calls that follow a failure are rejected for a growing interval. Rejects with
   * `token-unavailable`.
   */
  heal(): Promise<void>;
}
