import { expect, it } from 'vitest';
import { noteDisturbance, unsteady, watchMachine } from '../../bench/report/steadiness.ts';

it('a machine that becomes slower, or faster, or whose host takes its time, disturbs a run', () => {
  expect(unsteady(1.2, 0.02)).toEqual([]);
  expect(unsteady(1.6, 0)).toEqual(['the same work took 1.60 times as long at the end as at the begin']);
  expect(unsteady(0.5, 0)).toHaveLength(1);
  expect(unsteady(1, 0.3)).toEqual(['the machine’s host gave 30 % of its time to others']);
});

it('what a bench notes marks its run, with the reason', () => {
  const ended = watchMachine();
  noteDisturbance('the server was idle');
  expect(ended()).toMatchObject({
    disturbed: true,
    disturbedBy: expect.stringContaining('the server was idle'),
  });
});
