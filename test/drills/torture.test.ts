import { expect, it } from 'vitest';
import { torture } from '../torture/torture.ts';

it('the service survives five kills under load: all signed is recorded, all acknowledged is kept, no pair is half', async () => {
  const report = await torture(5, () => undefined);
  expect(report.kills).toBe(5);
  expect(report.acknowledged).toBeGreaterThan(30);
  expect(report.signed).toBeGreaterThan(15);
}, 180_000);
