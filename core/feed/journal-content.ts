import { PkiError } from '../runtime/errors.ts';
import type { FeedCursor, FeedEvent } from './feed.ts';
import { type JournalLine, parsed } from './feed-journal.ts';
import { linesOfSegment, segmentsOf } from './journal-files.ts';
import type { JournalSeal } from './journal-seal.ts';

// Journals as a CA reads them that is restored from a backup.

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
 * All that a journal holds, with the segments that were closed; of lines that `isNews` declines how far they go alone. Throws `bad-request`, with the number of the line, where one was forged or altered, or has no proof
 * and that is not accepted.
 */
export async function journalContent(
  file: string,
  trust: JournalTrust,
  isNews: (cursor: FeedCursor) => boolean = () => true,
): Promise<JournalContent> {
  const events: FeedEvent[] = [];
  const spans: JournalSpan[] = [];
  const sealed: { incarnation: string; text: string }[] = [];
  const heads = new Map<string, Map<string, number>>();
  let isProven = true;
  let before: FeedCursor | undefined;
  for await (const { line, where } of linesOf(file)) {
    isProven = isTrusted(line, trust, where) && isProven;
    const { incarnation, positions } = line.cursor;
    raise(heads, incarnation, Object.entries(positions));
    const from = line.from ?? (before?.incarnation === incarnation ? before.positions : {});
    for (const [writer, to] of Object.entries(positions))
      spans.push({ incarnation, writer, from: from[writer] ?? 0, to });
    before = line.cursor;
    if (!isNews(line.cursor)) continue;
    for (const event of line.events) {
      if (event.type === 'sealed') sealed.push({ incarnation, text: event.sealed });
      else events.push(event);
    }
  }
  return { events, heads, spans: joined(spans), sealed, isProven };
}

/** Lines of all segments of a journal, or of one segment; `where` names each. */
async function* linesOf(file: string): AsyncIterable<{ line: JournalLine; where: string }> {
  const segments = file.endsWith('.gz') ? [{ number: 1, path: file, isCompressed: true }] : segmentsOf(file);
  for (const segment of segments) {
    let number = 0;
    for await (const { text } of linesOfSegment(segment)) {
      number += 1;
      yield { line: parsed(text, segment.path), where: `${segment.path}: line ${number}` };
    }
  }
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
