import type { KeyWrapper } from '../../core/crypto/signer.ts';
import type { Actor } from '../api/certificate-store.ts';
import type { Checkpoint } from '../audit/checkpoints.ts';
import type { AuditHead } from '../audit/finding.ts';
import type { RecordReader } from '../engine/record.ts';
import type { MigratedRecord } from '../sqlite/migration-connection.ts';

/** What a step needs besides the record. */
export interface MigrationContext {
  readonly keyWrapper: KeyWrapper;
  readonly actor: Actor;
  /** Reads the heads that were signed of the record's chains, in every incarnation of it. */
  readonly checkpoints: () => Promise<readonly Pick<Checkpoint, keyof AuditHead | 'incarnation'>[]>;
  /** The highest schema that the record has had, as the token remembers: an older one was put in its place. 0 where any may be. */
  readonly schemaSeen: number;
  readonly nowMs: number;
  /** Excludes a service from the record while it is migrated. Throws `in-use` where one runs. */
  readonly lock: () => { release(): void };
}

/** Where the caller has the record to itself. */
export const notLocked = { release: (): void => undefined };

/** One step: from a schema to the next. */
export interface Migration {
  readonly from: string;
  readonly to: string;
  /** Upper bound of what the step writes, as a fraction of the record's size. */
  readonly writes: number;
  /** Prepares outside of the transaction what has to be awaited, reading what no later act changes; gives what is done within it. */
  prepare(context: MigrationContext, reader: RecordReader): Promise<(record: MigratedRecord) => void>;
}
