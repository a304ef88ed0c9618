import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CaClient, Issued } from '../../ca/client/client.ts';
import {
  askOcsp,
  cardRequest,
  derOf,
  fetchCrl,
  namedClient,
  ocspRequest,
  pemOf,
} from '../../test/support/actors.ts';
import { configure, freePort, startProcess } from '../../test/support/service-process.ts';
import { KeyFactory } from '../load/keys.ts';
import { Generator, post } from '../load/load.ts';
import { firstLine, median } from '../load/measure.ts';

/** good [0] IMPLICIT NULL, right before thisUpdate. */
const good = Buffer.from('8000180f', 'hex');

/**
 * How long after a revocation was acknowledged good is still said, by the CA's own process and by a node of its own that
 * is under load: time of the last such answer, zero where there is none.
 */
export async function benchRevocation({
  revocations,
}: {
  readonly revocations: number;
}): Promise<Record<string, number>> {
  const scratch = mkdtempSync(join(tmpdir(), 'warifu-bench-revocation-'));
  const folder = join(scratch, 'data');
  const addresses = await configure(folder);
  const service = await startProcess(folder, addresses);
  process.once('exit', () => service.child.kill('SIGKILL'));
  const api = namedClient(folder, addresses.api, 'first');
  const node = await startNode(folder, join(scratch, 'node'), addresses.api, api);
  const keys = new KeyFactory(Math.ceil(Math.sqrt(revocations * 4)) + 4);
  const ca = await fetchCrl(`${addresses.crl}/ca/signing-1.cer`);
  const issued: { cardId: string; leaf: Uint8Array }[] = [];
  for (let i = 0; i < revocations; i++) {
    const cardId = `card-${i}`;
    const request = cardRequest(
      { signing: keys.next(), authentication: keys.next() },
      { holderId: `holder-${i}`, cardId },
    );
    const { body } = await api.post<Issued>('/card-certificates', request);
    issued.push({ cardId, leaf: derOf(pemOf(body, 'card-signing')) });
  }
  const load = await Promise.all(
    issued.slice(0, 20).map(({ leaf }) => ocspRequest(leaf, ca, { nonce: randomBytes(16) })),
  );
  const generator = new Generator({ url: node.address, requests: load.map((body) => post(body, '/')) });
  const loading = generator.run(node.child.pid ?? 0, Math.ceil(revocations / 3), 16);
  const lateness: Record<'own' | 'node', number[]> = { own: [], node: [] };
  for (const { cardId, leaf } of issued.slice(20)) {
    const ask = async (address: string): Promise<boolean> =>
      Buffer.from(await askOcsp(address, await ocspRequest(leaf, ca, { nonce: randomBytes(16) }))).includes(
        good,
      );
    if (!(await ask(node.address))) throw new Error('a certificate is not good before it is revoked');
    await api.post('/events', { event: 'card-returned', cardId });
    const acknowledgedMs = performance.now();
    const lastGood = async (address: string): Promise<number> => {
      let lastMs = 0;
      while (await ask(address)) lastMs = performance.now() - acknowledgedMs;
      return lastMs;
    };
    const [own, elsewhere] = await Promise.all([lastGood(addresses.ocsp), lastGood(node.address)]);
    lateness.own.push(own);
    lateness.node.push(elsewhere);
  }
  const { perSecond } = await loading;
  node.child.kill('SIGTERM');
  await api.close();
  await service.stop();
  rmSync(scratch, { recursive: true, force: true });
  const p99 = (values: readonly number[]): number =>
    [...values].sort((a, b) => a - b)[Math.floor(values.length * 0.99)] ?? 0;
  return {
    revocations: lateness.node.length,
    ownLastGoodMsMax: Math.max(...lateness.own),
    nodeLastGoodMsP50: median(lateness.node),
    nodeLastGoodMsP99: p99(lateness.node),
    nodeLoadPerSecond: perSecond,
  };
}

/** A node of its own, bound to the roles it needs; it gets its delegation itself. */
export async function startNode(
  caFolder: string,
  folder: string,
  url: string,
  api: CaClient,
): Promise<{ child: ChildProcess; address: string }> {
  mkdirSync(join(folder, 'secrets'), { recursive: true });
  const main = new URL('../../ca/main.ts', import.meta.url).pathname;
  const output = execFileSync(process.execPath, [main, 'client', 'node', '--data', caFolder], {
    encoding: 'utf8',
  });
  const fingerprint = /fingerprint ([0-9a-f]{64})/.exec(output)?.[1] ?? '';
  await api.post('/clients', { fingerprint, name: 'node', roles: ['follower', 'ocsp'], desks: [] });
  for (const name of ['node.key', 'node.pem'])
    copyFileSync(join(caFolder, 'clients', name), join(folder, name));
  copyFileSync(join(caFolder, 'tls', 'operations-ca.pem'), join(folder, 'ca.pem'));
  copyFileSync(join(caFolder, 'secrets', 'warifu-ocsp.pin'), join(folder, 'secrets', 'warifu-ocsp.pin'));
  const port = await freePort();
  const feed = { url, key: 'node.key', cert: 'node.pem', ca: 'ca.pem' };
  const ocsp = { port, responderSuites: ['p256-sha256'] };
  writeFileSync(join(folder, 'node.json'), JSON.stringify({ feed, ocsp }));
  const entry = new URL('../../ocsp/main.ts', import.meta.url).pathname;
  // On one machine both processes use one folder of tokens.
  const env = { ...process.env, SOFTHSM2_CONF: join(caFolder, 'softhsm', 'softhsm2.conf') };
  const child = spawn(process.execPath, [entry, '--data', folder], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env,
  });
  process.once('exit', () => child.kill('SIGKILL'));
  await firstLine(child);
  return { child, address: `http://127.0.0.1:${port}` };
}
