import { createCipheriv, randomBytes } from 'node:crypto';
import { buildFilter } from '../../core/filter/build-filter.ts';
import { encodeDelta } from '../../core/filter/delta.ts';
import { type FilterHead, FilterTables } from '../../core/filter/filter.ts';

/** Look-ups that are measured, of certificates chosen by chance. */
const lookups = 500_000;

/** Whether a position is revoked, by chance, the same in each run. */
function drawRevoked(total: number, revoked: number): { bits: Uint8Array; count: number } {
  const bits = new Uint8Array(new SharedArrayBuffer(Math.ceil(total / 8)));
  let [state, count] = [12_345, 0];
  for (let i = 0; i < total; i += 1) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    if (state / 2 ** 32 >= revoked / total) continue;
    bits[i >> 3] = (bits[i >> 3] ?? 0) | (1 << (i & 7));
    count += 1;
  }
  return { bits, count };
}

/** Bits that no file without a false answer can do without: log2 of the number of ways to choose the revoked ones. */
function boundBytes(total: number, revoked: number): number {
  const p = revoked / total;
  return (total * (-p * Math.log2(p) - (1 - p) * Math.log2(1 - p))) / 8;
}

/** Builds a filter of a nation, compares its size with the information bound, and asks it. */
export async function benchFilter({
  certificates,
  revoked,
  threads,
}: {
  readonly certificates: number;
  readonly revoked: number;
  readonly threads: number;
}): Promise<Readonly<Record<string, number>>> {
  const key = randomBytes(16);
  const { bits, count } = drawRevoked(certificates, revoked);
  const begunMs = performance.now();
  const built = await buildFilter([{ key, first: 0, count: certificates, revoked: bits }], {
    threads,
    niceness: 0,
  });
  const buildSeconds = (performance.now() - begunMs) / 1000;
  const tables = new FilterTables({ ...built, type: 'base' } as unknown as FilterHead, built.body);
  const cipher = createCipheriv('aes-128-ecb', key, null).setAutoPadding(false);
  const serials: Uint8Array[] = [];
  const wanted: boolean[] = [];
  for (let i = 0; i < lookups; i += 1) {
    const position = Math.floor(Math.random() * certificates);
    const block = Buffer.alloc(16);
    block.writeUIntBE(position, 10, 6);
    serials.push(Buffer.concat([Buffer.of(1), cipher.update(block)]));
    wanted.push((((bits[position >> 3] ?? 0) >> (position & 7)) & 1) === 1);
  }
  const askedMs = performance.now();
  const answers = serials.map((serial) => tables.isRevoked(serial));
  const lookupNs = ((performance.now() - askedMs) / lookups) * 1e6;
  const wrong = answers.filter((answer, i) => answer !== wanted[i]).length;
  if (wrong > 0) throw new Error(`${wrong} of ${lookups} answers are wrong`);
  // What a nation revokes in a day: 63 million phones and 5 million moves a year.
  const ofDay = serials.slice(
    0,
    Math.min(Math.round((68_000_000 / 365) * (certificates / 126_650_000)), lookups),
  );
  return {
    ...{ certificates, revoked: count, columns: built.columns, shards: built.shards },
    bytes: built.body.length,
    toBound: built.body.length / boundBytes(certificates, count),
    buildSeconds,
    lookupNs,
    deltaBytes: encodeDelta({ revoked: ofDay, released: [] }).length,
    deltaChanges: ofDay.length,
    rssMiB: process.memoryUsage.rss() / 2 ** 20,
  };
}
