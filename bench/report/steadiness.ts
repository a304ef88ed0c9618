import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { median } from '../load/measure.ts';

// Whether the machine was the same all along: a figure that was measured while others took its time says little.

/** The same work took so many times longer at the end than at the begin, or the other way round. */
const driftMax = 1.5;
/** Of the machine's time, what its host gave to others (proc(5), `steal`). */
const stolenMax = 0.1;
/** Long enough to be measured, short enough to go unnoticed. */
const [rounds, octets] = [7, 4 * 2 ** 20];

/** Work that depends on the processor alone, milliseconds. */
function workMs(): number {
  const block = Buffer.alloc(octets);
  const times = Array.from({ length: rounds }, () => {
    const beganMs = performance.now();
    createHash('sha256').update(block).digest();
    return performance.now() - beganMs;
  });
  return median(times);
}

/** Ticks of all processors since the machine started: all, and those that its host gave to others. */
function ticks(): { readonly all: number; readonly stolen: number } {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const each = line.trim().split(/\s+/).slice(1, 9).map(Number);
  return { all: each.reduce((sum, value) => sum + value, 0), stolen: each[7] ?? 0 };
}

const reasons: string[] = [];

/** What was measured says little, and why: the run is marked, and ends with 2. */
export function noteDisturbance(reason: string): void {
  reasons.push(reason);
}

export interface Steadiness {
  readonly disturbed: boolean;
  /** Why, where it was. */
  readonly disturbedBy?: string;
}

/** Begins to watch the machine; what is returned tells whether anything disturbed the run since. */
export function watchMachine(): () => Steadiness {
  const [beganMs, before] = [workMs(), ticks()];
  return () => {
    const [drift, after] = [workMs() / beganMs, ticks()];
    const stolen = (after.stolen - before.stolen) / Math.max(1, after.all - before.all);
    const all = [...reasons, ...unsteady(drift, stolen)];
    return { disturbed: all.length > 0, ...(all.length > 0 ? { disturbedBy: all.join('; ') } : {}) };
  };
}

/** What a machine's own work, at the end by that at the begin, and the share of its time that was given to others say of it. */
export const unsteady = (drift: number, stolen: number): string[] => [
  ...(drift > driftMax || drift < 1 / driftMax
    ? [`the same work took ${drift.toFixed(2)} times as long at the end as at the begin`]
    : []),
  ...(stolen > stolenMax
    ? [`the machine’s host gave ${Math.round(100 * stolen)} % of its time to others`]
    : []),
];
