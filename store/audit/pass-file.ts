import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { digest, equal, hex } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { replaceDurably } from '../../core/runtime/durable-file.ts';
import type { AuditKey } from '../engine/audit-key.ts';
import type { RecordReader } from '../engine/record.ts';
import type { PassState } from './audit-pass.ts';
import { auditedTables } from './table-rows.ts';

/** How old a state may be. Who can write files can put an earlier one back, and hide for so long what was altered behind it. */
const ageMsMax = 24 * 3_600_000;

interface Saved {
  /** Of the record: see `identityOf`. */
  readonly record: string;
  readonly savedMs: number;
  readonly state: PassState;
}

/**
 * Where an unfinished pass stands, on disk, so that a process that ends does not begin it again. Authenticated under the key of the
 * audit chain: whatever else stands there is as good as nothing.
 */
export class PassFile {
  readonly #file: string;
  readonly #key: AuditKey;
  readonly #clock: Clock;
  /** Of the record that was read last. */
  #record = '';

  constructor(file: string, key: AuditKey, clock: Clock) {
    this.#file = file;
    this.#key = key;
    this.#clock = clock;
  }

  /** The state of an unfinished pass over this record; undefined where there is none that can be continued. To be called before `write`. */
  read(reader: RecordReader): PassState | undefined {
    this.#record = identityOf(reader);
    if (!existsSync(this.#file)) return undefined;
    const [mac = '', text = ''] = readFileSync(this.#file, 'utf8').split('\n');
    if (!equal(Buffer.from(mac), Buffer.from(this.#macOf(text)))) return undefined;
    const { record, savedMs, state } = JSON.parse(text) as Saved;
    const age = this.#clock.wallMs() - savedMs;
    return record === this.#record && age >= 0 && age < ageMsMax ? state : undefined;
  }

  write(state: PassState): void {
    mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
    const saved: Saved = { record: this.#record, savedMs: this.#clock.wallMs(), state };
    const text = JSON.stringify(saved);
    replaceDurably(this.#file, `${this.#macOf(text)}\n${text}\n`);
  }

  remove(): void {
    rmSync(this.#file, { force: true });
  }

  /** Hex. */
  #macOf(text: string): string {
    return hex(this.#key.authenticate(digest('sha256', `warifu audit pass\n${text}`)));
  }
}

/** A record and the shape of its tables: a state means nothing in another. */
function identityOf(reader: RecordReader): string {
  const [incarnation, schema] = ['incarnation', 'schema'].map((name) => reader.get('meta', { name })?.value);
  return JSON.stringify([incarnation, schema, auditedTables]);
}
