import { expect, it } from 'vitest';
import { torture } from './torture.ts';

it('the service survives sixteen kills under load: all signed is recorded, all acknowledged is kept, no pair is half', async () => {
  const report = await torture(16, () => undefined);
  expect(report.kills).toBe(16);
  expect(report.acknowledged).toBeGreaterThan(100);
  expect(report.signed).toBeGreaterThan(50);
}, 180_000);
