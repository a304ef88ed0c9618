import { dateInJapan } from '../../core/model/calendar.ts';
import type { Transaction } from '../engine/record.ts';
import { byKey, exclusive, type Load, type Lock } from '../engine/rule.ts';

// Acts that are counted for a day in Japan, at all nodes together.

export const dayCountLock = (name: string): Lock => exclusive('meta', name);
export const dayCountLoad = (name: string): Load => byKey('meta', { name });

/** Counts an act of a day; false, and nothing is counted, where `max` were done on it. A clock that steps back begins no day again. */
export function countOfDay(tx: Transaction, name: string, max: number, nowMs: number): boolean {
  const { year, month, day } = dateInJapan(nowMs);
  const today = [year, month, day].map((part) => String(part).padStart(2, '0')).join('-');
  const before = tx.get('meta', { name });
  const [counted = '', acts = '0'] = before?.value.split(' ') ?? [];
  const done = counted >= today ? Number(acts) : 0;
  if (done >= max) return false;
  const after = { name, value: `${counted >= today ? counted : today} ${done + 1}` };
  if (before) tx.update('meta', after, before);
  else tx.insert('meta', after);
  return true;
}
