import { expect, it } from 'vitest';
import type { Transaction } from '../../store/engine/record.ts';
import { passSwitch } from '../../store/rules/switches.ts';
import { MemoryRows } from '../support/memory.ts';

// How often a limited function may be used, by whichever node.

const perMinute = 3;
const minuteMs = 60_000;

/** Uses the function at each of those times; how often it was let. */
function usedAt(times: readonly number[], rows = limited()): number {
  return times.filter((nowMs) => {
    try {
      passSwitch(rows as unknown as Transaction, 'card-issuing', nowMs);
      return true;
    } catch {
      return false;
    }
  }).length;
}

function limited(): MemoryRows {
  const rows = new MemoryRows();
  const state = { state: 'limited', perMinute, note: '', changedMs: 0, changedBy: 'a' };
  rows.insert('switch', { name: 'card-issuing', ...state });
  return rows;
}

it('counts each minute by itself', () => {
  const rows = limited();
  for (const minute of [100, 101, 102])
    expect(usedAt(Array(10).fill(minute * minuteMs), rows)).toBe(perMinute);
});

it('lets no more where requests of two minutes come in turn, as nodes send them whose clocks differ', () => {
  const inTurn = Array.from({ length: 40 }, (_, i) => (100 + (i % 2)) * minuteMs);
  expect(usedAt(inTurn)).toBeLessThanOrEqual(2 * perMinute);
});

it('counts from the beginning where the time of the record was taken back', () => {
  const rows = limited();
  expect(usedAt(Array(10).fill(1000 * minuteMs), rows)).toBe(perMinute);
  expect(usedAt(Array(10).fill(900 * minuteMs), rows)).toBe(perMinute);
});
