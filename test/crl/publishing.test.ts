import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { deltaPath } from '../../crl/encode/names.ts';
import type { BuildResult } from '../../crl/list.ts';
import { removeScratch, scratch } from '../support/harness.ts';
import {
  combined,
  dayMs,
  digestSigner,
  hourMs,
  Press,
  type PressOptions,
  readCrl,
  relyOn,
  shardEvent,
  statusOf,
} from '../support/press.ts';

afterAll(removeScratch);

const year = 365 * 24 * hourMs;
const shardName = 'card-signing/1/13113/0';
const file = (press: Press, name = shardName): string => join(press.published, `crl/${name}.crl`);
const published = (result: BuildResult): string => result.type;

/** A publisher with one certificate in its shard, revoked and published. */
async function revokedOne(options: Partial<PressOptions> = {}) {
  const press = new Press({ folder: scratch(), ...options });
  await press.openGeneration(1);
  const certificate = await press.issue(1, 'card-signing', year);
  await press.change(certificate, 'revoked');
  await press.publish();
  return { press, certificate };
}

const crlOf = (press: Press) => readCrl(readFileSync(file(press)));
const status = (press: Press, certificate: Parameters<typeof relyOn>[0]) =>
  relyOn(certificate, (uri) => press.fetch(uri), press.nowMs);

describe('thisUpdate', () => {
  it('lies a while back, for relying parties whose clocks lag, and nextUpdate does not', async () => {
    const { press } = await revokedOne();
    press.nowMs += hourMs;
    await press.build(press.shard(shardName), 'schedule', { backdateMs: 60_000 });
    expect(crlOf(press).thisUpdateMs).toBe(press.nowMs - 60_000);
    expect(crlOf(press).nextUpdateMs).toBe(press.nowMs + 48 * hourMs);
    press.close();
  });

  it.each([0, 29_000, 3 * hourMs])(
    'is no earlier than any entry, by a clock set back by %d ms too',
    async (backMs) => {
      const { press } = await revokedOne();
      press.nowMs += 120_000;
      await press.change(await press.issue(1, 'card-signing', year), 'revoked');
      press.nowMs -= backMs;
      for (const occasion of ['event', 'schedule'] as const) {
        await press.build(press.shard(shardName), occasion, { backdateMs: 60_000 });
        expect(crlOf(press).revocationDates).toHaveLength(2);
        expect(crlOf(press).thisUpdateMs).toBeGreaterThanOrEqual(Math.max(...crlOf(press).revocationDates));
      }
      press.close();
    },
  );

  it('does not go back when the last entry is released', async () => {
    const { press } = await revokedOne();
    press.nowMs += 120_000;
    const held = await press.issue(1, 'card-signing', year);
    await press.change(held, 'held');
    await press.build(press.shard(shardName), 'event', { backdateMs: 60_000 });
    const before = crlOf(press).thisUpdateMs;
    press.nowMs += 1000;
    await press.change(held, 'good');
    await press.build(press.shard(shardName), 'event', { backdateMs: 60_000 });
    expect(crlOf(press).thisUpdateMs).toBe(before);
    press.close();
  });
});

describe('numbers', () => {
  it('rise after the clock has stepped back', async () => {
    const { press } = await revokedOne();
    const before = crlOf(press);
    press.nowMs -= 3 * hourMs;
    press.restart();
    await press.change(await press.issue(1, 'card-signing', year), 'revoked');
    await press.publish();
    expect(crlOf(press).number).toBe(before.number + 1n);
    press.close();
  });

  it('rise where the state is lost and the files are there', async () => {
    const { press } = await revokedOne();
    const before = crlOf(press).number;
    press.nowMs -= hourMs;
    press.close();
    for (const name of ['.state.db', '.state.db-wal', '.state.db-shm'])
      rmSync(join(press.published, name), { force: true });
    press.restart.call(Object.assign(press, { close: () => undefined }));
    expect(published(await press.build(press.shard(shardName), 'schedule'))).toBe('published');
    expect(crlOf(press).number).toBe(before + 1n);
  });

  it('are the same for a complete CRL and the delta issued with it, and say the same', async () => {
    const { press, certificate } = await revokedOne();
    press.nowMs += 1000;
    await press.change(await press.issue(1, 'card-signing', year), 'held');
    await press.publish();
    const [complete, delta] = [crlOf(press), readCrl(readFileSync(deltaPath(file(press))))];
    expect(delta.number).toBe(complete.number);
    expect(delta.idp).toEqual(complete.idp);
    expect(complete.entries.size).toBe(2);
    // The first stands on the base already.
    expect([...delta.entries.values()]).toEqual([6]);
    expect(delta.entries.has(Buffer.from(certificate.serial).toString('hex'))).toBe(false);
    press.close();
  });
});

