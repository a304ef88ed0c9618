import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { FeedBatch, FeedEvent } from '../../core/feed/feed.ts';
import { FeedJournal, lastCursor } from '../../core/feed/feed-journal.ts';
import { journalContent } from '../../core/feed/journal-content.ts';
import { removeScratch, scratch } from '../support/harness.ts';

// A journal is of several files: the one that is written to, and those that were closed.

afterAll(removeScratch);

const believed = { seal: null, acceptUnproven: true };

/** The n-th batch, of one event. */
const batchOf = (n: number): FeedBatch => ({
  events: [{ type: 'sealed', sealed: `event-${n}` }],
  from: { n1: n - 1 },
  cursor: { incarnation: 'i', positions: { n1: n } },
  watermarkMs: 0,
});

/** A journal of so many batches, two a segment. */
async function journalOf(batches: number) {
  const file = join(scratch(), 'ocsp', 'journal.ndjson');
  const journal = new FeedJournal(file, { segmentOctets: 200 });
  for (let n = 1; n <= batches; n++) await journal.remember(batchOf(n));
  return { file, journal };
}

async function played(journal: FeedJournal, ...from: Parameters<FeedJournal['replay']>[1][]) {
  const events: FeedEvent[] = [];
  const cursor = await journal.replay({ apply: (batch) => void events.push(...batch.events) }, ...from);
  return {
    numbers: events.map((event) => Number(/\d+$/.exec('sealed' in event ? event.sealed : '')?.[0])),
    cursor,
  };
}

const filesOf = (file: string) => readdirSync(dirname(file)).sort();
const tidy = (journal: FeedJournal, keepFrom = 0, beforeMs = 0) => journal.tidy({ beforeMs, keepFrom });
const all = (batches: number) => Array.from({ length: batches }, (_, i) => i + 1);

describe('a journal', () => {
  it('is closed by the segment, and read as one, compressed or not', async () => {
    const { file, journal } = await journalOf(7);
    expect(filesOf(file)).toEqual(['journal.ndjson', ...[1, 2, 3].map((n) => `journal.ndjson.00000${n}`)]);
    expect(await played(new FeedJournal(file))).toMatchObject({
      numbers: all(7),
      cursor: { positions: { n1: 7 } },
    });
    await tidy(journal);
    expect(filesOf(file)).toEqual(['journal.ndjson', ...[1, 2, 3].map((n) => `journal.ndjson.00000${n}.gz`)]);
    expect((await played(new FeedJournal(file))).numbers).toEqual(all(7));
    const { spans, sealed } = await journalContent(file, believed);
    expect(spans).toEqual([{ incarnation: 'i', writer: 'n1', from: 0, to: 7 }]);
    expect(sealed.map(({ text }) => text)).toEqual(all(7).map((n) => `event-${n}`));
    expect(statSync(`${file}.000001.gz`).mode & 0o077).toBe(0);
  });

  it('continues from any mark, in any segment', async () => {
    const file = join(scratch(), 'ocsp', 'journal.ndjson');
    const journal = new FeedJournal(file, { segmentOctets: 200 });
    const marks: (typeof journal.mark)[] = [];
    for (let n = 1; n <= 6; n++) {
      await journal.remember(batchOf(n));
      marks.push(journal.mark);
    }
    for (const isCompressed of [false, true]) {
      if (isCompressed) await tidy(journal);
      for (const [i, mark] of marks.entries()) {
        const again = new FeedJournal(file);
        expect(mark && again.reaches(mark)).toBe(true);
        expect((await played(again, mark)).numbers).toEqual(all(6).slice(i + 1));
      }
    }
    // What an earlier version wrote has no segment: there was one.
    expect(
      (await played(new FeedJournal(file), { ...marks[0], segment: undefined } as never)).numbers,
    ).toEqual([2, 3, 4, 5, 6]);
    expect(journal.reaches({ cursor: batchOf(1).cursor, segment: 9, octets: 3 })).toBe(false);
    await journal.remember(batchOf(7));
    expect(journal.mark?.segment).toBe(4);
    expect(journal.reaches({ cursor: batchOf(1).cursor, segment: 4, octets: 9_999 })).toBe(false);
  });

  it('loses what is older than its retention, but nothing that a restart needs, nor its numbers', async () => {
    const { file, journal } = await journalOf(8);
    const old = new Date(Date.UTC(2020, 0, 1));
    for (const name of filesOf(file)) utimesSync(join(dirname(file), name), old, old);
    await tidy(journal, 3, Date.UTC(2021, 0, 1));
    expect(filesOf(file)).toEqual(['journal.ndjson.000003.gz', 'journal.ndjson.000004.gz']);
    // Compressed, it is as old as it was.
    await tidy(journal, 9, Date.UTC(2021, 0, 1));
    expect(filesOf(file)).toEqual(['journal.ndjson.000004.gz']);
    await tidy(journal, 9, Date.UTC(2021, 0, 1));
    await journal.remember(batchOf(9));
    expect(journal.mark?.segment).toBe(5);
    // Its begin is gone: played back alone it would be half of what happened.
    expect(await played(new FeedJournal(file))).toEqual({ numbers: [], cursor: undefined });
    expect((await journalContent(file, believed)).spans).toEqual([
      { incarnation: 'i', writer: 'n1', from: 6, to: 9 },
    ]);
  });

  it('keeps what is young, whatever a restart needs', async () => {
    const { file, journal } = await journalOf(8);
    await tidy(journal, Number.POSITIVE_INFINITY, 0);
    expect(filesOf(file)).toHaveLength(4);
  });

  it('is whole after a process that died while it compressed, or closed a segment', async () => {
    const { file, journal } = await journalOf(5);
    await tidy(journal);
    // Half of a compressed segment, and one that is there in both forms.
    writeFileSync(`${file}.000002.gz.new`, 'half');
    writeFileSync(`${file}.000002`, [3, 4].map((n) => `${JSON.stringify(lineOf(n))}\n`).join(''));
    truncateSync(`${file}.000002.gz`, 20);
    expect((await played(new FeedJournal(file))).numbers).toEqual(all(5));
    await tidy(new FeedJournal(file));
    expect((await played(new FeedJournal(file))).numbers).toEqual(all(5));
    expect(filesOf(file).filter((name) => name.includes('000002'))).toEqual(['journal.ndjson.000002.gz']);
    // Closed, and ended before another was begun.
    renameSync(file, `${file}.000003`);
    expect(lastCursor(file)?.positions).toEqual({ n1: 5 });
    const again = new FeedJournal(file);
    expect((await played(again)).numbers).toEqual(all(5));
    await again.remember(batchOf(6));
    expect(again.mark?.segment).toBe(4);
    expect(lastCursor(file)?.positions).toEqual({ n1: 6 });
  });

  it('names the segment that is damaged, and the line that is no JSON', async () => {
    const { file, journal } = await journalOf(5);
    await tidy(journal);
    const whole = readFileSync(`${file}.000001.gz`);
    truncateSync(`${file}.000001.gz`, whole.length - 12);
    await expect(journalContent(file, believed)).rejects.toMatchObject({
      code: 'bad-request',
      message: expect.stringMatching(/journal\.ndjson\.000001\.gz is damaged/),
    });
    writeFileSync(`${file}.000001.gz`, whole);
    appendFileSync(file, 'nonsense\n');
    await expect(journalContent(file, believed)).rejects.toThrow(/journal\.ndjson: a line is no JSON/);
  });

  it('is set aside with all its segments, and never over another', async () => {
    const { file, journal } = await journalOf(3);
    await tidy(journal);
    journal.setAside('previous');
    expect(existsSync(file)).toBe(false);
    expect(filesOf(file)).toEqual(['journal.ndjson.previous', 'journal.ndjson.previous.000001.gz']);
    await journal.remember(batchOf(1));
    expect(journal.mark?.segment).toBe(1);
    journal.setAside('previous');
    expect(filesOf(file)).toContain('journal.ndjson.previous-2');
    expect((await journalContent(`${file}.previous`, believed)).sealed).toHaveLength(3);
    expect((await journalContent(`${file}.previous.000001.gz`, believed)).sealed).toHaveLength(2);
  });

  it('leaves out what a backup has, but for how far it goes', async () => {
    const { file } = await journalOf(6);
    const { sealed, spans } = await journalContent(
      file,
      believed,
      ({ positions }) => (positions.n1 ?? 0) > 4,
    );
    expect(sealed.map(({ text }) => text)).toEqual(['event-5', 'event-6']);
    expect(spans).toEqual([{ incarnation: 'i', writer: 'n1', from: 0, to: 6 }]);
  });

  it('ends the compression of a segment when it is to be closed, and finishes it the next time', async () => {
    const { file, journal } = await journalOf(5);
    const running = tidy(journal);
    journal.stopTidying();
    await running;
    expect(filesOf(file).filter((name) => name.endsWith('.new'))).toEqual([]);
    await tidy(new FeedJournal(file));
    expect((await played(new FeedJournal(file))).numbers).toEqual(all(5));
  });
});

