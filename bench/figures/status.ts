import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { SerialCipher } from '../../core/crypto/serial.ts';
import type { StatusEvent } from '../../core/feed/feed.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { ClassTable } from '../../ocsp/index/class-table.ts';
import { code, Segment, segmentLength } from '../../ocsp/index/segment.ts';
import { readSnapshot, writeSnapshot } from '../../ocsp/index/snapshot.ts';
import { StatusIndex } from '../../ocsp/index/status-index.ts';
import { median, residentOctets } from '../load/measure.ts';

const authority = 'signing-1';
/** Serial numbers looked up in one run: more than the processor's caches hold. */
const lookups = 1_000_000;
const runs = 5;

/** An index of so many certificates, of which every so-manieth is revoked, and how fast serial numbers are found in it. */
export async function benchStatus(options: {
  readonly certificates: number;
  readonly revoked: number;
}): Promise<Record<string, number>> {
  const { certificates, revoked } = options;
  const large = await build(certificates, revoked);
  collectGarbage();
  const processBytes = residentOctets('self');
  const octets = large.index.segments.reduce(
    (sum, { memory }) => ({
      codes: sum.codes + memory.codes.byteLength,
      changes: sum.changes + memory.changes.byteLength,
    }),
    { codes: 0, changes: 0 },
  );
  const lookupNs = measure(large, certificates);
  const snapshotLoadSeconds = await snapshotLoad(large);
  const lookupNsAtOneMillion = measure(await build(1_000_000, 40_000), 1_000_000);
  return {
    certificates,
    revoked,
    bytesPerCertificate: octets.codes / certificates,
    bytesPerRevoked: octets.changes / revoked,
    lookupNs,
    lookupNsAtOneMillion,
    snapshotLoadSeconds,
    processBytes,
  };
}

interface Built {
  readonly index: StatusIndex;
  readonly key: Uint8Array;
}

/** So that memory is that of the index, and not of the events it was made from. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}

const feedOf = (key: Uint8Array) => ({ epochKey: async () => key });

async function build(certificates: number, revoked: number): Promise<Built> {
  const key = randomBytes(16);
  const index = new StatusIndex(feedOf(key), systemClock);
  for (let number = 0; number * segmentLength < certificates; number++) {
    const segment = Segment.empty(new ClassTable());
    segment.fill(code.good);
    await index.restore({ authority, epoch: 1, number, notAfterMs: 0, memory: segment.memory });
  }
  const base = { type: 'status', authority, epoch: 1, change: 'revoked', version: 2, shard: null } as const;
  const cursor = { incarnation: '', positions: {} };
  const step = certificates / revoked;
  for (let from = 0; from < revoked; from += 10_000) {
    const events = Array.from({ length: Math.min(10_000, revoked - from) }, (_, i): StatusEvent => {
      const position = Math.floor((from + i) * step);
      const revokedMs = 1_700_000_000_000 + position * 1000;
      return {
        ...base,
        position,
        state: 'revoked',
        reason: 'superseded',
        revokedMs,
        invalidityMs: null,
        notAfterMs: 0,
      };
    });
    await index.apply({ events, cursor, watermarkMs: 0 });
  }
  return { index, key };
}

/** Nanoseconds from serial octets to status, decryption included. */
function measure({ index, key }: Built, certificates: number): number {
  const cipher = new SerialCipher(1, key);
  const serials = Array.from({ length: lookups }, () =>
    cipher.encrypt(Math.floor(Math.random() * certificates)),
  );
  const times = Array.from({ length: runs }, () => {
    const startMs = performance.now();
    let found = 0;
    for (const serial of serials)
      if (index.reader.lookup(authority, serial).type !== 'never-issued') found += 1;
    if (found !== lookups) throw new Error('a certificate was not found');
    return ((performance.now() - startMs) * 1e6) / lookups;
  });
  return median(times);
}

/** Seconds until an index read from disk answers, its checksum verified. */
async function snapshotLoad({ index, key }: Built): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'warifu-bench-status-'));
  const file = join(folder, 'index.snapshot');
  try {
    await writeSnapshot(file, index, { cursor: { incarnation: '', positions: {} }, octets: 0 });
    const times: number[] = [];
    for (let run = 0; run < 3; run++) {
      const startMs = performance.now();
      const loaded = new StatusIndex(feedOf(key), systemClock);
      await readSnapshot(file)?.restore(loaded);
      times.push((performance.now() - startMs) / 1000);
    }
    return median(times);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