describe('a clock that was ahead', () => {
  it('leaves nothing unlisted that has not ended, and no CRL of a time to come', async () => {
    const { press, certificate } = await revokedOne();
    const startMs = press.nowMs;
    const ended = await press.issue(1, 'card-signing', 30 * dayMs);
    await press.change(ended, 'revoked');
    // Two scheduled CRLs of a year to come: the first shows that it has ended, the second leaves it out.
    for (const days of [365, 366]) {
      press.nowMs = startMs + days * dayMs;
      await press.apply([]);
      await press.publish();
    }
    press.nowMs = startMs + hourMs;
    await press.apply([]);
    await press.publish();
    expect(crlOf(press).thisUpdateMs).toBe(press.nowMs);
    expect([status(press, certificate), status(press, ended)]).toEqual([4, 4]);
    press.close();
  });
});

describe('a restored record', () => {
  it('is accepted where it revokes what is known by a later version', async () => {
    const { press } = await revokedOne();
    const certificate = await press.issue(1, 'card-signing', year);
    await press.change(certificate, 'held');
    await press.change(certificate, 'good');
    await press.publish();
    // Of hold and release it knows nothing.
    certificate.version = 1;
    await press.change(certificate, 'revoked', 'keyCompromise');
    press.nowMs += 1000;
    await press.publish();
    expect(status(press, certificate)).toBe(1);
    press.close();
  });
});

describe('removeFromCRL', () => {
  it('is said of a hold that stood on the base, until there is another base', async () => {
    const press = new Press({ folder: scratch() });
    await press.openGeneration(1);
    const certificate = await press.issue(1, 'card-signing', year);
    await press.change(certificate, 'held');
    await press.publish();
    press.nowMs += hourMs / 4;
    await press.change(certificate, 'good');
    await press.publish();
    const delta = () => [...readCrl(readFileSync(deltaPath(file(press)))).entries.values()];
    expect(delta()).toEqual([8]);
    press.nowMs += 25 * hourMs;
    await press.publish();
    // Issued together with the new base, to the old one.
    expect(delta()).toEqual([8]);
    press.nowMs += hourMs;
    await press.publish();
    expect(delta()).toEqual([]);
    press.close();
  });

  it('is said of a hold that began after the base, stood on a delta, and is over (RFC 5280 §5.2.4)', async () => {
    const press = new Press({ folder: scratch(), onEvent: 'event-delta' });
    await press.openGeneration(1);
    const certificate = await press.issue(1, 'card-signing', year);
    await press.publish();
    press.nowMs += 1000;
    await press.change(certificate, 'held');
    await press.publish();
    press.nowMs += 1000;
    await press.change(certificate, 'good');
    await press.publish();
    expect([...readCrl(readFileSync(deltaPath(file(press)))).entries.values()]).toEqual([8]);
    press.close();
  });
});