describe('a journal with a gap', () => {
  it('keeps what lies behind a segment that is kept, whatever its age', async () => {
    const { file, journal } = await journalOf(9);
    const old = new Date(Date.UTC(2020, 0, 1));
    for (const n of [2, 3]) utimesSync(`${file}.00000${n}`, old, old);
    await tidy(journal, 9, Date.UTC(2021, 0, 1));
    expect((await played(new FeedJournal(file))).numbers).toEqual(all(9));
  });

  it('is not played back: what is missing would be missing for ever', async () => {
    for (const lost of ['.000001', '.000002', '.000003']) {
      const { file } = await journalOf(9);
      rmSync(`${file}${lost}`);
      expect(await played(new FeedJournal(file))).toMatchObject({ cursor: undefined });
    }
    const { file } = await journalOf(1);
    appendFileSync(file, `${JSON.stringify(lineOf(5))}\n`);
    const journal = new FeedJournal(file);
    expect(await played(journal)).toMatchObject({ cursor: undefined });
    expect(journal.mark).toBeUndefined();
  });

  it('is one of lines that end with a line feed, and with nothing else', async () => {
    const file = join(scratch(), 'ocsp', 'journal.ndjson');
    const journal = new FeedJournal(file);
    const odd = 'a\u2028b\u2029c\u0085d';
    await journal.remember({ ...batchOf(1), events: [{ type: 'sealed', sealed: odd }] });
    await journal.remember(batchOf(2));
    const { sealed } = await journalContent(file, believed);
    expect(sealed.map(({ text }) => text)).toEqual([odd, 'event-2']);
    expect(
      (
        await played(new FeedJournal(file), {
          cursor: batchOf(1).cursor,
          segment: 1,
          octets: Buffer.byteLength(readFileSync(file, 'utf8').split('\n')[0] ?? '') + 1,
        })
      ).numbers,
    ).toEqual([2]);
  });
});

const lineOf = (n: number) => {
  const { events, cursor, from } = batchOf(n);
  return { events, cursor, from };
};
