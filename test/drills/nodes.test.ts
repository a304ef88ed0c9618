import { spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Issued } from '../../ca/client/client.ts';
import type { PostgresServer } from '../../store/postgres/server.ts';
import { Session } from '../../store/postgres/session.ts';
import {
  base64,
  cardRequest,
  crlAddress,
  crlNumber,
  derOf,
  enrolmentContent,
  fetchCrl,
  listed,
  makeChipKey,
  pemOf,
  signEnrolment,
  until,
} from '../support/actors.ts';
import {
  type Cluster,
  type ClusterNode,
  joinNode,
  makeCluster,
  startAgain,
  startFirst,
  startFurther,
  stopNode,
} from '../support/cluster.ts';
import {
  enrolmentParts,
  type Holder,
  issueCard,
  removeScratch,
  runWarifu,
  statusAt,
  statusOfPhone,
} from '../support/harness.ts';
import { ownKey } from '../support/own-key.ts';
import { dropDatabases } from '../support/postgres.ts';
import { freePort, startProcess } from '../support/service-process.ts';

// Two CA nodes on one record, each a process of its own, on a token that they share.

/** How long a node answers by what it has received: the longest that a revocation waits for a node that says nothing. */
const answersForMs = 2000;

let cluster: Cluster;
let a: ClusterNode;
let b: ClusterNode;

beforeAll(async () => {
  cluster = await makeCluster({ ocsp: { feedLagMax: `${answersForMs / 1000}s`, signedAnswersFor: '0' } });
  a = await startFirst(cluster);
  b = await startFurther(cluster, a, 'ca-2');
}, 120_000);
afterAll(async () => {
  for (const node of [b, a]) if (node) await stopNode(node);
  await dropDatabases();
  removeScratch();
});

const statuses = (holder: Holder, nodes: readonly ClusterNode[] = [a, b]): Promise<string[]> =>
  Promise.all(nodes.map(({ service }) => statusAt(service.addresses, holder)));

async function sql(statement: string): Promise<unknown[]> {
  const { hosts, database, user } = (cluster.record as { postgres: Record<string, unknown> }).postgres as {
    hosts: string[];
    database: string;
    user: string;
  };
  const [host = '', port] = hosts[0]?.split(':') ?? [];
  const server: PostgresServer = {
    hosts: [{ host, port: Number(port) }],
    ...{ database, user, password: () => cluster.password },
  };
  const session = await Session.open(server, { name: 'by hand' });
  try {
    return (await session.query(statement)).rows.map(([first]) => first);
  } finally {
    await session.close();
  }
}

const died = ({ api }: ClusterNode, { holderId }: Holder) => api.post('/events', { event: 'died', holderId });

/** The CRL of a card's signing certificate, as a node serves it. */
async function crlAt({ service }: ClusterNode, { card }: Holder): Promise<Uint8Array> {
  const { pathname } = new URL(crlAddress(derOf(pemOf(card, 'card-signing'))));
  return fetchCrl(`${service.addresses.crl}${pathname}`);
}

const serialOf = ({ card }: Holder): string =>
  card.certificates.find(({ kind }) => kind === 'card-signing')?.serialNumber ?? '';

