import { closedError, type Standing, type StandingChange } from '../../core/model/holder-life.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';

// Whether a holder may be issued to. Where nothing was said of a holder there is no row.

export function standingOf(reader: RecordReader, holderId: string): Standing | null {
  const row = reader.get('standing', { holderId });
  if (!row) return null;
  const { holderId: _, changedMs: __, ...standing } = row;
  return { ...standing, reopens: row.reopens as Standing['reopens'] };
}

/** Refuses a holder that is closed, and a signing certificate for one who may have none. */
export function refuseClosed(reader: RecordReader, holderId: string, kinds: readonly string[]): void {
  const standing = standingOf(reader, holderId);
  if (standing?.closedBy != null) throw closedError(standing);
  if (standing?.signingBarredBy != null && kinds.some((kind) => kind.endsWith('-signing')))
    throw new PkiError(
      'signing-not-allowed',
      `no signing certificate for this holder since ${standing.signingBarredBy}`,
    );
}

const open: Standing = { closedBy: null, reopens: null, signingBarredBy: null, closedMs: 0, signingMs: 0 };

/**
 * What an event makes of a standing; `holder-closed` where only a correction could do so. What opens undoes only what occurred
 * before it, in whatever order the two are reported; what closes always closes.
 */
export function changeStanding(
  before: Standing | null,
  change: StandingChange,
  { event, occurredMs }: { readonly event: string; readonly occurredMs: number },
): Standing {
  const standing = before ?? open;
  switch (change) {
    case 'closes':
      return standing.reopens === 'correction'
        ? standing
        : { ...standing, closedBy: event, reopens: 'correction', closedMs: occurredMs };
    case 'leaves':
      if (standing.reopens === 'correction') return standing;
      return {
        ...standing,
        closedBy: event,
        reopens: 'return',
        closedMs: Math.max(occurredMs, standing.closedMs),
      };
    case 'returns':
      if (standing.reopens === 'correction') throw closedError(standing);
      return standing.closedMs > occurredMs ? standing : { ...standing, closedBy: null, reopens: null };
    case 'bars-signing':
    case 'allows-signing': {
      if (standing.signingMs > occurredMs) return standing;
      const signingBarredBy = change === 'bars-signing' ? event : null;
      return { ...standing, signingBarredBy, signingMs: occurredMs };
    }
  }
}

export function writeStanding(tx: Transaction, holderId: string, standing: Standing, nowMs: number): void {
  const row = { holderId, ...standing, changedMs: nowMs };
  const before = tx.get('standing', { holderId });
  if (before) tx.update('standing', row, before);
  else tx.insert('standing', row);
}
