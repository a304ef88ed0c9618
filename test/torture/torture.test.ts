import { expect, it } from 'vitest';
import { torture } from './torture.ts';

it('the service survives eight kills under load: all signed is recorded, all acknowledged is kept, no pair is half', async () => {
  const report = await torture(8, () => undefined);
  expect(report.kills).toBe(8);
  expect(report.acknowledged).toBeGreaterThan(50);
  expect(report.signed).toBeGreaterThan(25);
}, 180_000);
