import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { until } from '../../bench/actors.ts';
import { HostClaim } from '../../crl/host-claim.ts';
import { ManualClock, removeScratch, scratch, startTestService } from '../harness.ts';

afterAll(removeScratch);

describe('publishers on one folder', () => {
  const clock = new ManualClock();
  const claimOf = (folder: string, host: string): HostClaim =>
    new HostClaim({ folder, kernel: { kernel: `kernel-of-${host}`, host }, clock });

  it('may be several on one host, and are refused on another, by its name', () => {
    const folder = scratch();
    const [a, b, c] = [claimOf(folder, 'east'), claimOf(folder, 'east'), claimOf(folder, 'west')];
    a.renew();
    b.renew();
    expect(() => c.renew()).toThrow(/the host east publishes there/);
    b.release();
    a.renew();
    expect(() => c.renew()).toThrow(/in-use|east/);
    a.release();
    c.renew();
    expect(() => a.renew()).toThrow(/west/);
  });

  it('may be on another host once the first has said nothing for half a minute', () => {
    const folder = scratch();
    claimOf(folder, 'east').renew();
    clock.advance(29_000);
    expect(() => claimOf(folder, 'west').renew()).toThrow(/east/);
    clock.advance(2000);
    claimOf(folder, 'west').renew();
  });

  it('start on no folder that another host publishes, and stop publishing where one takes it over', async () => {
    const test = await startTestService();
    const file = join(test.folder, 'published', '.host.json');
    const foreign = (atMs: number): void =>
      writeFileSync(file, JSON.stringify({ kernel: 'another', host: 'west', atMs }));
    foreign(test.clock.wallMs());
    await until('it is noticed', async () => test.log().includes('ALARM: another host publishes here'));
    await test.close();
    foreign(Date.now());
    await expect(startTestService({ folder: test.folder })).rejects.toThrow(/the host west publishes there/);
  });
});
