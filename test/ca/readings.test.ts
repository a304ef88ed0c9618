import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Issued } from '../../ca/client/client.ts';
import { encodeAccessQuery } from '../../ca/request/access-query.ts';
import { digest } from '../../core/runtime/bytes.ts';
import {
  base64,
  type ChipKey,
  cardRequest,
  derOf,
  type EnrolmentParts,
  makeChipKey,
  pemOf,
  signEnrolment,
} from '../support/actors.ts';
import { removeScratch } from '../support/harness.ts';
import { dayMs, expectRefusal } from '../support/holder-rules.ts';
import {
  basicFourOf,
  type Enrolled,
  municipalities,
  nakano,
  type ProductionService,
  shibuya,
  startProduction,
} from '../support/production.ts';

// Reading is an act: for a purpose, so often a day, on record before it is answered; the holder sees it, and no one else alone.

let test: ProductionService;
let reader: Enrolled;
let other: Enrolled;
let identities: Enrolled;
let second: Enrolled;
let third: Enrolled;
let portal: Enrolled;
let bank: Enrolled;
let clerk: Enrolled;
let person: { holderId: string; signing: ChipKey; issued: Issued };

async function issueTo(holderId: string) {
  const [signing, authentication] = [await makeChipKey(), await makeChipKey()];
  const at = {
    ...{ holderId, cardId: `card-of-${holderId}`, basicFour: basicFourOf(holderId) },
    ...{ deskCode: 'SHIBUYA01', municipalityCode: shibuya },
  };
  const body = cardRequest({ signing, authentication }, at);
  const answer = await clerk.client.post<Issued>('/card-certificates', body);
  if (answer.status !== 201) throw new Error(JSON.stringify(answer.body));
  return { holderId, signing, issued: answer.body };
}

