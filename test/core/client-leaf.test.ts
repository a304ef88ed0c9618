import { createPrivateKey, X509Certificate } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CaClient } from '../../ca/client/client.ts';
import { connectToCa } from '../../core/feed/follow.ts';
import { ClientLeaf } from '../../core/node/client-leaf.ts';
import { startCrlNode } from '../../crl/node/service.ts';
import { until } from '../support/actors.ts';
import {
  addClient,
  freePort,
  ManualClock,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

// The TLS client certificate that an OCSP or CRL node renews by itself. The node's clock is ahead where the certificate is to be
// old: TLS itself goes by the machine's.

const dayMs = 86_400_000;
let test: TestService;
beforeAll(async () => {
  test = await startTestService({ overrides: { limits: { clientCertificate: '90d' } } });
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

const late = (): ManualClock => {
  const clock = new ManualClock();
  clock.advance(61 * dayMs);
  return clock;
};

let nodes = 0;

/** A folder with a node's client certificate. */
async function folderOf(): Promise<{ folder: string; files: { key: string; cert: string } }> {
  nodes += 1;
  const name = `node-${nodes}`;
  await (await addClient(test, name, { roles: ['follower', 'ocsp'] })).client.close();
  const folder = join(scratch(), 'node');
  mkdirSync(folder, { recursive: true });
  const files = { key: join(folder, 'node.key'), cert: join(folder, 'node.pem') };
  copyFileSync(join(test.folder, 'clients', `${name}.key`), files.key);
  copyFileSync(join(test.folder, 'clients', `${name}.pem`), files.cert);
  copyFileSync(join(test.folder, 'tls', 'operations-ca.pem'), join(folder, 'ca.pem'));
  return { folder, files };
}

const silent = pino({ level: 'silent' });
const connect = (folder: string, clock: ManualClock) =>
  connectToCa(
    folder,
    { url: test.service.addresses.api, key: 'node.key', cert: 'node.pem', ca: 'ca.pem' },
    { clock, logger: silent },
  );

const serialOf = (file: string): string => new X509Certificate(readFileSync(file)).serialNumber;

async function works({ key, cert }: { key: string; cert: string }): Promise<boolean> {
  const ca = readFileSync(join(test.folder, 'tls', 'operations-ca.pem'), 'utf8');
  const client = new CaClient({ address: test.service.addresses.api, key, cert, ca });
  try {
    return (await client.get('/health')).status === 200;
  } finally {
    await client.close();
  }
}

describe('a node’s client certificate', () => {
  it('is left alone before its last third', async () => {
    const { folder, files } = await folderOf();
    const { feed, renewLeaf } = connect(folder, new ManualClock());
    const before = serialOf(files.cert);
    await renewLeaf();
    expect(serialOf(files.cert)).toBe(before);
    await feed.close();
  });

  it('is renewed in its last third with a new key, and its connection goes on with the new one', async () => {
    const { folder, files } = await folderOf();
    const { feed, renewLeaf, leaf } = connect(folder, late());
    const [before, key] = [serialOf(files.cert), readFileSync(files.key, 'utf8')];
    await renewLeaf();
    expect(serialOf(files.cert)).not.toBe(before);
    expect(readFileSync(files.key, 'utf8')).not.toBe(key);
    expect(await works(leaf.pair)).toBe(true);
    expect(await feed.epochKey('signing-1', 1)).toHaveLength(16);
    // A clock that is ahead for good makes no certificates without end.
    await expect(renewLeaf()).rejects.toThrow(/too lately/);
    await feed.close();
  });

  it('survives a process that dies at any point of its renewal', async () => {
    const { folder, files } = await folderOf();
    const { feed } = connect(folder, late());
    const leaf = new ClientLeaf(files, late());
    // Certified, and the answer is lost.
    let lost = '';
    const dies = async (...asked: [Uint8Array, string]): Promise<string> => {
      lost = await feed.renewClient(...asked);
      throw new Error('died');
    };
    await expect(leaf.renew(dies)).rejects.toThrow('died');
    expect(await works(leaf.pair)).toBe(true);
    // Asked again, by the next process, it is the same certificate.
    let again = '';
    const stops = async (...asked: [Uint8Array, string]): Promise<string> => {
      again = await feed.renewClient(...asked);
      throw new Error('died');
    };
    await expect(new ClientLeaf(files, late()).renew(stops)).rejects.toThrow('died');
    expect(again).toBe(lost);
    // Both successors written, neither in its place; then the key alone.
    const next = `${files.key}.next`;
    writeFileSync(`${files.cert}.next`, lost);
    for (const step of ['neither', 'key']) {
      if (step === 'key') {
        writeFileSync(`${files.cert}.next`, readFileSync(files.cert));
        renameSync(files.key, next);
        renameSync(next, files.key);
      }
      expect(await works(new ClientLeaf(files, late()).pair), step).toBe(true);
      expect(existsSync(next)).toBe(false);
      expect(existsSync(`${files.cert}.next`)).toBe(false);
    }
    expect(readFileSync(files.cert, 'utf8')).toBe(lost);
    expect(() => createPrivateKey(readFileSync(files.key))).not.toThrow();
    await feed.close();
  });

  it('that does not belong to its key is refused by name', async () => {
    const [one, other] = [await folderOf(), await folderOf()];
    copyFileSync(other.files.key, one.files.key);
    expect(() => connect(one.folder, new ManualClock())).toThrow(/node\.key is not the key of .*node\.pem/);
  });

  it('is renewed by a running node by itself, which goes on following', async () => {
    const { folder, files } = await folderOf();
    const { caToken } = test.service.ca.config.pkcs11;
    copyFileSync(join(test.folder, caToken.pinFile), join(folder, 'ca.pin'));
    const config = {
      feed: { url: test.service.addresses.api, key: 'node.key', cert: 'node.pem', ca: 'ca.pem' },
      crl: { port: await freePort() },
      pkcs11: { signingThreads: 1, caToken: { label: caToken.label, pinFile: 'ca.pin' } },
    };
    writeFileSync(join(folder, 'node.json'), JSON.stringify(config));
    const before = serialOf(files.cert);
    const lines: string[] = [];
    const logger = pino({ base: null }, { write: (line) => void lines.push(line) });
    const node = await startCrlNode({ folder, clock: late(), logger, upkeepMs: 200 });
    await until('the certificate is renewed', async () => serialOf(files.cert) !== before);
    const { pair } = new ClientLeaf(files, late());
    expect(await works(pair)).toBe(true);
    await node.close();
    expect(lines.join('')).toContain('the client certificate was renewed');
  });
});
