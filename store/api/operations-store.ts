import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { DeviceMatch } from '../../core/model/device.ts';
import type { RevocationReason } from '../../core/model/revocation.ts';
import type { OperatorCommand } from './outcome.ts';
import type { SwitchName } from './switch-names.ts';

// What operators do that concerns no single holder.

export interface Switch {
  readonly name: SwitchName;
  readonly state: 'open' | 'limited' | 'closed';
  /** Where limited: acts a minute, of one node. */
  readonly perMinute: number | null;
  /** Shown to callers that are refused. */
  readonly note: string;
  readonly changedMs: number | null;
  /** Fingerprint of the client who did. */
  readonly changedBy: string | null;
}

/** A usage restriction: enrolments of phones it matches are refused while it is in force. */
export interface Restriction {
  readonly restrictionId: string;
  readonly match: DeviceMatch;
  readonly note: string;
  readonly state: 'proposed' | 'in-force' | 'ended' | 'withdrawn';
  readonly createdMs: number;
  readonly acts: readonly BulkOperation[];
}

/** What is done to the certificates of all phones of a restriction. */
export interface BulkOperation {
  readonly actId: string;
  readonly restrictionId: string;
  readonly action: 'hold' | 'release' | 'revoke';
  /** Of a revocation. */
  readonly reason: RevocationReason | null;
  readonly state: 'proposed' | 'running' | 'done' | 'withdrawn';
  /** Fingerprints of clients. */
  readonly proposedBy: string;
  readonly proposedMs: number;
  readonly approvedBy: string | null;
  readonly approvedMs: number | null;
  /** So far: phones that match with a certificate in force, and such certificates. */
  readonly phones: number;
  readonly certificates: number;
  readonly finishedMs: number | null;
}

/** What may be read in bulk. */
export const exportKinds = ['renewals', 'accesses'] as const;

/** That a client may read something in bulk, for a time. */
export interface Export {
  readonly exportId: string;
  readonly client: string;
  readonly what: (typeof exportKinds)[number];
  readonly holderId: string | null;
  /** The legal ground. */
  readonly ground: string;
  readonly expiresMs: number;
}

/** How far the pass of a bulk operation over the phones has come. */
export interface BulkProgress {
  readonly operation: BulkOperation;
  /** Certificates that this step passed over, because their rows were altered. */
  readonly altered: readonly CertificateId[];
}

/** What operators set and start; durability, concurrency and errors as of `CertificateStore`. */
export interface OperationsStore {
  /** All switches, also those that were never touched. */
  switches(): Promise<readonly Switch[]>;
  /** Allows the configuration of that digest: production starts with it from then on, and with no other. */
  allowConfiguration(
    command: OperatorCommand & { readonly edited: string },
  ): Promise<{ readonly edited: string }>;
  allowExport(command: OperatorCommand & Omit<Export, 'client'>): Promise<Export>;
  export(exportId: string): Promise<Export | undefined>;
  /** Counts from the next reservation on. */
  setSwitch(
    command: OperatorCommand & Pick<Switch, 'name' | 'state' | 'perMinute' | 'note'>,
  ): Promise<Switch>;

  /** How many phones match now, and certificates of theirs that are good. Reads bit by bit; writes nothing. */
  countMatching(match: DeviceMatch): Promise<{ readonly phones: number; readonly certificates: number }>;
  /** Proposes a restriction, with the bulk operation that holds all that matches; in an emergency that is in effect at once. */
  proposeRestriction(
    command: OperatorCommand &
      Pick<Restriction, 'restrictionId' | 'match' | 'note'> & { readonly isEmergency?: boolean },
  ): Promise<Restriction>;
  /** Proposes to release, or revoke, what a restriction in force holds. `illegal-transition` where it is not. */
  proposeEnd(
    command: OperatorCommand &
      Pick<BulkOperation, 'restrictionId' | 'reason'> & { readonly action: 'release' | 'revoke' },
  ): Promise<Restriction>;
  /**
   * Approves a bulk operation: it is in effect, for all phones that match; one of an emergency is already. `forbidden`
   * to the client that proposed it; `illegal-transition` unless it waits for that, and no other operation of the restriction runs.
   */
  approve(command: OperatorCommand & Pick<BulkOperation, 'actId'>): Promise<Restriction>;
  /** Withdraws a bulk operation that is proposed. */
  withdraw(command: OperatorCommand & Pick<BulkOperation, 'actId'>): Promise<Restriction>;
  restrictions(): Promise<readonly Restriction[]>;
  restriction(restrictionId: string): Promise<Restriction | undefined>;
  runningActs(): Promise<readonly BulkOperation[]>;
  /**
   * Takes the next step of a running operation, which is in effect already: counts phones, and writes the notices and orders of some. Resolves
   * with the operation as it then stands.
   */
  advance(actId: string): Promise<BulkProgress>;
  /** Resolves when followers know of all that was done before. */
  deliver(): Promise<void>;
}
