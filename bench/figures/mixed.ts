import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Pool } from 'undici';
import type { Answer, CaClient, Issued } from '../../ca/client/client.ts';
import { layout } from '../../ca/node/layout.ts';
import {
  base64,
  cardRequest,
  defaultDevice,
  derOf,
  enrolmentContent,
  namedClient,
  pemOf,
  signEnrolment,
} from '../../test/support/actors.ts';
import { configure, freePort, startProcess } from '../../test/support/service-process.ts';
import { bindClients } from '../load/clients.ts';
import { KeyFactory } from '../load/keys.ts';
import { median } from '../load/measure.ts';
import { holderOfRow, populate } from './issue-record.ts';

/** What is asked a second, each at its time, whatever has been answered. */
const rates = { revoke: 10, enrol: 2, lookup: 100, health: 1000 } as const;
type Kind = keyof typeof rates;
/** A service that was just started prepares each route when it is first asked: times of this long do not count. */
const warmUpSeconds = 2;
/** How long a provider of verdicts takes. */
const verdictMs = 300;
/** An epoch that the service has, and positions that it will not come to. */
const behindAll = { epoch: 1, firstPosition: 2 ** 39 };

/**
 * How long revocations, enrolments and look-ups take, from when they are due, while all of them come at once, pages of renewals are read one
 * after the other, health is asked a thousand times a second, and a provider takes its time for its verdict on each phone.
 */