describe('two nodes of one record', () => {
  it('issue and revoke what the other answers for, from the moment of the answer on', async () => {
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const holder = await issueCard(one.api);
      await until('both know it', async () => (await statuses(holder)).every((status) => status === 'good'));
      expect((await died(other, holder)).status).toBe(200);
      expect(await statuses(holder)).toEqual(['revoked', 'revoked']);
    }
  });

  it('answer a request once, whichever of them it is sent to', async () => {
    const body = cardRequest(
      { signing: await makeChipKey(), authentication: await makeChipKey() },
      { holderId: 'holder-twice', cardId: 'card-twice' },
    );
    const key = crypto.randomUUID();
    const send = ({ api }: ClusterNode) => api.post<Issued>('/card-certificates', body, key);
    // One that comes while the other is worked on is told so.
    const atOnce = await Promise.all([send(a), send(b)]);
    expect(atOnce.map(({ status }) => status).filter((status) => status !== 409)).toContain(201);
    const [first, second] = [await send(a), await send(b)];
    expect([first, second]).toMatchObject([
      { status: 201, replayed: true },
      { status: 201, replayed: true },
    ]);
    expect(second.body).toEqual(first.body);
  });

  it('give their certificates different names, also in the same second', async () => {
    const issued = await Promise.all(
      Array.from({ length: 24 }, (_, i) => issueCard((i % 2 === 0 ? a : b).api)),
    );
    const numbers = issued.flatMap(({ card }) => card.certificates.map(({ serialNumber }) => serialNumber));
    const names = issued.map(({ card }) => subjectOf(pemOf(card, 'card-authentication')));
    expect(new Set(numbers).size).toBe(numbers.length);
    expect(new Set(names).size).toBe(names.length);
  });

  it('publish the same CRLs, which one of them signs', async () => {
    const holder = await issueCard(b.api);
    expect((await died(a, holder)).status).toBe(200);
    await until('both list it', async () => {
      const lists = await Promise.all([a, b].map(async (node) => listed(await crlAt(node, holder))));
      return lists.every((list) => list.has(serialOf(holder)));
    });
    const [one, other] = [await crlAt(a, holder), await crlAt(b, holder)];
    expect(Buffer.compare(one, other)).toBe(0);
  });

  it('count what a limited function does together', { timeout: 60_000 }, async () => {
    const perMinute = 6;
    const limited = { state: 'limited', perMinute, note: 'a test' };
    // Not at the end of a minute, where two of them would be counted.
    await until('a minute has begun', async () => new Date().getSeconds() < 45, 20_000);
    expect((await a.api.post('/switches/card-issuing', limited)).status).toBe(200);
    try {
      const tried = await Promise.all(
        Array.from({ length: 2 * perMinute }, (_, i) =>
          issueCard((i % 2 === 0 ? a : b).api).then(
            () => 'issued',
            (error: Error) => (error.message.includes('function-closed') ? 'refused' : error.message),
          ),
        ),
      );
      expect(tried.filter((each) => each === 'issued')).toHaveLength(perMinute);
      expect(tried.filter((each) => each === 'refused')).toHaveLength(perMinute);
    } finally {
      expect((await b.api.post('/switches/card-issuing', { state: 'open' })).status).toBe(200);
    }
    await issueCard(a.api);
  });

  it('leave no good phone where it is enrolled on one while its card is revoked on the other', {
    timeout: 60_000,
  }, async () => {
    for (let round = 0; round < 6; round += 1) {
      const holder = await issueCard(a.api);
      const parts = await enrolmentParts(b.api, holder);
      const { deviceId } = parts.device;
      const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
      const [enrolled, revoked] = await Promise.all([
        b.api.post<Issued>('/phone-certificates', { deviceId, signedEnrolment }),
        a.api.post('/events', { event: 'card-lost', cardId: holder.cardId }),
      ]);
      expect(revoked.status).toBe(200);
      if (enrolled.status !== 201) continue;
      for (const { service } of [a, b])
        expect(await statusOfPhone(service.addresses, enrolled.body)).not.toBe('good');
    }
  });

  it('take up another generation without a restart', { timeout: 90_000 }, async () => {
    const made = await runWarifu('generation', '--suite', 'p384-sha384', '--data', a.folder);
    expect(made).toMatchObject({ code: 0 });
    for (const node of [a, b])
      await until(
        `${node.name} issues from it`,
        async () => node.service.log().includes('an authority was added'),
        40_000,
      );
  });
});

