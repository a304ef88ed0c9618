import { pino } from 'pino';
import { expect, it } from 'vitest';
import { FailureLog } from '../../core/runtime/failure-log.ts';

it('says of what is repeated once for each reason that it fails, and once that it succeeds again', async () => {
  const lines: { msg: string; reason?: string }[] = [];
  const logger = pino({ base: null }, { write: (line) => void lines.push(JSON.parse(line)) });
  const log = new FailureLog(logger, 'it cannot be done', { of: 'a test' });
  const failing = (reason: string) => log.watch(() => Promise.reject(new Error(reason)));
  for (const reason of ['gone', 'gone', 'full', 'full', 'gone']) expect(await failing(reason)).toBe(false);
  for (let i = 0; i < 3; i++) expect(await log.watch(async () => i)).toBe(true);
  expect(await failing('gone')).toBe(false);
  expect(lines.map(({ msg, reason = '' }) => `${msg}: ${reason}`)).toEqual([
    'it cannot be done: gone',
    'it cannot be done: full',
    'it cannot be done: gone',
    'what failed before succeeds again: ',
    'it cannot be done: gone',
  ]);
  expect(lines[0]).toMatchObject({ of: 'a test' });
});