export async function benchMixed({
  seconds,
  certificates,
}: {
  readonly seconds: number;
  readonly certificates: number;
}): Promise<Record<string, number>> {
  const scratch = mkdtempSync(join(tmpdir(), 'warifu-bench-mixed-'));
  const provider = await slowProvider();
  try {
    const folder = join(scratch, 'data');
    const addresses = await configure(folder, {
      // All clients are of one address.
      limits: {
        requestsPerSecond: 10_000,
        connections: { perAddress: 4000, newPerSecond: 4000, newAtOnce: 4000 },
      },
      evidence: {
        verdicts: [{ name: 'integrity', url: provider.url, use: 'required', timeout: '2s' }],
      },
    });
    // The first start performs the ceremony.
    await (await startProcess(folder, addresses)).stop();
    populate(layout(folder).record, certificates, behindAll);
    const service = await startProcess(folder, addresses);
    process.once('exit', () => service.child.kill('SIGKILL'));
    const api = namedClient(folder, addresses.api, 'first');
    const bound = await bindClients({ folder, address: addresses.api, api }, roles);
    const client = {
      revoker: bound('revoker'),
      portal: bound('portal'),
      reader: bound('reader'),
      lister: bound('lister'),
    };
    const allSeconds = warmUpSeconds + seconds;
    const prepared = await prepare(api, client.portal, allSeconds);
    const pairs = Math.ceil(certificates / 2);
    const acts: Readonly<Record<Kind, (i: number) => Promise<Pick<Answer, 'status' | 'body'>>>> = {
      revoke: (i) => client.revoker.post('/events', { event: 'card-lost', cardId: `revoked-${i}` }),
      enrol: (i) => client.portal.post('/phone-certificates', prepared.enrolments[i] ?? {}),
      lookup: (i) =>
        client.reader.get(`/holders/${holderOfRow(Math.floor((i * 0.618034 * pairs) % pairs), pairs)}`),
      health: () => prober.ask(),
    };
    const prober = proberOf(folder, addresses.api);
    const reading = { isOver: false };
    const pages = readRenewals(client.lister, reading);
    const kinds = Object.keys(rates) as Kind[];
    const times = await Promise.all(kinds.map((kind) => paced(kind, acts[kind], allSeconds)));
    reading.isOver = true;
    const pagesRead = await pages;
    await Promise.all([api, prober, ...Object.values(client)].map((each) => each.close()));
    await service.stop();
    const figures = kinds.flatMap((kind, i) => {
      const sorted = (times[i] ?? []).sort((a, b) => a - b);
      const p99 = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * 0.99))] ?? Number.NaN;
      return [
        [`${kind}MsP50`, median(sorted)],
        [`${kind}MsP99`, p99],
      ];
    });
    return {
      ...Object.fromEntries(figures),
      renewalPagesPerSecond: pagesRead / allSeconds,
      warmUpSeconds,
      verdictMs,
      certificates,
    };
  } finally {
    provider.stop();
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Who asks: each its own client, as they are in the field. */
const roles = {
  revoker: 'revoker',
  portal: 'issuer',
  reader: 'reader',
  prober: 'reader',
  lister: 'reader',
} as const;

/** Asks for health over a few connections, as what supervises a service does. */
function proberOf(folder: string, address: string) {
  const file = (...path: string[]): Buffer => readFileSync(join(folder, ...path));
  const [key, cert] = ['key', 'pem'].map((end) => file('clients', `prober.${end}`));
  const ca = file('tls', 'operations-ca.pem');
  const pool = new Pool(address, { connections: 8, connect: { key, cert, ca } as object });
  return {
    ask: async (): Promise<Pick<Answer, 'status' | 'body'>> => {
      const { statusCode: status, body } = await pool.request({ method: 'GET', path: '/v1/health' });
      return { status, body: await body.text() };
    },
    close: () => pool.close(),
  };
}

/** Allows every phone, in its time. */
async function slowProvider(): Promise<{ readonly url: string; stop(): void }> {
  const port = await freePort();
  const server = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk) => {
      text += String(chunk);
    });
    request.on('end', () => {
      const { challenge } = JSON.parse(text) as { challenge: string };
      setTimeout(() => response.end(JSON.stringify({ verdict: 'allow', challenge })), verdictMs);
    });
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${port}/`, stop: () => void server.close() };
}

/** Cards that are revoked, and enrolments that are sent, later. */
async function prepare(
  api: CaClient,
  portal: CaClient,
  seconds: number,
): Promise<{ readonly enrolments: readonly object[] }> {
  const [revoked, enrolled] = [rates.revoke * seconds, rates.enrol * seconds];
  const keys = new KeyFactory(Math.ceil(Math.sqrt(2 * (2 * revoked + 4 * enrolled))) + 8);
  const issue = async (name: string) => {
    const [signing, authentication] = [keys.next(), keys.next()];
    const card = cardRequest({ signing, authentication }, { holderId: `of-${name}`, cardId: name });
    const { status, body } = await api.post<Issued>('/card-certificates', card);
    if (status !== 201) throw new Error(`a card: ${JSON.stringify(body)}`);
    return { signing, issued: body };
  };
  for (let i = 0; i < revoked; i += 8)
    await Promise.all(Array.from({ length: Math.min(8, revoked - i) }, (_, j) => issue(`revoked-${i + j}`)));
  const enrolments: object[] = [];
  for (let i = 0; i < enrolled; i++) {
    const { signing, issued } = await issue(`enrolling-${i}`);
    const given = await portal.post<{ challenge: string }>('/phone-challenges', undefined);
    const deviceId = `phone-${i}`;
    const parts = {
      cardSigningKey: signing.privateKey,
      cardSigningCertificate: derOf(pemOf(issued, 'card-signing')),
      challenge: Buffer.from(given.body.challenge, 'base64'),
      device: { ...defaultDevice, deviceId },
      signing: keys.next(),
      authentication: keys.next(),
    };
    enrolments.push({ deviceId, signedEnrolment: base64(signEnrolment(enrolmentContent(parts), parts)) });
  }
  return { enrolments };
}

/** Milliseconds from when each request was due to its answer, but for those that warm the service up. Rejects where one is refused. */
async function paced(
  kind: Kind,
  act: (i: number) => Promise<Pick<Answer, 'status' | 'body'>>,
  seconds: number,
): Promise<number[]> {
  const times: number[] = [];
  const asked: Promise<void>[] = [];
  const startMs = performance.now();
  for (let i = 0; i < rates[kind] * seconds; i++) {
    const dueMs = startMs + (i * 1000) / rates[kind];
    const waitMs = dueMs - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    asked.push(
      act(i).then(({ status, body }) => {
        if (status >= 300) throw new Error(`${kind}: ${status} ${JSON.stringify(body)}`);
        if (i >= rates[kind] * warmUpSeconds) times.push(performance.now() - dueMs);
      }),
    );
  }
  await Promise.all(asked);
  return times;
}

/** Reads renewals page by page, from the beginning again where there are no more; gives how many pages. */
async function readRenewals(api: CaClient, reading: { readonly isOver: boolean }): Promise<number> {
  let [pages, next] = [0, null as string | null];
  while (!reading.isOver) {
    const after = next === null ? '' : `&after=${encodeURIComponent(next)}`;
    const page = await api.get<{ next: string | null }>(`/renewals?days=90${after}`);
    if (page.status !== 200) throw new Error(`renewals: ${page.status} ${JSON.stringify(page.body)}`);
    next = page.body.next;
    pages += 1;
  }
  return pages;
}