describe('two publishers of one folder', () => {
  async function twins() {
    const one = await revokedOne();
    const other = new Press({ folder: scratch() }, one.press.published);
    await other.openGeneration(1);
    other.nowMs = one.press.nowMs;
    await other.apply([shardEvent(shardName, 'signing-1'), statusOf(one.certificate)], 3);
    return { one: one.press, other, certificate: one.certificate };
  }

  it('do not publish one shard at once: the second to come waits', async () => {
    const { one, other } = await twins();
    const lease = one.folder.lease(`crl/${shardName}.crl`, one.nowMs);
    expect(published(await other.build(other.shard(shardName), 'schedule'))).toBe('busy');
    if (lease) one.folder.release(lease);
    expect(published(await other.build(other.shard(shardName), 'schedule'))).toBe('published');
    one.close();
    other.close();
  });

  it('one that was slower than its lease publishes nothing', async () => {
    const { one, other } = await twins();
    let fast: Promise<BuildResult> | undefined;
    const slow = digestSigner();
    const late = new Press(
      {
        folder: scratch(),
        sign: async (digest) => {
          other.nowMs = one.nowMs + 60_000;
          fast ??= other.build(other.shard(shardName), 'schedule');
          await fast;
          return slow.signDigest(digest);
        },
      },
      one.published,
    );
    await late.openGeneration(1);
    await late.apply([shardEvent(shardName, 'signing-1'), statusOf(one.certificates[0] as never)], 3);
    expect(published(await late.build(late.shard(shardName), 'schedule'))).toBe('busy');
    expect((await fast)?.type).toBe('published');
    expect(crlOf(one).number).toBe(BigInt(other.nowMs));
    for (const press of [one, other, late]) press.close();
  });

  it('a publisher that has received less publishes nothing, and keeps what the other published', async () => {
    const { one, other, certificate } = await twins();
    const second = await one.issue(1, 'card-signing', year);
    await one.change(second, 'revoked');
    await one.publish();
    expect(published(await other.build(other.shard(shardName), 'schedule'))).toBe('behind');
    expect([status(one, certificate), status(one, second)]).toEqual([4, 4]);
    one.close();
    other.close();
  });

  it('a publisher that received an end later goes on, and so does the other', async () => {
    const { one, other } = await twins();
    const brief = await one.issue(1, 'card-signing', hourMs);
    await one.change(brief, 'revoked');
    await other.apply([statusOf(brief)], 5);
    for (let day = 0; day < 3; day++) {
      await one.publish();
      one.nowMs += dayMs;
      await one.apply([], 5);
    }
    expect(status(one, brief)).toBeNull();
    // It has not forgotten what the first has: it lists it once more, and the first lets it go again.
    other.nowMs = one.nowMs;
    await other.apply([], 5);
    for (const press of [other, one, other, other, one]) {
      for (const each of [one, other]) each.nowMs += dayMs;
      expect(published(await press.build(press.shard(shardName), 'schedule'))).toBe('published');
    }
    expect(status(one, brief)).toBeNull();
    one.close();
    other.close();
  });

  it('a lease from a clock that was ahead holds no publisher up', async () => {
    const { one, other } = await twins();
    one.folder.lease(`crl/${shardName}.crl`, one.nowMs + dayMs);
    expect(published(await other.build(other.shard(shardName), 'schedule'))).toBe('published');
    one.close();
    other.close();
  });

  it('a caller that orders by an old state gets the new one', async () => {
    const { one, other } = await twins();
    const result = await other.build(other.shard(shardName), 'schedule', { seenNumber: 0 });
    expect(result).toMatchObject({ type: 'unchanged', shard: { number: Number(crlOf(one).number) } });
    one.close();
    other.close();
  });

  it('one that finds published what it wanted to say leaves it', async () => {
    const { one, other } = await twins();
    expect(published(await other.build(other.shard(shardName), 'event'))).toBe('unchanged');
    one.close();
    other.close();
  });
});

