import {
  closeSync,
  createReadStream,
  createWriteStream,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { linesOf } from '../http/lines.ts';
import { syncFolder } from '../runtime/durable-file.ts';
import { PkiError } from '../runtime/errors.ts';

// The files of a journal: `journal.ndjson` is written to, `journal.ndjson.000001` and so on were closed, and are compressed to
// `journal.ndjson.000001.gz`. A journal that was set aside keeps its files under another name of the same form.

export interface JournalSegment {
  /** From 1 on. */
  readonly number: number;
  readonly path: string;
  readonly isCompressed: boolean;
}

const numberDigits = 6;

/** Closed segments of a journal, in order. Where one is there both as it was and compressed, the first: the other may not be whole. */
export function closedSegments(file: string): JournalSegment[] {
  const folder = dirname(file);
  if (!existsSync(folder)) return [];
  const found = new Map<number, JournalSegment>();
  for (const name of readdirSync(folder)) {
    if (!name.startsWith(`${basename(file)}.`)) continue;
    const [, digits, gz] = /^(\d{6})(\.gz)?$/.exec(name.slice(basename(file).length + 1)) ?? [];
    if (digits === undefined) continue;
    const segment = { number: Number(digits), path: join(folder, name), isCompressed: gz !== undefined };
    if (!gz || !found.has(segment.number)) found.set(segment.number, segment);
  }
  return [...found.values()].sort((a, b) => a.number - b.number);
}

/** The number of the segment that is written to. */
export const openNumber = (file: string): number => (closedSegments(file).at(-1)?.number ?? 0) + 1;

/** All segments of a journal, in order, the one that is written to last. */
export function segmentsOf(file: string): JournalSegment[] {
  const closed = closedSegments(file);
  if (!existsSync(file)) return closed;
  return [...closed, { number: (closed.at(-1)?.number ?? 0) + 1, path: file, isCompressed: false }];
}

/** Closes the segment that is written to: it is durable already. */
export function closeSegment(file: string): void {
  renameSync(file, `${file}.${String(openNumber(file)).padStart(numberDigits, '0')}`);
  syncFolder(dirname(file));
}

/** Renames all files of a journal. */
export function renameJournal(file: string, to: string): void {
  for (const { path } of segmentsOf(file)) renameSync(path, `${to}${path.slice(file.length)}`);
}

export interface TidyOptions {
  readonly beforeMs: number;
  readonly keepFrom: number;
  /** Ends it: what is compressed half is begun again the next time. */
  readonly signal: AbortSignal;
}

/**
 * Compresses closed segments, and removes those whose last line was written before `beforeMs`, if their number is below `keepFrom`. The
 * last closed one always stays: numbers go on from it. Meanwhile the journal may be written to, and read.
 */
export async function tidySegments(file: string, { beforeMs, keepFrom, signal }: TidyOptions): Promise<void> {
  const closed = closedSegments(file);
  // From the first on, and none behind one that stays: what is left is without a gap.
  let isRemoving = true;
  for (const { number, path, isCompressed } of closed) {
    if (signal.aborted) return;
    const isOver = statSync(path).mtimeMs < beforeMs && number < keepFrom && number !== closed.at(-1)?.number;
    isRemoving &&= isOver;
    if (isRemoving) rmSync(path);
    else if (!isCompressed) await compress(path, signal);
  }
}

/** Replaces a file by its compressed form, which is durable before the file is removed. */
async function compress(path: string, signal: AbortSignal): Promise<void> {
  const [unfinished, compressed] = [`${path}.gz.new`, `${path}.gz`];
  try {
    const written = createWriteStream(unfinished, { mode: 0o600 });
    await pipeline(createReadStream(path), createGzip(), written, { signal });
  } catch (error) {
    rmSync(unfinished, { force: true });
    if (signal.aborted) return;
    throw error;
  }
  const { atimeMs, mtimeMs } = statSync(path);
  utimesSync(unfinished, atimeMs / 1000, mtimeMs / 1000);
  const descriptor = openSync(unfinished, 'r+');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(unfinished, compressed);
  syncFolder(dirname(path));
  rmSync(path);
}

/** Octets of one line: those of one batch of the feed. */
const lineOctetsMax = 256 * 2 ** 20;

/**
 * Lines of a segment from an offset of its uncompressed octets on, as a stream, with the offset behind each. One that was cut short at the
 * end is left out. Throws `bad-request` where the segment is damaged.
 */
export async function* linesOfSegment(
  { path, isCompressed }: JournalSegment,
  from = 0,
): AsyncIterable<{ text: string; end: number }> {
  const octets = createReadStream(path, isCompressed ? {} : { start: from });
  const input = isCompressed ? octets.pipe(createGunzip()) : octets;
  if (isCompressed) octets.once('error', (error) => input.destroy(error));
  let end = isCompressed ? 0 : from;
  let size = isCompressed ? Number.POSITIVE_INFINITY : statSync(path).size;
  try {
    for await (const line of linesOf(input, lineOctetsMax)) {
      end += line.length + 1;
      // It may have grown meanwhile.
      if (end > size) size = statSync(path).size;
      if (end > size) return;
      if (end > from) yield { text: line.toString('utf8'), end };
    }
  } catch (error) {
    if (error instanceof PkiError) throw error;
    throw new PkiError('bad-request', `${path} is damaged: ${(error as Error).message}`, { cause: error });
  }
}
