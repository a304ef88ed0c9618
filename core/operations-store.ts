import type { Actor, RequestScope, StoredReply } from './certificate-store.ts';

// What operators do that is about no one holder.

/** Functions that can be limited or closed. Revocation is none of them. */
export const switchNames = [
  'card-issuing',
  'card-renewal',
  'phone-enrolment',
  'phone-change',
  'phone-renewal',
  'release',
] as const;
export type SwitchName = (typeof switchNames)[number];

export interface Switch {
  readonly name: SwitchName;
  readonly state: 'open' | 'limited' | 'closed';
  /** Where limited: acts a minute, of one node. */
  readonly perMinute: number | null;
  /** Said to whoever is refused. */
  readonly note: string;
  readonly changedMs: number | null;
  /** Fingerprint of the client who did. */
  readonly changedBy: string | null;
}

/** A write of an operator, which happens once. */
export interface OperatorCommand<After> {
  readonly scope: RequestScope;
  readonly actor: Actor;
  /** Makes the answer, which is stored in the same transaction. */
  readonly reply: (after: After) => StoredReply;
}

/** What operators set and start; durability, concurrency and errors as of `CertificateStore`. */
export interface OperationsStore {
  /** All switches, also those that were never touched. */
  switches(): Promise<readonly Switch[]>;
  /** Counts from the next reservation on. */
  setSwitch(
    command: OperatorCommand<Switch> & Pick<Switch, 'name' | 'state' | 'perMinute' | 'note'>,
  ): Promise<void>;
}
