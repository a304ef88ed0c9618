import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { until } from '../support/actors.ts';
import {
  type ClusterNode,
  makeCluster,
  startAgain,
  startFirst,
  startFurther,
  stopNode,
} from '../support/cluster.ts';
import { type Holder, issueCard, removeScratch, scratch, statusAt } from '../support/harness.ts';
import { dropDatabases } from '../support/postgres.ts';

// A service is upgraded node by node: two versions of the software run side by side, on one schema of the record.

const root = new URL('../..', import.meta.url).pathname;
let nodes: ClusterNode[] = [];

afterAll(async () => {
  for (const node of nodes.reverse()) await stopNode(node);
  await dropDatabases();
  removeScratch();
});

/** The next version of this software: its configuration has a key more. Gives its main file. */
function nextVersion(): string {
  const folder = scratch();
  for (const name of ['ca', 'core', 'crl', 'hsm', 'ocsp', 'store', 'package.json'])
    cpSync(join(root, name), join(folder, name), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  const file = join(folder, 'ca', 'config', 'limits.ts');
  const before = readFileSync(file, 'utf8');
  const after = before.replace(
    '    cards: count(1,',
    "    ofTheNextVersion: count(7, 'what this version does not know'),\n    cards: count(1,",
  );
  expect(after).not.toBe(before);
  writeFileSync(file, after);
  return join(folder, 'ca', 'main.ts');
}

it('two versions issue, revoke and answer side by side, and each node is upgraded while the other serves', {
  timeout: 180_000,
}, async () => {
  const cluster = await makeCluster({ ocsp: { feedLagMax: '2s', signedAnswersFor: '0' } });
  const first = await startFirst(cluster);
  nodes = [first, await startFurther(cluster, first, 'ca-2')];
  const main = nextVersion();
  const holders: Holder[] = [];
  for (const at of [1, 0]) {
    const other = nodes[1 - at] as ClusterNode;
    await stopNode(nodes[at] as ClusterNode);
    holders.push(await issueCard(other.api));
    nodes[at] = await startAgain(nodes[at] as ClusterNode, first, main);
    const upgraded = nodes[at];
    holders.push(await issueCard(upgraded.api));
    for (const holder of holders)
      for (const { service } of nodes)
        await until('it is good', async () => (await statusAt(service.addresses, holder)) === 'good');
    const revoked = holders.shift() as Holder;
    const died = await upgraded.api.post('/events', { event: 'died', holderId: revoked.holderId });
    expect(died.status).toBe(200);
    for (const { service } of nodes) expect(await statusAt(service.addresses, revoked)).toBe('revoked');
  }
});
