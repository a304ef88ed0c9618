import type { KeyWrapper } from '../../core/crypto/signer.ts';
import type { Actor } from '../api/certificate-store.ts';
import type { MigratedRecord } from '../sqlite/migrated.ts';

/** What a step needs beside the record. */
export interface MigrationContext {
  readonly keyWrapper: KeyWrapper;
  readonly actor: Actor;
  readonly nowMs: number;
}

/** One step: from a schema to the next. */
export interface Migration {
  readonly from: string;
  readonly to: string;
  /** What share of the record's size the step writes, at most. */
  readonly writes: number;
  /** Prepares outside of the transaction what has to be awaited; gives what is done within it. */
  prepare(context: MigrationContext): Promise<(record: MigratedRecord) => void>;
}
