import type { KeySpec, SigningPurpose } from '../../core/crypto/signer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { ErrorCode } from '../../core/runtime/errors.ts';
import type { Packed } from '../../core/workers/pack.ts';

/** Several signatures with one key. */
export interface SigningTask {
  readonly key: KeySpec;
  readonly purpose: SigningPurpose;
  /** Digests of messages, or messages, which are then hashed where they are signed. */
  readonly form: 'digest' | 'message';
  readonly inputs: Packed;
  /** SubjectPublicKeyInfo DER: of messages every signature is verified before it is given out. */
  readonly publicKey: Bytes;
  /** File that gets a line for each digest, before it is signed. */
  readonly log: string | null;
}

/** Failures are data: structured clone would drop their class and code. */
export type SigningResult =
  | { readonly ok: true; readonly signatures: Packed }
  /** `refusal`: by a signer that has checked it; asking again, or another token, does not help. */
  | { readonly ok: false; readonly error: string; readonly refusal?: ErrorCode };

/**
 * Where signatures are made: threads of this process, processes of its own that are killed when a call does not return, or a
 * signer of another user.
 *
 * - `run` never rejects. A task whose worker died, or did not answer in time, comes back as an error: whatever it may
 *   still do is discarded. Signing again is always allowed.
 * - `heal` opens tokens and sessions again; rejects with `token-unavailable`.
 */
export interface SigningBackend {
  /** Tasks that can be under way at once. */
  readonly width: number;
  run(task: SigningTask): Promise<SigningResult>;
  heal(): Promise<void>;
  close(): Promise<void>;
}

/** What may be said of a failure of the module: its code, never a PIN. */
export const moduleError = (error: unknown): string =>
  /CKR_[A-Z_]+/.exec(String(error))?.[0] ?? 'the token failed';
