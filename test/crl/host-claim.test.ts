import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { HostClaim } from '../../crl/folder/host-claim.ts';
import { until } from '../support/actors.ts';
import { removeScratch, scratch, startTestService } from '../support/harness.ts';

afterAll(removeScratch);

describe('publishers on one folder', () => {
  /** Hosts whose clocks differ by hours, and whose waiting passes at once. */
  const claimOf = (folder: string, host: string, waited: () => unknown = () => undefined): HostClaim => {
    let monotonicMs = 0;
    const wait = async (ms: number): Promise<void> => {
      monotonicMs += ms;
      await waited();
    };
    const wallMs = (): number => host.length * 3_600_000;
    const clock = { wallMs, monotonicMs: () => monotonicMs };
    return new HostClaim({ folder, kernel: { kernel: `kernel-of-${host}`, host }, clock, wait });
  };

  it('may be several on one host, and are refused on another, by its name, whatever its clock says', async () => {
    const folder = scratch();
    const [a, b] = [claimOf(folder, 'east'), claimOf(folder, 'east')];
    const c = claimOf(folder, 'north-west', () => a.renew());
    await a.take();
    await b.take();
    await expect(c.take()).rejects.toThrow(/the host east publishes there/);
    b.release();
    await a.renew();
    await expect(c.take()).rejects.toThrow(/east/);
    a.release();
    await c.take();
    await expect(a.renew()).rejects.toThrow(/north-west/);
  });

  it('may be on another host once the first has said nothing for half a minute', async () => {
    const folder = scratch();
    const first = claimOf(folder, 'east');
    await first.take();
    let waits = 0;
    await claimOf(folder, 'north-west', () => {
      waits += 1;
    }).take();
    expect(waits).toBe(60);
    await expect(first.renew()).rejects.toThrow(/in-use|north-west/);
  });

  it.each(['null', '{}', '{"kernel":1}', ''])('are refused a claim that is none: %j', async (text) => {
    const folder = scratch();
    writeFileSync(join(folder, '.host.json'), text);
    await expect(claimOf(folder, 'east').take()).rejects.toThrow(/is no claim of a host; remove it/);
  });

  it('start on no folder that another host publishes, and stop publishing where one takes it over', async () => {
    const test = await startTestService();
    const file = join(test.folder, 'published', '.host.json');
    let renewals = 0;
    const foreign = (): void =>
      writeFileSync(file, JSON.stringify({ kernel: 'another', host: 'west', renewals: ++renewals }));
    foreign();
    await until('it is noticed', async () => test.log().includes('ALARM: another host publishes here'));
    await test.close();
    const living = setInterval(foreign, 300);
    await expect(startTestService({ folder: test.folder })).rejects.toThrow(/the host west publishes there/);
    clearInterval(living);
  });
});
