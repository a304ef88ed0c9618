import { expect, it } from 'vitest';
import { torture } from '../torture/torture.ts';
import { tortureCluster } from '../torture/torture-cluster.ts';

it('the service survives five kills under load: all signed is recorded, all acknowledged is kept, no pair is half', async () => {
  const report = await torture(5, () => undefined);
  expect(report.kills).toBe(5);
  expect(report.acknowledged).toBeGreaterThan(30);
  expect(report.signed).toBeGreaterThan(15);
}, 180_000);

it('two nodes and their database survive four kills and a failover under load, and lose nothing', async () => {
  const report = await tortureCluster({ kills: 4, nodes: 2, failovers: 1 }, () => undefined);
  expect(report).toMatchObject({ kills: 4, failovers: 1 });
  expect(report.acknowledged).toBeGreaterThan(30);
}, 300_000);
