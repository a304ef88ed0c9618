import type { Logger } from 'pino';
import type { RecordLookup } from './record-lookup.ts';
import type { LoggedEntry } from './signing-log.ts';

/** Signatures that are looked for with each pass: a record that was put in the place of a later one lacks the last. */
const lastMax = 200;
/** Of what was signed before the start, with each pass. */
const atOnceMax = 5000;

/**
 * Compares the signer’s log with the record, all the time. What is signed was on record before (`Judge`); here is looked whether it still is:
 * all of the log’s last file once, and the last signatures again and again.
 */
export class LogWatch {
  readonly #record: Pick<RecordLookup, 'areOnRecord' | 'refresh'>;
  readonly #logger: Pick<Logger, 'error' | 'info'>;
  readonly #before: LoggedEntry[];
  /** By what was signed: repetitions push out nothing. */
  readonly #last = new Map<string, LoggedEntry>();
  readonly #missing = new Map<number, LoggedEntry>();
  #said = 0;

  /** `found`: what the log says of the time before. */
  constructor(
    record: Pick<RecordLookup, 'areOnRecord' | 'refresh'>,
    found: readonly LoggedEntry[],
    logger: Pick<Logger, 'error' | 'info'>,
  ) {
    this.#record = record;
    this.#logger = logger;
    this.#before = found.filter(isCertificate);
    this.signed(this.#before.slice(-lastMax));
  }

  /** Whether there is anything to be compared. */
  get isWanted(): boolean {
    return this.#last.size + this.#before.length > 0;
  }

  signed(entries: readonly LoggedEntry[]): void {
    for (const entry of entries.filter(isCertificate)) {
      if (this.#last.has(entry.subject)) continue;
      this.#last.set(entry.subject, entry);
      const [oldest] = this.#last.keys();
      if (this.#last.size > lastMax && oldest !== undefined) this.#last.delete(oldest);
    }
  }

  /** One pass. Rejects where the record cannot be read: then it is looked for again. */
  async look(): Promise<void> {
    await this.#record.refresh();
    const before = this.#before.slice(0, atOnceMax);
    const entries = [...new Set([...before, ...this.#last.values(), ...this.#missing.values()])];
    if (entries.length === 0) return;
    const found = await this.#record.areOnRecord(entries.map(subjectOf));
    this.#before.splice(0, before.length);
    for (const [i, entry] of entries.entries()) {
      if (found[i]) this.#missing.delete(entry.sequence);
      else if (this.#missing.size < atOnceMax) this.#missing.set(entry.sequence, entry);
    }
    this.#tell();
  }

  #tell(): void {
    const { size } = this.#missing;
    const [first] = this.#missing.values();
    if (first && size > this.#said)
      this.#logger.error(
        {
          ...{ signatures: size, first: first.sequence, subject: first.subject },
          act: 'stop the service; find out whether the record was put back to an earlier state, or who else could sign',
        },
        'ALARM: the signer has signed certificates that are not on record',
      );
    if (size === 0 && this.#said > 0) this.#logger.info('all that the signer has signed is on record again');
    this.#said = size;
  }
}

const isCertificate = ({ purpose }: LoggedEntry): boolean => purpose === 'certificate';

function subjectOf({ subject }: LoggedEntry) {
  const [authority = '', epoch, position] = subject.split('/');
  if (position === undefined) return { serialNumber: epoch ?? '' };
  return { key: { authority, epoch: Number(epoch), position: Number(position) } };
}
