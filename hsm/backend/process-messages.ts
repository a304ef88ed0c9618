import type { SuiteName } from '../../core/asn1/algorithms.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { ErrorCode } from '../../core/runtime/errors.ts';
import type { PinSource } from '../pkcs11/pin.ts';
import type { SigningTask } from '../pool/signing-task.ts';

/** A token and where its PIN is: the PIN itself is in no message. */
export interface TokenPlace {
  readonly label: string;
  readonly pin: PinSource;
}

/** What a signing process needs to know. */
export interface ProcessStart {
  readonly module: string;
  readonly softhsmFolder: string;
  /** See `guardLogins`. */
  readonly loginFolder: string;
  readonly tokens: readonly TokenPlace[];
}

/** An operation of a token other than signing. */
export type TokenCall = { readonly token: string } & (
  | { readonly call: 'findKeyPair'; readonly args: readonly [label: string, suite: SuiteName] }
  | {
      readonly call: 'wrap' | 'unwrap';
      readonly args: readonly [label: string, context: string, octets: Bytes];
    }
  | { readonly call: 'recall'; readonly args: readonly [name: string] }
  | { readonly call: 'remember'; readonly args: readonly [name: string, value: number] }
);

export type ToProcess =
  | { readonly type: 'start'; readonly start: ProcessStart }
  | { readonly type: 'sign'; readonly task: SigningTask }
  | { readonly type: 'token'; readonly call: TokenCall }
  | { readonly type: 'heal' };

/** A call of a long task has returned. */
export interface Heartbeat {
  readonly beat: true;
}

export type FromProcess =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly id: number; readonly ok: false; readonly code: ErrorCode; readonly detail: string };
