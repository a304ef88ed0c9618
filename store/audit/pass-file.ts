import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { digest, equal, hex } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { replaceDurably } from '../../core/runtime/durable-file.ts';
import type { AuditKey } from '../engine/audit-key.ts';
import type { RecordReader } from '../engine/record.ts';
import type { PassState } from './audit-pass.ts';
import { auditedTables } from './table-rows.ts';

/**
 * How long ago the pass of a state may have begun. Who can write files can put an earlier one back before a process starts, and hide for so
 * long what was altered behind it.
 */
const ageMsMax = 7 * 24 * 3_600_000;

interface Saved {
  /** Of the record: see `identityOf`. */
  readonly record: string;
  /** When the pass began, which resuming it does not change. */
  readonly begunMs: number;
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
  readonly #purpose: 'verify' | 'watch';
  /** Of the record that is verified. */
  #record = '';
  #begunMs = 0;

  /** States of one purpose are not those of another: the watch compares no checkpoints. */
  constructor(file: string, purpose: 'verify' | 'watch', { key, clock }: { key: AuditKey; clock: Clock }) {
    this.#file = file;
    this.#key = key;
    this.#clock = clock;
    this.#purpose = purpose;
  }

  /** Begins a pass over this record. To be called before `write`, and instead of `resume` where none is to be continued. */
  begin(reader: RecordReader): void {
    this.#record = identityOf(reader);
    this.#begunMs = this.#clock.wallMs();
  }

  /** The state of an unfinished pass over this record; undefined where there is none that can be continued, and another begins. */
  resume(reader: RecordReader): PassState | undefined {
    this.begin(reader);
    const saved = this.#read();
    if (!saved || saved.record !== this.#record) return undefined;
    const age = this.#clock.wallMs() - saved.begunMs;
    if (age < 0 || age >= ageMsMax) return undefined;
    this.#begunMs = saved.begunMs;
    return saved.state;
  }

  #read(): Saved | undefined {
    if (!existsSync(this.#file)) return undefined;
    const [mac = '', text = ''] = readFileSync(this.#file, 'utf8').split('\n');
    return equal(Buffer.from(mac), Buffer.from(this.#macOf(text))) ? (JSON.parse(text) as Saved) : undefined;
  }

  write(state: PassState): void {
    mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
    const saved: Saved = { record: this.#record, begunMs: this.#begunMs, state };
    const text = JSON.stringify(saved);
    replaceDurably(this.#file, `${this.#macOf(text)}\n${text}\n`);
  }

  remove(): void {
    rmSync(this.#file, { force: true });
  }

  /** Hex. */
  #macOf(text: string): string {
    return hex(this.#key.authenticate(digest('sha256', `warifu audit pass of ${this.#purpose}\n${text}`)));
  }
}

/** A record and the shape of its tables: a state means nothing in another. */
function identityOf(reader: RecordReader): string {
  const [incarnation, schema] = ['incarnation', 'schema'].map((name) => reader.get('meta', { name })?.value);
  return JSON.stringify([incarnation, schema, auditedTables]);
}
