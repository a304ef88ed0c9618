import type { HealDepth, KeySpec } from '../../core/crypto/signer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Pkcs11Options } from '../../hsm/config/options.ts';
import type { OcspOptions } from '../config/options.ts';
import type { IndexUpdate } from '../index/index-reader.ts';
import type { ListenerOptions } from './listener.ts';

// What the main thread and its listening threads say to each other.

/** A responder's key, in a form that can be sent to a thread. */
export interface ThreadKey {
  readonly authority: string;
  /** Certificate DER. */
  readonly certificate: Bytes;
  readonly key: KeySpec;
  /** SubjectPublicKeyInfo DER. */
  readonly publicKey: Bytes;
}

/** What a thread begins with. */
export interface ThreadStart
  extends Pick<ListenerOptions, 'config' | 'time' | 'tls' | 'askedFolder' | 'thread'> {
  readonly keys: readonly ThreadKey[];
  /** See `Clock.shift`. */
  readonly shift: SharedArrayBuffer | null;
  /** See `giveWay`. */
  readonly niceness: number;
  /** See `roomForCounts`. */
  readonly counts: SharedArrayBuffer;
  readonly pkcs11: Pkcs11Options;
}

/** What a thread is sent; it answers each with its id once it has taken effect. */
export type ThreadMessage =
  | { readonly type: 'update'; readonly update: IndexUpdate }
  | { readonly type: 'keys'; readonly keys: readonly ThreadKey[] }
  | {
      readonly type: 'verifiers';
      readonly verifiers: OcspOptions['verifiers'];
      readonly tls: ThreadStart['tls'];
    }
  /** The module is about to be initialized again: no call into it from then on. */
  | { readonly type: 'pause' }
  | { readonly type: 'resume'; readonly depth: HealDepth }
  /** The module was healed, or could not be: callers that wait for it try again. */
  | { readonly type: 'healed' }
  /** The index is as it should be: from now on anybody may ask. */
  | { readonly type: 'listen' }
  /** Answers these requests as if a client had sent them, and keeps the answers. */
  | { readonly type: 'presign'; readonly requests: readonly Bytes[] };

/** To `presign`: responses that may be kept, DER; null where there is none now. To all else, none. */
export type Answers = readonly (Bytes | null)[];

/** All that a thread says of itself: the token failed, and a new session did not help. */
export interface FromThread {
  readonly type: 'heal';
}
