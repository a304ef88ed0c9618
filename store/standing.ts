import { PkiError } from '../core/errors.ts';
import { closedError, type Standing, type StandingChange } from '../core/holder-life.ts';
import type { RecordReader, Transaction } from './record.ts';

// Whether a holder may be issued to. Where nothing was said of a holder there is no row.

export async function standingOf(reader: RecordReader, holderId: string): Promise<Standing | null> {
  const row = await reader.get('standing', { holderId });
  if (!row) return null;
  const { closedBy, signingBarredBy } = row;
  return { closedBy, reopens: row.reopens as Standing['reopens'], signingBarredBy };
}

/** Refuses a holder that is closed, and a signing certificate for one who may have none. */
export async function refuseClosed(
  reader: RecordReader,
  holderId: string,
  kinds: readonly string[],
): Promise<void> {
  const standing = await standingOf(reader, holderId);
  if (standing?.closedBy != null) throw closedError(standing);
  if (standing?.signingBarredBy != null && kinds.some((kind) => kind.endsWith('-signing')))
    throw new PkiError(
      'signing-not-allowed',
      `no signing certificate for this holder since ${standing.signingBarredBy}`,
    );
}

/** What an event makes of a standing; `illegal-transition` where only a correction could do so. */
export function changeStanding(before: Standing | null, change: StandingChange, event: string): Standing {
  const open: Standing = before ?? { closedBy: null, reopens: null, signingBarredBy: null };
  switch (change) {
    case 'closes':
      return open.reopens === 'correction' ? open : { ...open, closedBy: event, reopens: 'correction' };
    case 'leaves':
      return open.closedBy !== null ? open : { ...open, closedBy: event, reopens: 'return' };
    case 'returns':
      if (open.reopens === 'correction')
        throw new PkiError(
          'holder-closed',
          `the holder is closed since ${open.closedBy}: propose a correction, which another client approves`,
        );
      return { ...open, closedBy: null, reopens: null };
    case 'bars-signing':
      return { ...open, signingBarredBy: event };
    case 'allows-signing':
      return { ...open, signingBarredBy: null };
  }
}

export async function writeStanding(
  tx: Transaction,
  holderId: string,
  { closedBy, reopens, signingBarredBy }: Standing,
  nowMs: number,
): Promise<void> {
  const row = { holderId, closedBy, reopens, signingBarredBy, changedMs: nowMs };
  const before = await tx.get('standing', { holderId });
  if (before) await tx.update('standing', row, before);
  else await tx.insert('standing', row);
}
