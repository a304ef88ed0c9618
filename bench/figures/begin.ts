import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Issued } from '../../ca/client/client.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { must } from '../../core/runtime/errors.ts';
import { ClassTable } from '../../ocsp/index/class-table.ts';
import { code, partLength, Segment, type SegmentMemory, segmentLength } from '../../ocsp/index/segment.ts';
import { readSnapshot, writeSnapshot } from '../../ocsp/index/snapshot.ts';
import { StatusIndex } from '../../ocsp/index/status-index.ts';
import {
  askOcsp,
  cardRequest,
  derOf,
  fetchCrl,
  namedClient,
  ocspRequest,
  pemOf,
} from '../../test/support/actors.ts';
import { configure, startProcess } from '../../test/support/service-process.ts';
import { KeyFactory } from '../load/keys.ts';
import { residentOctets } from '../load/measure.ts';
import { startNode } from './revocation.ts';

/** good [0] IMPLICIT NULL, right before thisUpdate. */
const good = Buffer.from('8000180f', 'hex');
/** One in so many certificates is revoked. */
const revokedOneIn = 100;
/** How long a node may take. */
const waitMs = 600_000;

/**
 * How long a new OCSP node takes to be current, of a CA whose own responder knows so many certificates, half of them of phones: from its
 * start, over its connection to the CA, to its first signed answer.
 */
export async function benchBegin({ certificates }: { readonly certificates: number }) {
  const scratch = mkdtempSync(join(tmpdir(), 'warifu-bench-begin-'));
  process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));
  const folder = join(scratch, 'data');
  const addresses = await configure(folder);
  const first = await startProcess(folder, addresses);
  process.once('exit', () => first.child.kill('SIGKILL'));
  const issuing = namedClient(folder, addresses.api, 'first');
  const keys = new KeyFactory(8);
  const request = cardRequest(
    { signing: keys.next(), authentication: keys.next() },
    { holderId: 'holder-1', cardId: 'card-1' },
  );
  const { body } = await issuing.post<Issued>('/card-certificates', request);
  const leaf = derOf(pemOf(body, 'card-signing'));
  await issuing.close();
  await first.stop();
  const file = join(folder, 'ocsp', 'index.snapshot');
  await fill(file, certificates);
  const service = await startProcess(folder, addresses);
  process.once('exit', () => service.child.kill('SIGKILL'));
  const api = namedClient(folder, addresses.api, 'first');
  const ca = await fetchCrl(`${addresses.crl}/ca/signing-1.cer`);
  const startMs = performance.now();
  const node = await startNode(folder, join(scratch, 'node'), addresses.api, api);
  const isGood = async (): Promise<boolean> =>
    Buffer.from(await askOcsp(node.address, await ocspRequest(leaf, ca))).includes(good);
  while (!(await isGood())) {
    if (performance.now() - startMs > waitMs) throw new Error('the node is not current after ten minutes');
    await new Promise((done) => setTimeout(done, 100));
  }
  const seconds = (performance.now() - startMs) / 1000;
  const nodeMiB = residentOctets(node.child.pid ?? 0) / 2 ** 20;
  node.child.kill('SIGTERM');
  await api.close();
  await service.stop();
  return {
    certificates,
    snapshotOctets: statSync(file).size,
    currentSeconds: seconds,
    nodeResidentMiB: nodeMiB,
  };
}

/** Adds made-up segments to a snapshot: all good but for one in a hundred; the first half of each authority's are of phones. */
async function fill(file: string, certificates: number): Promise<void> {
  const snapshot = must(readSnapshot(file), 'snapshot of the first start');
  const key = new Uint8Array(16);
  const index = new StatusIndex({ epochKey: async () => key }, systemClock);
  await snapshot.restore(index);
  const facts = { platform: 'android', model: 'Example 9', secureElement: 'strongbox', cohort: 0 };
  await index.apply({
    events: [{ type: 'device-class', deviceClass: 'd', facts: facts as never }],
    cursor: snapshot.mark.cursor,
    watermarkMs: 0,
  });
  const [card, phone] = [templateOf(false), templateOf(true)];
  const authorities = [...index.reader.authorities.keys()].slice(0, 2);
  const segments = Math.ceil(certificates / authorities.length / segmentLength);
  const notAfterMs = systemClock.wallMs() + 5 * 365 * 86_400_000;
  for (const authority of authorities)
    for (let number = 1; number <= segments; number++) {
      const memory = copyOf(number * 2 <= segments ? phone : card);
      await index.restore({ authority, epoch: 1, number, notAfterMs, memory });
    }
  await writeSnapshot(file, index, snapshot.mark);
}

function templateOf(isOfPhones: boolean): SegmentMemory {
  const segment = Segment.empty(new ClassTable());
  segment.fill(code.good);
  let used = 0;
  for (let offset = 0; offset < segmentLength; offset += revokedOneIn) {
    if (segment.isFull(used)) segment.use(segment.grown());
    const status = {
      state: 'revoked',
      version: 2,
      revokedMs: 1_750_000_000_000,
      reason: 'unspecified',
    } as const;
    if (segment.setChange(offset, status)) used += 1;
  }
  if (isOfPhones)
    for (let offset = 0; offset < segmentLength; offset++) {
      if (offset % partLength === 0) segment.use(segment.withClassOf(offset));
      segment.setClass(offset, 1, 1);
    }
  return segment.memory;
}

const copied = (octets: SharedArrayBuffer): SharedArrayBuffer => octets.slice(0);

const copyOf = ({ codes, changes, classes }: SegmentMemory): SegmentMemory => ({
  codes: copied(codes),
  changes: copied(changes),
  classes: classes.map((part) => part && copied(part)),
});
