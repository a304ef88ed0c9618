import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { startOcspNode } from '../../ocsp/node/service.ts';
import { askOcsp, derOf, fetchCrl, ocspRequest, pemOf, until } from '../support/actors.ts';
import {
  addClient,
  dataFolder,
  fileOf,
  freePort,
  issueCard,
  openssl,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

// An OCSP node that is cut off from its CA goes on with what it has signed, as long as it is configured to, and says of each answer
// when it was right: no answer whose thisUpdate is at or after a revocation says good.

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});
afterAll(removeScratch);

/** A way to the CA that can be cut. */
class Wire {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isCut = false;

  private constructor(to: number) {
    this.#server = createServer((near) => {
      if (this.#isCut) return void near.destroy();
      const far = connect(to, '127.0.0.1');
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(socket);
        socket.on('error', () => other.destroy()).on('close', () => this.#sockets.delete(socket));
        socket.pipe(other);
      }
    });
  }

  static async to(port: number): Promise<Wire> {
    const wire = new Wire(port);
    await new Promise<void>((resolve) => wire.#server.listen(0, '127.0.0.1', resolve));
    return wire;
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#isCut = false;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** A CA, and an OCSP node at the end of a wire; both with the same limits. */
async function begin(limits: { feedLagMax: string; signedAnswersFor: string }) {
  const test = await startTestService({ folder: await dataFolder({ ocsp: limits }) });
  closing.push(() => test.close());
  await (await addClient(test, 'node', { roles: ['follower', 'ocsp'] })).client.close();
  const wire = await Wire.to(Number(new URL(test.service.addresses.api).port));
  closing.push(() => wire.close());
  const folder = nodeFolder(test);
  const port = await freePort();
  const { label } = test.service.ca.config.pkcs11.ocspToken;
  const config = {
    feed: { url: wire.url, key: 'node.key', cert: 'node.pem', ca: 'ca.pem' },
    ocsp: { port, ...limits },
    pkcs11: { signingThreads: 1, ocspToken: { label, pinFile: 'ocsp.pin' } },
  };
  writeFileSync(join(folder, 'node.json'), JSON.stringify(config));
  const node = await startOcspNode({ folder, clock: test.clock, logger: pino({ level: 'silent' }) });
  closing.push(() => node.close());
  const ca = await fetchCrl(`${test.service.addresses.crl}/ca/signing-1.cer`);
  return { test, wire, ca, address: node.address };
}

function nodeFolder(test: TestService): string {
  const folder = join(scratch(), 'node');
  mkdirSync(folder);
  for (const name of ['node.key', 'node.pem'])
    copyFileSync(join(test.folder, 'clients', name), join(folder, name));
  copyFileSync(join(test.folder, 'tls', 'operations-ca.pem'), join(folder, 'ca.pem'));
  copyFileSync(join(test.folder, 'ocsp', 'responders.json'), join(folder, 'responders.json'));
  copyFileSync(join(test.folder, test.service.ca.config.pkcs11.ocspToken.pinFile), join(folder, 'ocsp.pin'));
  return folder;
}

interface Said {
  readonly status: string;
  readonly thisUpdateMs: number;
}

/** What a responder says, as openssl reads it. */
async function ask(address: string, certificate: Uint8Array, ca: Uint8Array): Promise<Said> {
  const response = await askOcsp(address, await ocspRequest(certificate, ca));
  if (response.length === 5) return { status: 'none', thisUpdateMs: 0 };
  const text = openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text');
  return {
    status: /Cert Status: (\w+)/.exec(text)?.[1] ?? '',
    thisUpdateMs: Date.parse(/This Update: (.*)/.exec(text)?.[1] ?? ''),
  };
}

describe.each([
  { signedAnswersFor: '0', givenForMs: 0 },
  { signedAnswersFor: '20s', givenForMs: 20_000 },
])(
  'a node with signedAnswersFor $signedAnswersFor, cut off while a certificate is revoked',
  ({ signedAnswersFor, givenForMs }) => {
    it('says good of no time after the revocation, and nothing once everybody is to know', async () => {
      const { test, wire, ca, address } = await begin({ feedLagMax: '3s', signedAnswersFor });
      const { clock, api } = test;
      const holder = await issueCard(api);
      const certificate = derOf(pemOf(holder.card, 'card-signing'));
      await until(
        'the node has caught up',
        async () => (await ask(address, certificate, ca)).status === 'good',
      );
      wire.cut();
      const { body } = await api.post<{
        knownEverywhereBy: string;
        changes: { to: { revokedAt: string } }[];
      }>('/events', { event: 'card-returned', cardId: holder.cardId });
      const revokedMs = Date.parse(body.changes[0]?.to.revokedAt ?? '');
      const knownMs = Date.parse(body.knownEverywhereBy);
      expect(knownMs - revokedMs).toBeGreaterThanOrEqual(3000 + givenForMs);
      expect(knownMs - revokedMs).toBeLessThan(3000 + givenForMs + 12_000);
      let given = 0;
      const startMs = clock.wallMs();
      while (clock.wallMs() < knownMs) {
        const { status, thisUpdateMs } = await ask(address, certificate, ca);
        if (status === 'good') {
          expect(thisUpdateMs).toBeLessThan(revokedMs);
          given = clock.wallMs() - startMs;
        }
        clock.advance(1000);
      }
      expect((await ask(address, certificate, ca)).status).toBe('none');
      const own = test.service.addresses.ocsp;
      await until('so does the service', async () => (await ask(own, certificate, ca)).status === 'revoked');
      if (givenForMs === 0) expect(given).toBeLessThan(5000);
      else expect(given).toBeGreaterThan(10_000);
      wire.mend();
      await until(
        'the node receives it',
        async () => (await ask(address, certificate, ca)).status === 'revoked',
      );
    });
  },
);

describe('an outage of the CA', () => {
  it('is none of OCSP', async () => {
    const { test, wire, ca, address } = await begin({ feedLagMax: '3s', signedAnswersFor: '10min' });
    const holder = await issueCard(test.api);
    const certificate = derOf(pemOf(holder.card, 'card-signing'));
    await until(
      'the node has caught up',
      async () => (await ask(address, certificate, ca)).status === 'good',
    );
    wire.cut();
    for (let minutes = 0; minutes < 9; minutes++) {
      test.clock.advance(60_000);
      expect((await ask(address, certificate, ca)).status).toBe('good');
    }
    wire.mend();
    const later = await issueCard(test.api);
    const issuedSince = derOf(pemOf(later.card, 'card-signing'));
    await until(
      'answers are signed again',
      async () => (await ask(address, issuedSince, ca)).status === 'good',
      60_000,
    );
  });
});
