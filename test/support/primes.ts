import { readFileSync } from 'node:fs';
import { KeyFactory } from '../../bench/load/keys.ts';

// Primes that keys of tests are made of, three sets of them: finding the primes of one set takes seconds, in each test file. They are of
// 1024 bits, drawn once by OpenSSL (`generatePrimeSync`), as `KeyFactory` wants them. Keys that share primes protect nothing.

const sets = { persons: [0, 60], chips: [60, 120], batches: [120, 168] } as const;

let all: readonly bigint[] | undefined;

/** A factory of one set: two that a record sees are of different sets. */
export function factoryOf(set: keyof typeof sets): KeyFactory {
  all ??= readFileSync(new URL('../fixtures/primes.txt', import.meta.url), 'utf8')
    .trim()
    .split('\n')
    .map((hex) => BigInt(`0x${hex}`));
  return KeyFactory.of(all.slice(...sets[set]));
}

/** Keys that a factory of a set makes. */
export const keysOf = (set: keyof typeof sets): number => {
  const count = sets[set][1] - sets[set][0];
  return (count * (count - 1)) / 2;
};