describe('what is published stays, and is replaced once it can be, where', () => {
  it('the token signs with another key', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    let key: ReturnType<typeof digestSigner> | undefined = digestSigner();
    const { press, certificate } = await revokedOne({
      sign: (digest) => (key ?? digestSigner(privateKey)).signDigest(digest),
    });
    key = undefined;
    const second = await press.issue(1, 'card-signing', year);
    await press.change(second, 'revoked');
    await expect(press.build(press.shard(shardName), 'event')).rejects.toThrow('signature does not verify');
    expect([status(press, certificate), status(press, second)]).toEqual([4, null]);
    key = digestSigner();
    await press.publish();
    expect(status(press, second)).toBe(4);
    press.close();
  });

  it('a certificate would leave it that was neither released nor shown after its end', async () => {
    const { press, certificate } = await revokedOne();
    const second = await press.issue(1, 'card-signing', year);
    await press.change(second, 'revoked');
    press.nowMs += 1000;
    await press.build(press.shard(shardName), 'delta');
    press.lose();
    press.nowMs += 1000;
    for (const occasion of ['schedule', 'event', 'event-delta', 'delta'] as const) {
      await expect(press.build(press.shard(shardName), occasion)).rejects.toThrow(
        'would no longer be listed',
      );
    }
    expect(status(press, second)).toBe(4);
    expect(status(press, certificate)).toBe(4);
    press.close();
  });

  it('a publisher died between writing and replacing', async () => {
    const { press, certificate } = await revokedOne();
    const before = readFileSync(file(press));
    // As it leaves the folder: a half-written file of a dead process, under a lease that it cannot give back.
    const left = join(press.published, '.new', 'dead');
    execFileSync('mkdir', ['-p', left]);
    writeFileSync(join(left, 'crl_x.crl'), before.subarray(0, 100));
    press.restart();
    press.folder.clear(press.nowMs);
    expect(existsSync(left)).toBe(false);
    expect(readFileSync(file(press))).toEqual(before);
    const second = await press.issue(1, 'card-signing', year);
    await press.change(second, 'revoked');
    press.nowMs += 1000;
    await press.publish();
    expect([status(press, certificate), status(press, second)]).toEqual([4, 4]);
    press.close();
  });

  it.each(['state', 'state and delta'] as const)(
    'a publisher died after the complete CRL was replaced: its %s are as before',
    async (what) => {
      const { press, certificate } = await revokedOne();
      const second = await press.issue(1, 'card-signing', year);
      await press.change(second, 'held');
      press.nowMs += 1000;
      await press.publishAndCrash(what);
      expect(status(press, second)).toBe(6);
      const seen = crlOf(press);
      press.nowMs += 1000;
      await press.change(second, 'good');
      await press.publish();
      // One that has what was published before the crash learns it too, or that its list is too old for the delta.
      const delta = readCrl(readFileSync(deltaPath(file(press))));
      const fits = seen.number >= (delta.baseNumber ?? 0n);
      expect(fits).toBe(what === 'state');
      if (fits) expect(combined(seen, delta).has(Buffer.from(second.serial).toString('hex'))).toBe(false);
      for (const occasion of ['event', 'delta', 'schedule', 'event', 'schedule'] as const) {
        press.nowMs += 1000;
        expect(['published', 'unchanged']).toContain(
          (await press.build(press.shard(shardName), occasion)).type,
        );
      }
      expect([status(press, certificate), status(press, second)]).toEqual([4, null]);
      press.close();
    },
  );

  it.each(['schedule', 'event-delta', 'delta'] as const)(
    'its complete CRL is missing or damaged, on occasion of a %s',
    async (occasion) => {
      const { press, certificate } = await revokedOne();
      for (const spoil of [
        () => undefined,
        (octets: Buffer) => octets.subarray(0, 100),
        // A bit within a serial number: it is read, and is not what was signed.
        (octets: Buffer) => {
          const flipped = Buffer.from(octets);
          const at = flipped.indexOf(Buffer.from(certificate.serial)) + 5;
          flipped[at] = (flipped[at] ?? 0) ^ 1;
          return flipped;
        },
      ]) {
        const octets = readFileSync(file(press));
        rmSync(file(press));
        const spoilt = spoil(octets);
        if (spoilt) writeFileSync(file(press), spoilt);
        press.nowMs += 1000;
        expect(published(await press.build(press.shard(shardName), occasion))).toBe('published');
        expect(status(press, certificate)).toBe(4);
      }
      press.close();
    },
  );

  it.each(['crl', 'base', 'delta'] as const)('its %s is damaged', async (which) => {
    const { press, certificate } = await revokedOne();
    const name =
      which === 'delta' ? deltaPath(file(press)) : file(press).replace('crl', 'crl').replace(/crl$/, which);
    const octets = readFileSync(name);
    rmSync(name);
    writeFileSync(name, octets.subarray(0, -20));
    const [was] = press.folder.all();
    // The base is read where it is another file than the complete CRL.
    if (which === 'base' && was) {
      const lease = press.folder.lease(`crl/${shardName}.crl`, press.nowMs);
      const shard = { ...was, base: { ...was.base, number: 1 } };
      if (lease) await press.folder.replace(lease, { complete: null, delta: null, isBase: false, shard });
    }
    press.nowMs += 1000;
    const result = await press.build(press.shard(shardName), 'schedule');
    expect(result.type === 'published' && result.damaged).toHaveLength(1);
    expect(status(press, certificate)).toBe(4);
    press.close();
  });

  it.skipIf(process.getuid?.() !== 0)('the disk is full (a small disk wants root)', async () => {
    const disk = scratch();
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', disk]);
    try {
      const press = new Press({ folder: scratch() }, join(disk, 'published'));
      await press.openGeneration(1);
      const certificate = await press.issue(1, 'card-signing', year);
      await press.change(certificate, 'revoked');
      await press.publish();
      const second = await press.issue(1, 'card-signing', year);
      await press.change(second, 'revoked');
      const { bavail, bsize } = statfsSync(disk);
      writeFileSync(join(disk, 'ballast'), Buffer.alloc(bavail * bsize));
      await expect(press.publish()).rejects.toThrow();
      expect([status(press, certificate), status(press, second)]).toEqual([4, null]);
      rmSync(join(disk, 'ballast'));
      press.nowMs += 1000;
      await press.publish();
      expect(status(press, second)).toBe(4);
      press.close();
    } finally {
      execFileSync('umount', [disk]);
    }
  });
});

it('nothing of the publisher’s own is left in the folder but its state', async () => {
  const { press } = await revokedOne();
  const own = readdirSync(press.published, { recursive: true }).map(String);
  expect(own.filter((name) => /\.new\/.+\/.+/.test(name))).toEqual([]);
  expect(own.filter((name) => name.endsWith('.crl')).sort()).toEqual([
    `crl/${shardName}-delta.crl`,
    `crl/${shardName}.crl`,
  ]);
  press.close();
});

it('without deltas there is neither a delta nor a freshestCRL', async () => {
  const { press, certificate } = await revokedOne({ deltas: false });
  expect(existsSync(deltaPath(file(press)))).toBe(false);
  expect(crlOf(press).extensions.has('2.5.29.46')).toBe(false);
  expect(status(press, certificate)).toBe(4);
  press.close();
});