beforeAll(async () => {
  const purposes = [
    'operation',
    'audit',
    'incident',
    'inquiry-of-holder',
    'counter-service',
    'loan',
    'account',
  ];
  const reading = { perDay: { person: 12 }, queries: '90d', purposes };
  const verifiers = [{ name: 'bank', url: 'https://bank.example.jp/notices' }];
  test = await startProduction({ municipalities, reading, notices: { verifiers } });
  await test.approved('/desks', { deskCode: 'SHIBUYA01', kind: 'counter', municipalityCode: shibuya });
  await test.approved('/desks', { deskCode: 'ONLINE001', kind: 'online' });
  const desks = ['SHIBUYA01'];
  clerk = await test.enrol({ name: 'clerk', kind: 'person', roles: ['issuer'], desks });
  reader = await test.enrol({ name: 'reader', kind: 'person', roles: ['reader'], municipalities: [shibuya] });
  other = await test.enrol({
    name: 'other town',
    kind: 'person',
    roles: ['reader'],
    municipalities: [nakano],
  });
  const roles = ['reader', 'identity-reader'];
  identities = await test.enrol({ name: 'register', kind: 'system', roles, municipalities: ['*'] });
  second = await test.enrol({ name: 'second', kind: 'person', roles: ['reader'], municipalities: ['*'] });
  third = await test.enrol({ name: 'third', kind: 'person', roles: ['reader'], municipalities: ['*'] });
  portal = await test.enrol({ name: 'portal', kind: 'system', roles: ['issuer'], desks: ['ONLINE001'] });
  bank = await test.enrol({ name: 'bank', kind: 'system', roles: ['verifier'] });
  person = await issueTo('resident-1');
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

interface Row {
  readonly holderId: string | null;
  readonly purpose: string | null;
  readonly route: string;
  readonly found: number;
  readonly client: string;
}
const rows = (): Row[] => {
  using database = new DatabaseSync(join(test.folder, 'accesses.db'), { readOnly: true });
  return database
    .prepare('SELECT holderId, purpose, route, found, client FROM access ORDER BY sequence')
    .all() as unknown as Row[];
};
const lastRow = (): Row | undefined => rows().at(-1);
const get = (by: Enrolled, path: string, purpose?: string) =>
  by.client.send<Record<string, unknown>>(
    'GET',
    path,
    undefined,
    purpose === undefined ? {} : { 'warifu-purpose': purpose },
  );
const pathOf = ({ issued }: { issued: Issued }, kind: string): string => {
  const found = issued.certificates.find((each) => each.kind === kind);
  return `/certificates/${found?.authority}/${found?.serialNumber}`;
};

describe('a look-up', () => {
  it('names its purpose, and is on record before it is answered: who, whom, for what', async () => {
    const path = `/holders/${person.holderId}`;
    expectRefusal(await get(reader, path, ''), 400, 'bad-request', /warifu-purpose/i);
    expectRefusal(await get(reader, path, 'curiosity'), 400, 'bad-request', /names one of operation/);
    expect((await get(reader, path, 'inquiry-of-holder')).status).toBe(200);
    expect(lastRow()).toMatchObject({
      ...{ holderId: person.holderId, purpose: 'inquiry-of-holder', found: 1 },
      ...{ route: 'GET /v1/holders/:holderId', client: reader.fingerprint },
    });
  });

  it('is on record also where there is nothing, or another town’s', async () => {
    const hidden = await get(other, `/holders/${person.holderId}`, 'incident');
    const none = await get(other, '/holders/no-one', 'incident');
    expect([hidden.status, none.status]).toEqual([404, 404]);
    const [before, after] = rows().slice(-2);
    expect(before).toMatchObject({ holderId: person.holderId, found: 0, client: other.fingerprint });
    expect(after).toMatchObject({ found: 0 });
  });

  it.each([
    ['a certificate', () => pathOf(person, 'card-authentication')],
    ['its history', () => `${pathOf(person, 'card-signing')}/history`],
    ['a holder’s history', () => `/holders/${person.holderId}/history`],
    ['a holder’s media', () => `/holders/${person.holderId}/media`],
    ['a holder’s corrections', () => `/holders/${person.holderId}/corrections`],
  ])('of %s is on record', async (_what, path) => {
    const before = rows().length;
    expect((await get(second, path(), 'audit')).status).toBe(200);
    expect(rows().slice(before)).toEqual([
      expect.objectContaining({ holderId: person.holderId, purpose: 'audit', found: 1 }),
    ]);
  });

  it('is a dry run, too', async () => {
    const revoker = await test.enrol({
      name: 'revoker',
      kind: 'person',
      roles: ['revoker'],
      municipalities: ['*'],
    });
    const ask = { event: 'card-returned', cardId: `card-of-${person.holderId}`, dryRun: true };
    expectRefusal(
      await revoker.client.send('POST', '/events', JSON.stringify(ask), {
        ...{ 'warifu-purpose': '', 'idempotency-key': 'dry', 'content-type': 'application/json' },
      }),
      400,
      'bad-request',
      /warifu-purpose/i,
    );
    expect((await revoker.client.post('/events', ask)).status).toBe(200);
    expect(lastRow()).toMatchObject({ holderId: person.holderId, route: 'POST /v1/events', found: 1 });
    const before = rows().length;
    await revoker.client.post('/events', { event: 'card-lost', cardId: 'no-card', dryRun: true });
    expect(rows()).toHaveLength(before + 1);
  });

  it('is what an act shows while it waits, or is refused for its plan', async () => {
    const ends = { kind: 'person', roles: ['revoker'], municipalities: ['*'] } as const;
    const { client } = await test.enrol({
      ...ends,
      name: 'asks by acts',
      roles: ['revoker'],
      municipalities: ['*'],
    });
    const card = await issueTo('shown-by-acts');
    const cardId = `card-of-${card.holderId}`;
    await client.post('/events', { event: 'card-lost', cardId });
    const { holderId } = card;
    const asked = await client.post<{ proposalId: string }>('/events', { event: 'card-found', cardId });
    expect(asked).toMatchObject({ status: 202, body: { plan: { consequence: expect.anything() } } });
    expect(lastRow()).toMatchObject({ holderId, route: 'POST /v1/events', found: 1 });
    const planHash = '0'.repeat(64);
    const refused = await client.post('/events', { event: 'card-returned', cardId, planHash });
    expectRefusal(refused, 409, 'plan-changed');
    expect(lastRow()).toMatchObject({ holderId, route: 'POST /v1/events', found: 0 });
    await client.get(`/proposals/${asked.body.proposalId}`);
    const before = rows().length;
    const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
    const exchange = cardRequest(keys, {
      ...{ holderId, cardId: `${cardId}-new`, replacesCardId: cardId, event: 'card-exchanged' },
      ...{ basicFour: basicFourOf(holderId), deskCode: 'SHIBUYA01', municipalityCode: shibuya },
    });
    const waiting = await clerk.client.post<{ proposalId: string }>('/card-certificates', exchange);
    expect(waiting).toMatchObject({ status: 202, body: { plan: { consequence: expect.anything() } } });
    await clerk.client.get('/proposals');
    expect(rows().slice(before)).toEqual([
      expect.objectContaining({ holderId, route: 'POST /v1/card-certificates', client: clerk.fingerprint }),
      expect.objectContaining({ holderId, route: 'GET /v1/proposals', client: clerk.fingerprint }),
    ]);
  });

  it('shows the basic four to who has that right alone', async () => {
    const signing = pathOf(person, 'card-signing');
    expect((await get(second, signing, 'audit')).body).toMatchObject({
      certificate: null,
      status: { state: 'good' },
    });
    expect((await get(identities, signing, 'audit')).body.certificate).toMatch(/BEGIN CERTIFICATE/);
    expect((await get(second, pathOf(person, 'card-authentication'), 'audit')).body.certificate).toMatch(
      /BEGIN/,
    );
  });

  it('is one of so many a day; the next day has as many again', async () => {
    const path = '/holders/no-one';
    const counted = rows().filter(({ client }) => client === other.fingerprint).length;
    for (let n = counted; n < 12; n += 1) expect((await get(other, path, 'audit')).status).toBe(404);
    const before = rows().length;
    for (let n = 0; n < 3; n += 1)
      expectRefusal(await get(other, path, 'audit'), 429, 'rate-exceeded', /12 times today/);
    // What is refused unseen fills no disk.
    expect(rows()).toHaveLength(before);
    expect((await get(reader, path, 'audit')).status).toBe(404);
    test.clock.advance(dayMs);
    expect((await get(other, path, 'audit')).status).toBe(404);
  });
});

describe('a list of holders', () => {
  interface Renewals {
    readonly certificates: { readonly holderId: string | null; readonly serialNumber: string }[];
  }
  const list = (by: Enrolled, exported = '') =>
    by.client.get<Renewals>(`/renewals?days=9000${exported === '' ? '' : `&export=${exported}`}`);

  it('names none of them, unless two persons have allowed an export; each is on record then', async () => {
    const counted = await list(second);
    expect(counted.body.certificates.length).toBeGreaterThan(0);
    expect(counted.body.certificates.every(({ holderId }) => holderId === null)).toBe(true);
    const ask = { what: 'renewals', ground: 'Act on Certification Business, art. 18; letters of March' };
    const asked = await second.client.post<{ proposalId: string; planHash: string }>(
      '/exports',
      ask,
      'export',
    );
    expect(asked).toMatchObject({ status: 202, body: { act: 'bulk-export', plan: ask } });
    const { proposalId, planHash } = asked.body;
    expect((await third.client.post(`/proposals/${proposalId}/approval`, { planHash })).status).toBe(200);
    const { body } = await second.client.post<{ exportId: string }>('/exports', ask, 'export');
    const named = await list(second, body.exportId);
    expect(named.body.certificates.map(({ holderId }) => holderId)).toContain(person.holderId);
    expect(rows()).toContainEqual(
      expect.objectContaining({ route: 'GET /v1/renewals', holderId: person.holderId, found: 1 }),
    );
    // It is this client's, for a day, and for this alone.
    expectRefusal(await list(third, body.exportId), 403, 'forbidden');
    expectRefusal(
      await get(second, `/holders/${person.holderId}/accesses?export=${body.exportId}`, 'audit'),
      403,
      'forbidden',
    );
    test.clock.advance(dayMs + 1000);
    expectRefusal(await list(second, body.exportId), 403, 'forbidden');
  });
});

describe('who asked', () => {
  interface Accesses {
    readonly accesses: { name: string | null; kind: string; actsFor: string[]; purpose: string }[];
    readonly queries: { verifier: string; purpose: string | null; day: string }[];
  }
  const signedQuery = async (of: typeof person, about: string) => {
    const { body: given } = await portal.client.post<{ challenge: string }>('/phone-challenges', undefined);
    const cardSigningCertificate = derOf(pemOf(of.issued, 'card-signing'));
    const content = encodeAccessQuery({
      certificate: digest('sha256', cardSigningCertificate),
      challenge: Buffer.from(given.challenge, 'base64'),
      holderId: about,
    });
    const parts = { cardSigningKey: of.signing.privateKey, cardSigningCertificate } as EnrolmentParts;
    return base64(signEnrolment(content, parts, { contentType: '1.3.6.1.4.1.32473.8.7' }));
  };
  const accessesOf = (by: Enrolled, holderId: string, signed: string) =>
    by.client.send<Accesses>('GET', `/holders/${holderId}/accesses`, undefined, {
      'warifu-signed-query': signed,
    });

  it('is shown to the holder, who signs over a challenge that is used once; with what verifiers asked', async () => {
    const use = `${pathOf(person, 'card-signing')}/uses`;
    for (const purpose of ['loan', 'loan', 'account'])
      await bank.client.send('POST', use, undefined, {
        ...{ 'idempotency-key': crypto.randomUUID(), 'warifu-purpose': purpose },
      });
    const signed = await signedQuery(person, person.holderId);
    const answer = await accessesOf(portal, person.holderId, signed);
    expect(answer.status).toBe(200);
    expect(answer.body.accesses).toContainEqual(
      expect.objectContaining({
        kind: 'person',
        name: null,
        actsFor: [shibuya],
        purpose: 'inquiry-of-holder',
      }),
    );
    expect(answer.body.accesses).toContainEqual(
      expect.objectContaining({ kind: 'system', name: 'register' }),
    );
    expect(answer.body.queries.map(({ verifier, purpose }) => [verifier, purpose]).sort()).toEqual([
      ['bank', 'account'],
      ['bank', 'loan'],
    ]);
    expectRefusal(await accessesOf(portal, person.holderId, signed), 409, 'challenge-not-usable');
  });

  it('is shown to no other holder, by no other signature, and at no other desk', async () => {
    const stranger = await issueTo('resident-2');
    expectRefusal(
      await accessesOf(portal, person.holderId, await signedQuery(stranger, person.holderId)),
      404,
      'not-found',
    );
    expectRefusal(
      await accessesOf(portal, person.holderId, await signedQuery(person, stranger.holderId)),
      404,
      'not-found',
    );
    expectRefusal(await accessesOf(portal, person.holderId, 'AAAA'), 400, 'invalid-signed-request');
    expectRefusal(
      await accessesOf(clerk, person.holderId, await signedQuery(person, person.holderId)),
      403,
      'desk-not-allowed',
    );
    for (const by of [portal, reader])
      expectRefusal(
        await get(by, `/holders/${person.holderId}/accesses`, 'audit'),
        400,
        'bad-request',
        /signature/,
      );
  });

  it('is shown to two persons with a legal ground, without what verifiers asked; which is on record, too', async () => {
    const ask = { what: 'accesses', holderId: person.holderId, ground: 'warrant 12/2026' };
    const asked = await second.client.post<{ proposalId: string; planHash: string }>(
      '/exports',
      ask,
      'ground',
    );
    expect(asked).toMatchObject({ status: 202, body: { plan: ask } });
    const { proposalId, planHash } = asked.body;
    await third.client.post(`/proposals/${proposalId}/approval`, { planHash });
    const { body } = await second.client.post<{ exportId: string }>('/exports', ask, 'ground');
    const path = `/holders/${person.holderId}/accesses?export=${body.exportId}`;
    const answer = await second.client.get<Accesses>(path);
    expect(answer).toMatchObject({ status: 200, body: { queries: [] } });
    expect(answer.body.accesses.length).toBeGreaterThan(3);
    expect(lastRow()).toMatchObject({
      route: 'GET /v1/holders/:holderId/accesses',
      holderId: person.holderId,
    });
    expectRefusal(await third.client.get(path), 403, 'forbidden');
  });

  it('and whom verifiers asked about is in no row that could be read', () => {
    using database = new DatabaseSync(join(test.folder, 'accesses.db'), { readOnly: true });
    const queries = database.prepare('SELECT * FROM query').all();
    expect(queries).toHaveLength(2);
    const text = queries
      .flatMap(Object.values)
      .map((value) => (value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : String(value)))
      .join();
    expect(text).not.toMatch(/bank|loan|account|resident/);
  });
});

describe('the log of look-ups', () => {
  const alarmed = () => test.log().includes('ALARM: the log of who looked holders up was altered');

  it('is an alarm as soon as it was altered, or shortened', { timeout: 90_000 }, async () => {
    expect(await test.service.ca.accesses.verify()).toBeUndefined();
    expect(alarmed()).toBe(false);
    using database = new DatabaseSync(join(test.folder, 'accesses.db'));
    database.exec("UPDATE access SET purpose = 'audit' WHERE sequence = 3");
    expect(await test.service.ca.accesses.verify()).toBe('access 3 is not as it was written');
    database.exec('DELETE FROM access WHERE sequence > 20');
    database.exec("UPDATE access SET purpose = 'incident' WHERE sequence = 3");
    await expect.poll(alarmed, { timeout: 60_000 }).toBe(true);
  });
});