describe('an OCSP node that follows one of two', () => {
  it('says good of nothing any more of which the other has answered that it is revoked', {
    timeout: 60_000,
  }, async () => {
    const node = await startOcspElsewhere(b);
    try {
      for (let round = 0; round < 8; round += 1) {
        const holder = await issueCard(a.api);
        const said = () => statusAt({ ...a.service.addresses, ocsp: node.address }, holder);
        await until('it knows it', async () => (await said().catch(() => '')) === 'good', 20_000);
        expect((await died(a, holder)).status).toBe(200);
        expect(await said()).toBe('revoked');
      }
    } finally {
      await node.stop();
    }
  });
});

/** An OCSP node in a folder and process of its own, with keys in the token that all share. */
async function startOcspElsewhere({ folder: ofCa, api, service }: ClusterNode) {
  const folder = join(cluster.folder, 'ocsp-elsewhere');
  mkdirSync(join(folder, 'secrets'), { recursive: true });
  const { request, key } = await ownKey();
  const made = await api.post<{ certificate: string }>('/clients', {
    ...{ request, name: 'elsewhere', desks: [], roles: ['follower', 'ocsp'], authorities: ['*'] },
  });
  expect(made.status).toBe(201);
  writeFileSync(join(folder, 'node.key'), key, { mode: 0o600 });
  writeFileSync(join(folder, 'node.pem'), made.body.certificate);
  cpSync(join(ofCa, 'tls', 'operations-ca.pem'), join(folder, 'ca.pem'));
  cpSync(join(a.folder, 'secrets', 'warifu-ocsp.pin'), join(folder, 'secrets', 'warifu-ocsp.pin'));
  symlinkSync(join(a.folder, 'softhsm'), join(folder, 'softhsm'));
  const port = await freePort();
  const config = {
    feed: { url: service.addresses.api, key: 'node.key', cert: 'node.pem', ca: 'ca.pem' },
    ocsp: { port, feedLagMax: `${answersForMs / 1000}s`, signedAnswersFor: '0' },
    pkcs11: { signingThreads: 1 },
  };
  writeFileSync(join(folder, 'node.json'), JSON.stringify(config));
  const main = new URL('../../ocsp/main.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [main, '--data', folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  return {
    address: `http://127.0.0.1:${port}`,
    stop: async () => {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

describe('a node that says nothing', () => {
  afterEach(() => void b.service.child.kill('SIGCONT'));

  it('delays a revocation for as long as it may answer, and says good no more when it is back', {
    timeout: 60_000,
  }, async () => {
    const holder = await issueCard(a.api);
    await until('both know it', async () => (await statuses(holder)).every((status) => status === 'good'));
    b.service.child.kill('SIGSTOP');
    const beganMs = performance.now();
    expect((await died(a, holder)).status).toBe(200);
    const tookMs = performance.now() - beganMs;
    b.service.child.kill('SIGCONT');
    // Told to ask later, or told the truth.
    const said = await statusAt(b.service.addresses, holder).catch((error: Error) => error.message);
    expect(said).not.toBe('good');
    expect(tookMs).toBeGreaterThan(answersForMs / 2);
    expect(tookMs).toBeLessThan(answersForMs * 3);
    await until('it knows', async () => (await statuses(holder).catch(() => []))[1] === 'revoked');
  });
});

describe('a node that is killed', () => {
  it('leaves nothing that the other does not finish', { timeout: 90_000 }, async () => {
    expect(await sql(`SELECT node FROM "workClaim" WHERE work = 'duties'`)).toEqual(['ca-1']);
    const issuing = Array.from({ length: 16 }, () => issueCard(a.api).catch(() => undefined));
    await Promise.race(issuing);
    a.service.child.kill('SIGKILL');
    const acknowledged = (await Promise.all(issuing)).filter((each) => each !== undefined);
    await a.api.close();
    await a.service.exited;
    const holder = await issueCard(b.api);
    const before = crlNumber(await crlAt(b, holder));
    expect((await died(b, holder)).status).toBe(200);
    await until('it has taken over', async () => {
      const nodes = await sql(`SELECT DISTINCT node FROM "workClaim"`);
      return nodes.join() === 'ca-2';
    });
    await until('it publishes CRLs', async () => listed(await crlAt(b, holder)).has(serialOf(holder)));
    expect(crlNumber(await crlAt(b, holder))).toBeGreaterThan(before);
    await until(
      'what was under way is finished',
      async () => (await sql('SELECT writer FROM reservation')).length === 0,
      60_000,
    );
    for (const each of acknowledged) expect(await statusAt(b.service.addresses, each)).toBe('good');
    a = await startAgain(a, a);
    expect(await statuses(holder)).toEqual(['revoked', 'revoked']);
    await issueCard(a.api);
  });
});

describe('a database that lost what was published last', () => {
  it('has it again from the node that publishes, which goes on', { timeout: 60_000 }, async () => {
    const holder = await issueCard(a.api);
    await until('a node serves it', async () => (await crlAt(a, holder)).length > 0);
    await sql('CREATE TABLE public.kept AS SELECT * FROM "crlPublication"');
    const before = await issueCard(a.api);
    expect((await died(a, before)).status).toBe(200);
    await until('it is listed', async () => listed(await crlAt(a, before)).has(serialOf(before)));
    await sql('DELETE FROM "crlPublication"');
    await sql('INSERT INTO "crlPublication" SELECT * FROM public.kept');
    await sql('DROP TABLE public.kept');
    expect((await died(b, holder)).status).toBe(200);
    for (const node of [a, b])
      await until(
        `${node.name} lists both`,
        async () => {
          const list = listed(await crlAt(node, holder));
          return list.has(serialOf(holder)) && list.has(serialOf(before));
        },
        30_000,
      );
  });
});

describe('warifu join', () => {
  it('refuses the name of another node, and a folder that is one’s already', async () => {
    const { joined, folder } = await joinNode(cluster, a, 'other', { node: 'ca-1' as unknown as object });
    expect(joined.code).not.toBe(0);
    expect(joined.output).toContain('a node named ca-1 has written this record');
    writeFileSync(
      join(folder, 'warifu.json'),
      readFileSync(join(folder, 'warifu.json'), 'utf8').replace('"ca-1"', '"ca-3"'),
    );
    expect(await runWarifu('join', '--data', folder)).toMatchObject({ code: 0 });
    const again = await runWarifu('join', '--data', folder);
    expect(again.output).toContain('is that of a node already');
  });

  it('refuses a configuration that means something else, as does a start, and says in which keys', async () => {
    const differs =
      /not that of the other nodes: that of ca-1 differs in limits\.cards; that of ca-2 differs/;
    const { joined, folder, addresses } = await joinNode(cluster, a, 'ca-4', { limits: { cards: 2 } });
    expect(joined.code).not.toBe(0);
    expect(joined.output).toMatch(differs);
    const file = join(folder, 'warifu.json');
    const other = readFileSync(file, 'utf8');
    writeFileSync(file, other.replace('"limits":{"cards":2},', ''));
    expect(await runWarifu('join', '--data', folder)).toMatchObject({ code: 0 });
    writeFileSync(file, other);
    await expect(startProcess(folder, addresses)).rejects.toThrow(differs);
    writeFileSync(file, other.replace('"ca-4"', '"ca-6"'));
    await expect(startProcess(folder, addresses)).rejects.toThrow(/has joined as ca-4, and "node"/);
  });

  it('is what a start without it names, where the database holds a record', async () => {
    const { folder, addresses } = await joinNode(cluster, a, 'ca-7', { limits: { cards: 2 } });
    await expect(startProcess(folder, addresses)).rejects.toThrow(
      /to add a node to that service, run warifu join/,
    );
  });

  it('refuses what runs while no service does where another node runs', async () => {
    const { folder } = await joinNode(cluster, a, 'ca-5');
    const erased = await runWarifu('erase-year', '2020', '--data', folder);
    expect(erased.code).not.toBe(0);
    expect(erased.output).toContain('the record is in use by ca-1, ca-2: stop all nodes first');
  });
});

/** The subject of a certificate, as openssl prints it. */
function subjectOf(pem: string): string {
  return new X509Certificate(pem).subject;
}
