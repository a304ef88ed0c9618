import {
  closeSync,
  createReadStream,
  existsSync,
  fstatSync,
  fsync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { PkiError } from '../runtime/errors.ts';
import type { FeedBatch, FeedCursor, FeedEvent, FeedFollower } from './feed.ts';
import type { JournalSeal } from './journal-seal.ts';

const syncFile = promisify(fsync);

/** A batch as it stands on one line of a journal. */
type JournalLine = Pick<FeedBatch, 'events' | 'cursor' | 'from' | 'proof'>;

const lineOf = ({ events, cursor, from, proof }: FeedBatch): JournalLine => ({
  events,
  cursor,
  ...(from === undefined ? {} : { from }),
  ...(proof === undefined ? {} : { proof }),
});

/** How far a journal goes: the cursor to follow from, and where in the file the line behind it begins. */
export interface JournalMark {
  readonly cursor: FeedCursor;
  readonly octets: number;
}

/**
 * What a follower has received, on its own disk: it goes on from there after a restart, and a CA that was restored
 * from an older backup learns from it what it has forgotten. Holds no key, and of persons nothing that is not sealed.
 *
 * One line a batch. A line that a crash cut short is cut off: the feed delivers it again.
 */
export class FeedJournal {
  readonly #file: string;
  #mark: JournalMark | undefined;
  /** Whether its last line is known to be whole. */
  #isWhole = false;

  constructor(file: string) {
    this.#file = file;
  }

  /** How far it goes by what was played back or written through this object; undefined for an empty journal. */
  get mark(): JournalMark | undefined {
    return this.#mark;
  }

  /**
   * Plays everything back, or what stands behind a mark, and returns the cursor to go on from; undefined for an empty
   * journal.
   */
  async replay(follower: FeedFollower, from?: JournalMark): Promise<FeedCursor | undefined> {
    this.#mark = from;
    for await (const { line, end } of readJournal(this.#file, 'repair', from?.octets)) {
      await follower.apply({ ...line, watermarkMs: 0 });
      this.#mark = { cursor: line.cursor, octets: end };
    }
    return this.#mark?.cursor;
  }

  /** Whether a mark can be of this journal. */
  reaches({ octets }: JournalMark): boolean {
    return existsSync(this.#file) && statSync(this.#file).size >= octets;
  }

  /**
   * Remembers a batch, for followers that know by themselves where they are: before they apply it, so that the journal
   * never lacks what they know.
   */
  async remember(batch: FeedBatch): Promise<void> {
    if (batch.events.length === 0) return;
    mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
    if (!this.#isWhole) mend(this.#file);
    this.#isWhole = true;
    await this.#append(lineOf(batch));
  }

  /** A follower that applies to another and remembers. */
  recording(follower: FeedFollower): FeedFollower {
    mkdirSync(dirname(this.#file), { recursive: true, mode: 0o700 });
    return {
      apply: async (batch) => {
        await follower.apply(batch);
        if (batch.events.length > 0) await this.#append(lineOf(batch));
      },
    };
  }

  /**
   * A whole line or nothing: what a full disk leaves of one is cut off, so that the next does not follow it. One at a time: a feed
   * waits for its follower.
   */
  async #append(line: JournalLine): Promise<void> {
    const descriptor = openSync(this.#file, 'a', 0o600);
    try {
      const { size } = fstatSync(descriptor);
      try {
        writeFileSync(descriptor, `${JSON.stringify(line)}\n`);
        await syncFile(descriptor);
        this.#mark = { cursor: line.cursor, octets: fstatSync(descriptor).size };
      } catch (error) {
        ftruncateSync(descriptor, size);
        throw new PkiError('record-unavailable', 'the journal of the feed cannot be written', {
          cause: error,
        });
      }
    } finally {
      closeSync(descriptor);
    }
  }

  /** Renames the journal, so that following starts from the beginning; its content is kept. */
  setAside(suffix: string): void {
    this.#mark = undefined;
    if (!existsSync(this.#file)) return;
    // None that was set aside before is overwritten.
    let aside = `${this.#file}.${suffix}`;
    for (let n = 2; existsSync(aside); n++) aside = `${this.#file}.${suffix}-${n}`;
    renameSync(this.#file, aside);
  }
}

/** Cuts off a last line that a crash cut short. */
function mend(file: string): void {
  if (!existsSync(file)) return;
  const descriptor = openSync(file, 'r');
  try {
    const octet = Buffer.alloc(1);
    let end = fstatSync(descriptor).size;
    while (end > 0 && readSync(descriptor, octet, 0, 1, end - 1) === 1 && octet[0] !== 0x0a) end -= 1;
    if (end < fstatSync(descriptor).size) truncateSync(file, end);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Lines of a journal from an offset on, as a stream, with the offset behind each; one that was cut short at the end is
 * left out, and with `repair` cut off.
 */
async function* readJournal(
  file: string,
  torn: 'repair' | 'ignore',
  from = 0,
): AsyncIterable<{ line: JournalLine; end: number }> {
  if (!existsSync(file)) return;
  let good = from;
  for await (const line of createInterface({
    input: createReadStream(file, { start: from }),
    crlfDelay: Number.POSITIVE_INFINITY,
  })) {
    const end = good + Buffer.byteLength(line) + 1;
    if (end > statSync(file).size) break;
    yield { line: parsed(line, file), end };
    good = end;
  }
  if (torn === 'repair' && good < statSync(file).size) truncateSync(file, good);
}

function parsed(line: string, file: string): JournalLine {
  try {
    return JSON.parse(line) as JournalLine;
  } catch (error) {
    throw new PkiError('bad-request', `${file}: a line is no JSON: it was altered`, { cause: error });
  }
}

/** Events of one writer that a journal has: those behind `from`, up to `to`. */
export interface JournalSpan {
  readonly incarnation: string;
  readonly writer: string;
  readonly from: number;
  readonly to: number;
}

/** What journals hold, as a restored CA reads it. */
export interface JournalContent {
  readonly events: readonly FeedEvent[];
  /** How far they go: by incarnation of the record, then by writer. */
  readonly heads: ReadonlyMap<string, ReadonlyMap<string, number>>;
  readonly spans: readonly JournalSpan[];
  /** What is for the CA alone, and of which incarnation of the record. */
  readonly sealed: readonly { readonly incarnation: string; readonly text: string }[];
  /** Whether the CA's own proof stands on every line. */
  readonly isProven: boolean;
}

/** How a journal is believed. */
export interface JournalTrust {
  /** What knows the CA's proofs; null where the backup has no key for them. */
  readonly seal: JournalSeal | null;
  /** Lines without a proof are believed too. */
  readonly acceptUnproven: boolean;
}

/**
 * All that a journal holds. Throws `bad-request`, with the number of the line, where one was forged or altered, or has no proof
 * and that is not accepted.
 */
export async function journalContent(file: string, trust: JournalTrust): Promise<JournalContent> {
  const events: FeedEvent[] = [];
  const spans: JournalSpan[] = [];
  const sealed: { incarnation: string; text: string }[] = [];
  const heads = new Map<string, Map<string, number>>();
  let isProven = true;
  let before: FeedCursor | undefined;
  let number = 0;
  for await (const { line } of readJournal(file, 'ignore')) {
    number += 1;
    isProven = isTrusted(line, trust, `${file}: line ${number}`) && isProven;
    const { incarnation, positions } = line.cursor;
    raise(heads, incarnation, Object.entries(positions));
    const from = line.from ?? (before?.incarnation === incarnation ? before.positions : {});
    for (const [writer, to] of Object.entries(positions))
      spans.push({ incarnation, writer, from: from[writer] ?? 0, to });
    for (const event of line.events) {
      if (event.type === 'sealed') sealed.push({ incarnation, text: event.sealed });
      else events.push(event);
    }
    before = line.cursor;
  }
  return { events, heads, spans: joined(spans), sealed, isProven };
}

/** Whether a line has the CA's proof; throws where it must, or has another. */
function isTrusted(line: JournalLine, { seal, acceptUnproven }: JournalTrust, where: string): boolean {
  const { proof } = line;
  if (proof !== undefined && seal) {
    if (seal.proves(line, proof)) return true;
    throw new PkiError('bad-request', `${where} was forged or altered`);
  }
  if (acceptUnproven) return false;
  const why = seal
    ? 'it is of an earlier version of the CA, or forged'
    : 'the backup is of an earlier version';
  throw new PkiError(
    'bad-request',
    `${where} has no proof that this CA sent it: ${why}. --accept-unproven believes it nevertheless`,
  );
}

/** Spans that begin where another ends, as one. */
function joined(spans: readonly JournalSpan[]): JournalSpan[] {
  const last = new Map<string, JournalSpan>();
  const done: JournalSpan[] = [];
  for (const span of spans) {
    const name = JSON.stringify([span.incarnation, span.writer]);
    const open = last.get(name);
    if (open && span.from <= open.to && span.from >= open.from)
      last.set(name, { ...open, to: Math.max(open.to, span.to) });
    else {
      if (open) done.push(open);
      last.set(name, span);
    }
  }
  return [...done, ...last.values()];
}

/** Up to where events are known without a gap, of those behind `start`. */
export function reachOf(
  spans: readonly JournalSpan[],
  of: { readonly incarnation: string; readonly writer: string; readonly start: number },
): number {
  let reach = of.start;
  const own = spans
    .filter(({ incarnation, writer }) => incarnation === of.incarnation && writer === of.writer)
    .sort((a, b) => a.from - b.from);
  for (const { from, to } of own) {
    if (from > reach) break;
    reach = Math.max(reach, to);
  }
  return reach;
}

/** Several journals as one. */
export function mergeJournals(journals: readonly JournalContent[]): JournalContent {
  const heads = new Map<string, Map<string, number>>();
  for (const journal of journals)
    for (const [incarnation, positions] of journal.heads) raise(heads, incarnation, positions);
  return {
    events: journals.flatMap(({ events }) => events),
    heads,
    spans: journals.flatMap(({ spans }) => spans),
    sealed: journals.flatMap(({ sealed }) => sealed),
    isProven: journals.every(({ isProven }) => isProven),
  };
}

function raise(
  heads: Map<string, Map<string, number>>,
  incarnation: string,
  positions: Iterable<readonly [string, number]>,
): void {
  const known = heads.get(incarnation) ?? new Map<string, number>();
  heads.set(incarnation, known);
  for (const [writer, position] of positions) known.set(writer, Math.max(position, known.get(writer) ?? 0));
}

/** Octets that are read at a time, from the end of a journal back. */
const tailOctets = 1_048_576;

/** The cursor of a journal's last whole line; undefined where it has none. */
export function lastCursor(file: string): FeedCursor | undefined {
  if (!existsSync(file)) return undefined;
  const descriptor = openSync(file, 'r');
  try {
    let tail = Buffer.alloc(0);
    for (let from = fstatSync(descriptor).size; from > 0; ) {
      const length = Math.min(tailOctets, from);
      from -= length;
      const chunk = Buffer.alloc(length);
      readSync(descriptor, chunk, 0, length, from);
      tail = Buffer.concat([chunk, tail]);
      const end = tail.lastIndexOf(0x0a);
      const start = end < 0 ? -1 : tail.lastIndexOf(0x0a, end - 1);
      if (end < 0 || (start < 0 && from > 0)) continue;
      return (JSON.parse(tail.toString('utf8', start + 1, end)) as JournalLine).cursor;
    }
    return undefined;
  } finally {
    closeSync(descriptor);
  }
}
