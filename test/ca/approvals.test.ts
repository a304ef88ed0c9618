import { createPublicKey } from 'node:crypto';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, CaClient, Issued } from '../../ca/client/client.ts';
import { parseConfig } from '../../ca/config/config.ts';
import { requestsHash } from '../../ca/issue/signed-change.ts';
import { encodeCardChange } from '../../ca/request/card-change.ts';
import { parseCertificationRequest } from '../../ca/request/certification-request.ts';
import { clientKeyTypes } from '../../ca/request/key.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
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
import { removeScratch, startTestService } from '../support/harness.ts';
import { dayMs, expectRefusal } from '../support/holder-rules.ts';
import { ownKey } from '../support/own-key.ts';
import {
  administratorNames,
  apiName,
  basicFourOf,
  type Enrolled,
  municipalities,
  type ProductionService,
  shibuya,
  startProduction,
} from '../support/production.ts';

// What waits for a second person: a request is put on record, shown with its plan, approved by another person of the same rights, and
// carried out as it came.

let test: ProductionService;
let one: CaClient;
let two: CaClient;
let clerk: Enrolled;
let second: Enrolled;
let revoker: Enrolled;
let otherRevoker: Enrolled;

beforeAll(async () => {
  // A card’s certificate for authentication, too: a phone would want evidence.
  const { policy } = parseConfig({});
  const found = policy.events['card-found'];
  Object.assign(found?.kinds ?? {}, { 'card-authentication': 'release' });
  Object.assign(found ?? {}, { reissue: found?.reissue.filter((kind) => kind !== 'card-authentication') });
  Object.assign(policy, { releasable: ['phone-authentication', 'card-authentication'] });
  test = await startProduction({ municipalities, policy });
  [one, two] = test.administrators;
  await test.approved('/desks', { deskCode: 'SHIBUYA01', kind: 'counter', municipalityCode: shibuya });
  const at = { kind: 'person', roles: ['issuer'], desks: ['SHIBUYA01'] } as const;
  clerk = await test.enrol({ ...at, name: 'clerk', roles: ['issuer'], desks: ['SHIBUYA01'] });
  second = await test.enrol({ ...at, name: 'second clerk', roles: ['issuer'], desks: ['SHIBUYA01'] });
  const revoking = { kind: 'person', roles: ['revoker', 'reader'] } as const;
  revoker = await test.enrol({
    ...revoking,
    name: 'revoker',
    roles: ['revoker', 'reader'],
    municipalities: [shibuya],
  });
  otherRevoker = await test.enrol({
    ...revoking,
    name: 'other revoker',
    roles: ['revoker'],
    municipalities: ['*'],
  });
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

interface Proposed {
  readonly proposalId: string;
  readonly planHash: string;
  readonly state: string;
  readonly act: string;
  readonly plan: Readonly<Record<string, unknown>>;
  readonly approvedBy: string | null;
  readonly status: number | null;
}

let names = 0;
const enrolment = async () => ({
  ...{ name: `newcomer ${++names}`, kind: 'person', roles: ['reader'], desks: [], municipalities: ['*'] },
  request: (await ownKey()).request,
});

const propose = (by: CaClient, path: string, body: unknown, key?: string) =>
  by.post<Proposed>(path, body, key);
const approve = (by: CaClient, { proposalId, planHash }: Proposed) =>
  by.post<Proposed>(`/proposals/${proposalId}/approval`, { planHash });
const withdraw = (by: CaClient, { proposalId }: Proposed) =>
  by.post<Proposed>(`/proposals/${proposalId}/withdrawal`, undefined);
const listed = async (name: string): Promise<boolean> => {
  const { body } = await one.get<{ clients: { name: string }[] }>('/clients');
  return body.clients.some((each) => each.name === name);
};

describe('a right over a person', () => {
  it('waits for a second person, who sees its plan; then it is carried out, and the request is answered', async () => {
    const body = await enrolment();
    const asked = await propose(one, '/clients', body, 'enrol-1');
    expect(asked).toMatchObject({
      status: 202,
      body: {
        act: 'client-rights',
        state: 'proposed',
        plan: { name: body.name, roles: ['reader'], kind: 'person' },
      },
    });
    expect(JSON.stringify(asked.body.plan)).not.toContain(body.request);
    expect(await listed(body.name)).toBe(false);
    expect(await one.post('/clients', body, 'enrol-1')).toMatchObject({
      status: 202,
      replayed: true,
      body: asked.body,
    });
    const waiting = await two.get<{ proposals: Proposed[] }>('/proposals?state=proposed');
    expect(waiting.body.proposals).toContainEqual(asked.body);
    expectRefusal(await approve(one, asked.body), 403, 'forbidden', /by another person/);
    const other = { ...asked.body, planHash: '0'.repeat(64) };
    expectRefusal(await approve(two, other), 409, 'plan-changed');
    expect(await approve(two, asked.body)).toMatchObject({
      status: 200,
      body: { state: 'done', status: 201 },
    });
    expect(await listed(body.name)).toBe(true);
    const answer = await one.post('/clients', body, 'enrol-1');
    expect(answer).toMatchObject({
      status: 201,
      replayed: true,
      body: { name: body.name, certificate: /BEGIN/ },
    });
    expectRefusal(await approve(two, asked.body), 409, 'illegal-transition', /is done/);
  });

  it('is not had by making the second person, nor with a second certificate, nor as a system', async () => {
    const [system, person] = [
      await test.enrol({ name: 'robot', kind: 'system', roles: ['administrator'] }),
      await test.enrol({ name: 'alone', kind: 'person', roles: ['administrator'] }),
    ];
    const own = await ownKey();
    const more = { request: own.request, additional: true };
    const { body: another } = await person.client.post<{ certificate: string }>('/client-certificates', more);
    const twin = test.through(own.key, another.certificate);
    const accomplice = await ownKey();
    const asked = await propose(person.client, '/clients', {
      ...{
        name: 'accomplice',
        kind: 'person',
        roles: ['administrator'],
        desks: [],
        request: accomplice.request,
      },
    });
    expect(asked.status).toBe(202);
    expectRefusal(await approve(twin, asked.body), 403, 'forbidden', /by another person/);
    expectRefusal(await approve(system.client, asked.body), 403, 'forbidden', /takes two persons/);
    // A system proposes nothing either: no one would have to be persuaded but one.
    expectRefusal(
      await system.client.post('/clients', await enrolment()),
      403,
      'forbidden',
      /takes two persons/,
    );
    expect(await withdraw(person.client, asked.body)).toMatchObject({
      status: 200,
      body: { state: 'withdrawn' },
    });
    // What would change its own rights waits, too.
    const grab = await propose(person.client, `/clients/${person.fingerprint}/binding`, {
      roles: ['administrator', 'issuer'],
    });
    expect(grab).toMatchObject({ status: 202, body: { plan: { before: { roles: ['administrator'] } } } });
    await withdraw(person.client, grab.body);
  });

  it('is seen and approved by those alone who could ask for the same', async () => {
    const asked = await propose(one, '/clients', await enrolment());
    for (const { client } of [clerk, revoker]) {
      const none = await client.get<object>(`/proposals/${crypto.randomUUID()}`);
      const hidden = await client.get<object>(`/proposals/${asked.body.proposalId}`);
      expect(hidden.status).toBe(404);
      expect(hidden.body).toEqual({ ...none.body, instance: expect.any(String) });
      expectRefusal(await approve(client, asked.body), 404, 'not-found');
      const { body } = await client.get<{ proposals: Proposed[] }>('/proposals?state=proposed');
      expect(body.proposals).toEqual([]);
    }
    await withdraw(one, asked.body);
  });

  it('is shown with the key that is certified, which the owner reads out', async () => {
    const body = await enrolment();
    const asked = await propose(one, '/clients', body);
    const { publicKey } = parseCertificationRequest(Buffer.from(body.request, 'base64'), 'request', [
      ...clientKeyTypes,
    ]);
    expect(asked.body.plan.publicKeySha256).toBe(hex(digest('sha256', publicKey)));
    await withdraw(one, asked.body);
    const { fingerprint } = clerk;
    const { request } = await ownKey();
    const more = await propose(one, `/clients/${fingerprint}/certificates`, { request });
    expect(more).toMatchObject({
      status: 202,
      body: { plan: { publicKeySha256: expect.stringMatching(/^[0-9a-f]{64}$/), before: { name: 'clerk' } } },
    });
    await withdraw(one, more.body);
  });

  it.each([
    [
      'a desk that is on no record',
      { desks: ['UNKNOWN01'], roles: ['issuer'], municipalities: undefined },
      /is on no record/,
    ],
    ['no kind', { kind: undefined }, /kind/],
    ['a role that is not of persons', { roles: ['tsm'] }, /is for systems/],
    ['a municipality that is not configured', { municipalities: ['99999'] }, /municipalit/],
    ['no municipality', { municipalities: undefined }, /municipalities/],
    ['a request that is not one', { request: 'AAAA' }, /request/],
  ])('with %s waits for no one: it is refused', async (_what, overrides, detail) => {
    const body = { ...(await enrolment()), ...overrides };
    expectRefusal(await one.post('/clients', body), 400, 'bad-request', detail);
  });

  it('is refused as it would be without an approval, and the repeated request is told why', async () => {
    const taken = { ...(await enrolment()), name: 'clerk' };
    const asked = await propose(one, '/clients', taken, 'taken');
    expect(await approve(two, asked.body)).toMatchObject({ body: { state: 'failed', status: 409 } });
    expectRefusal(await one.post('/clients', taken, 'taken'), 409, 'in-use', /another client has/);
    const unreadable = { ...(await enrolment()), name: 'cl\u202eerk' };
    expectRefusal(await one.post('/clients', unreadable), 400, 'bad-request', /characters that can be seen/);
    expectRefusal(await one.post('/clients', await enrolment(), 'taken'), 409, 'idempotency-key-reused');
  });
});

/** A proposal as it is on record. */
function rowOf({ proposalId }: Proposed) {
  const database = new DatabaseSync(join(test.folder, 'record.db'), { readOnly: true });
  const row = database.prepare('SELECT * FROM proposal WHERE proposalId = ?').get(proposalId);
  database.close();
  return row as { state: string; plan: string; body: Uint8Array | null; dataKey: string | null };
}

describe('a proposal', () => {
  it('is withdrawn by its proposer, or by two other persons', async () => {
    const three = await test.enrol({ name: 'third administrator', kind: 'person', roles: ['administrator'] });
    const asked = await propose(one, '/clients', await enrolment(), 'withdrawn');
    expect(await withdraw(two, asked.body)).toMatchObject({
      body: { state: 'proposed', withdrawnBy: expect.any(String) },
    });
    expectRefusal(await withdraw(two, asked.body), 409, 'illegal-transition', /with a second one/);
    expect(await withdraw(three.client, asked.body)).toMatchObject({ body: { state: 'withdrawn' } });
    expectRefusal(await approve(two, asked.body), 409, 'illegal-transition', /is withdrawn/);
  });

  it('ends with the right of its proposer', async () => {
    const leaver = await test.enrol({ name: 'leaver', kind: 'person', roles: ['administrator'] });
    const body = await enrolment();
    const asked = await propose(leaver.client, '/clients', body);
    await one.post(`/clients/${leaver.fingerprint}/revocation`, undefined);
    expect(await approve(two, asked.body)).toMatchObject({ body: { state: 'failed', status: 403 } });
    expect(await listed(body.name)).toBe(false);
  });

  it('is carried out once, whenever the process died after its approval', async () => {
    const { clients, proposals } = test.service.ca;
    const [enrol, settle] = [clients.enrol.bind(clients), proposals.settle.bind(proposals)];
    let carriedOut = 0;
    for (const died of ['before', 'after'] as const) {
      const body = await enrolment();
      const asked = await propose(one, '/clients', body, died);
      if (died === 'before')
        Object.assign(clients, { enrol: () => Promise.reject(new Error('the process died')) });
      else Object.assign(proposals, { settle: () => Promise.reject(new Error('the process died')) });
      const answer = await two.post<Proposed>(`/proposals/${asked.body.proposalId}/approval`, {
        planHash: asked.body.planHash,
      });
      expect(answer).toMatchObject({ status: 200, body: { state: 'approved' } });
      expect(await listed(body.name)).toBe(died === 'after');
      Object.assign(proposals, { settle });
      Object.assign(clients, {
        enrol: (...args: Parameters<typeof enrol>) => {
          carriedOut += 1;
          return enrol(...args);
        },
      });
      await expect
        .poll(async () => (await one.get<Proposed>(`/proposals/${asked.body.proposalId}`)).body.state)
        .toBe('done');
      expect(await one.post('/clients', body, died)).toMatchObject({
        status: 201,
        body: { name: body.name },
      });
    }
    // Once for each.
    expect(carriedOut).toBe(2);
    Object.assign(clients, { enrol });
  });

  it('is carried out though a hundred others cannot be for now', async () => {
    const { desks } = test.service.ca;
    const orderCards = desks.orderCards.bind(desks);
    const closed = new PkiError('function-closed', 'not now');
    Object.assign(desks, { orderCards: () => Promise.reject(closed) });
    const orders = async (by: Enrolled, approver: Enrolled) => {
      const proposals: Pick<Proposed, 'proposalId' | 'planHash'>[] = [];
      // One after the other: an address opens no more connections at once than it may.
      for (let i = 0; i < 55; i += 1) {
        const { body } = await propose(by.client, '/card-orders', {
          ...{ deskCode: 'SHIBUYA01', event: 'card-exchanged' },
          cards: [{ holderId: 'h', cardId: `${by.fingerprint.slice(0, 8)}-${i}`, replacesCardId: 'x' }],
        });
        proposals.push({ proposalId: body.proposalId, planHash: body.planHash });
      }
      const answer = await approver.client.post<{ approved: string[] }>('/proposal-approvals', { proposals });
      expect(answer.body.approved).toHaveLength(55);
      return proposals;
    };
    const stuck = [...(await orders(clerk, second)), ...(await orders(second, clerk))];
    const body = await enrolment();
    const asked = await propose(one, '/clients', body, 'behind');
    expect(await approve(two, asked.body)).toMatchObject({ body: { state: 'done' } });
    expect(await listed(body.name)).toBe(true);
    Object.assign(desks, { orderCards });
    await expect
      .poll(
        async () => (await clerk.client.get<Proposed>(`/proposals/${stuck.at(-1)?.proposalId}`)).body.state,
        {
          timeout: 15_000,
        },
      )
      .toBe('done');
  });

  it('is not carried out later where who approved has been shut out meanwhile', async () => {
    const { clients } = test.service.ca;
    const enrol = clients.enrol.bind(clients);
    const third = await test.enrol({ name: 'rogue', kind: 'person', roles: ['administrator'] });
    const body = await enrolment();
    const asked = await propose(one, '/clients', body, 'rogue');
    Object.assign(clients, { enrol: () => Promise.reject(new Error('the process died')) });
    expect(await approve(third.client, asked.body)).toMatchObject({ body: { state: 'approved' } });
    expect((await one.post(`/clients/${third.fingerprint}/revocation`, undefined)).status).toBe(200);
    Object.assign(clients, { enrol });
    await expect
      .poll(async () => (await one.get<Proposed>(`/proposals/${asked.body.proposalId}`)).body.state)
      .toBe('failed');
    expectRefusal(await one.post('/clients', body, 'rogue'), 403, 'forbidden', /proposed or approved it/);
    expect(await listed(body.name)).toBe(false);
  });

  it('is no identity that a caller can show for itself', async () => {
    const { api } = test.service.addresses;
    const { Agent, request } = await import('undici');
    const { readFileSync } = await import('node:fs');
    const ca = readFileSync(join(test.folder, 'tls', 'operations-ca.pem'), 'utf8');
    const agent = new Agent({
      connect: { key: clerk.own.key, cert: clerk.certificate, ca, servername: apiName },
    });
    for (const nonce of [crypto.randomUUID(), '__proto__', 'constructor']) {
      const headers = { 'warifu-execution': nonce };
      const { statusCode } = await request(`${api}/v1/desks`, { dispatcher: agent, headers });
      expect(statusCode).toBe(403);
    }
    await agent.close();
  });

  it('keeps its request sealed, and no longer than until it is settled', async () => {
    const holderId = 'sealed-holder';
    const person = await issueTo(holderId);
    const asked = await propose(clerk.client, '/card-certificates', await exchange(person));
    expect(asked.status).toBe(202);
    const rows = () => rowOf(asked.body);
    expect(Buffer.from(rows().body ?? []).toString('latin1')).not.toContain('basicFour');
    expect(rows().plan).not.toMatch(/花子|渋谷|basicFour|MII/);
    await withdraw(clerk.client, asked.body);
    expect(rows()).toMatchObject({ body: null, dataKey: null });
  });
});

interface Person {
  readonly holderId: string;
  readonly cardId: string;
  readonly signing: ChipKey;
  readonly issued: Issued;
}

async function issueTo(holderId: string): Promise<Person> {
  const [signing, authentication] = [await makeChipKey(), await makeChipKey()];
  const at = {
    holderId,
    basicFour: basicFourOf(holderId),
    cardId: `card-of-${holderId}`,
    deskCode: 'SHIBUYA01',
    municipalityCode: shibuya,
  };
  const answer = await clerk.client.post<Issued>(
    '/card-certificates',
    cardRequest({ signing, authentication }, at),
  );
  if (answer.status !== 201) throw new Error(JSON.stringify(answer.body));
  return { ...at, signing, issued: answer.body };
}

/** A request for a new card in the place of a good one. */
async function exchange({ holderId, cardId }: Person): Promise<object> {
  const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
  const at = { deskCode: 'SHIBUYA01', municipalityCode: shibuya, event: 'card-exchanged' };
  const basicFour = basicFourOf(holderId);
  return cardRequest(keys, { holderId, basicFour, cardId: `${cardId}-new`, replacesCardId: cardId, ...at });
}

const stateOf = async ({ issued }: Person): Promise<string> => {
  const [{ authority, serialNumber } = { authority: '', serialNumber: '' }] = issued.certificates;
  const { body } = await revoker.client.get<{ status: { state: string } }>(
    `/certificates/${authority}/${serialNumber}`,
  );
  return body.status.state;
};

describe('a new holder', () => {
  it('whose basic four another has waits for a second person, who says that they are two', async () => {
    const first = await issueTo('one-of-two');
    const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
    const twin = cardRequest(keys, {
      ...{
        holderId: 'other-of-two',
        cardId: 'card-of-other',
        deskCode: 'SHIBUYA01',
        municipalityCode: shibuya,
      },
      basicFour: basicFourOf(first.holderId),
    });
    const asked = await propose(clerk.client, '/card-certificates', twin, 'twin');
    expect(asked).toMatchObject({
      status: 202,
      body: { act: 'same-person', plan: { holderId: 'other-of-two' } },
    });
    expect(JSON.stringify(asked.body)).not.toContain(first.holderId);
    expect((await revoker.client.get('/holders/other-of-two')).status).toBe(404);
    expect(await approve(second.client, asked.body)).toMatchObject({ body: { state: 'done' } });
    expect((await clerk.client.post('/card-certificates', twin, 'twin')).status).toBe(201);
  });

  it('becomes no other later either: with the basic four of another it waits, with its own it does not', async () => {
    const first = await issueTo('compared');
    await revoker.client.post('/events', { event: 'card-returned', cardId: first.cardId });
    const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
    const again = (of: string, cardId: string) =>
      cardRequest(keys, {
        ...{ holderId: 'compared', cardId, deskCode: 'SHIBUYA01', municipalityCode: shibuya },
        basicFour: basicFourOf(of),
      });
    const asOther = await propose(clerk.client, '/card-certificates', again('one-of-two', 'card-compared-2'));
    expect(asOther).toMatchObject({ status: 202, body: { act: 'same-person' } });
    const own = await clerk.client.post('/card-certificates', again('compared', 'card-compared-3'));
    expect(own.status).toBe(201);
  });
});

describe('a good card', () => {
  it('is replaced with a second person of the desk', async () => {
    const person = await issueTo('good-card');
    const body = await exchange(person);
    const asked = await propose(clerk.client, '/card-certificates', body, 'good-card');
    expect(asked).toMatchObject({
      status: 202,
      body: {
        act: 'good-card',
        plan: { holderId: 'good-card', replacesCardId: person.cardId, event: 'card-exchanged' },
      },
    });
    expect(await stateOf(person)).toBe('good');
    expect(await approve(second.client, asked.body)).toMatchObject({ body: { state: 'done', status: 201 } });
    expect(await stateOf(person)).toBe('revoked');
    const answer = await clerk.client.post<Issued>('/card-certificates', body, 'good-card');
    expect(answer).toMatchObject({ status: 201, replayed: true });
    const path = `/holders/${person.holderId}/history`;
    const { body: history } = await revoker.client.get<{ entries: { change: string; actor: object }[] }>(
      path,
    );
    expect(history.entries).toContainEqual(
      expect.objectContaining({
        change: 'revoked',
        actor: expect.objectContaining({ approvedBy: second.fingerprint }),
      }),
    );
  });

  it('is replaced at once where the card itself has signed for it, for these keys', async () => {
    const person = await issueTo('signed-for');
    const body = (await exchange(person)) as { requests: object };
    const { body: given } = await clerk.client.post<{ challenge: string }>('/card-challenges', {
      deskCode: 'SHIBUYA01',
    });
    const cardSigningCertificate = derOf(pemOf(person.issued, 'card-signing'));
    const content = encodeCardChange({
      certificate: digest('sha256', cardSigningCertificate),
      challenge: Buffer.from(given.challenge, 'base64'),
      ...{ municipalityCode: shibuya, event: 'card-exchanged', cardId: `${person.cardId}-new` },
      requests: requestsHash(body.requests),
    });
    const parts = { cardSigningKey: person.signing.privateKey, cardSigningCertificate } as EnrolmentParts;
    const signedChange = base64(signEnrolment(content, parts, { contentType: '1.3.6.1.4.1.32473.8.5' }));
    for (const [otherwise, detail] of [
      [{ event: 'card-renewed' }, /signed for another event/],
      [{ cardId: 'card-of-accomplice' }, /signed for another card/],
    ] as const)
      expectRefusal(
        await clerk.client.post('/card-certificates', { ...body, signedChange, ...otherwise }),
        400,
        'invalid-signed-request',
        detail,
      );
    expect((await clerk.client.post('/card-certificates', { ...body, signedChange })).status).toBe(201);
    expect(await stateOf(person)).toBe('revoked');
  });

  it('is also one that is held, for anyone reports a loss; one that is ended is none', async () => {
    const person = await issueTo('held-card');
    const lost = { event: 'card-lost', cardId: person.cardId };
    expect((await revoker.client.post('/events', lost)).status).toBe(200);
    const asked = await propose(clerk.client, '/card-certificates', await exchange(person));
    // Who approves sees what ends.
    expect(asked).toMatchObject({
      status: 202,
      body: {
        act: 'good-card',
        plan: { consequence: { changes: [{ from: { state: 'held' }, to: { state: 'revoked' } }, {}] } },
      },
    });
    expect(await approve(second.client, asked.body)).toMatchObject({ body: { state: 'done' } });
    const ended = await issueTo('ended-card');
    const returned = { event: 'card-returned', cardId: ended.cardId };
    expect((await revoker.client.post('/events', returned)).status).toBe(200);
    const { event: _, replacesCardId: __, ...fresh } = (await exchange(ended)) as Record<string, unknown>;
    expect((await clerk.client.post('/card-certificates', fresh)).status).toBe(201);
  });

  it('is not replaced where it has changed since the second person saw what ends', async () => {
    const person = await issueTo('changed-since');
    const asked = await propose(clerk.client, '/card-certificates', await exchange(person));
    await revoker.client.post('/events', { event: 'card-lost', cardId: person.cardId });
    expect(await approve(second.client, asked.body)).toMatchObject({
      body: { state: 'failed', status: 409 },
    });
    expect(await stateOf(person)).toBe('held');
  });

  it('is replaced as two persons have ordered it: these cards, holders, event and desk, each once', async () => {
    const [first, other] = [await issueTo('ordered-1'), await issueTo('ordered-2')];
    const cards = [first, other].map(({ holderId, cardId }) => ({
      ...{ holderId, cardId: `${cardId}-new`, replacesCardId: cardId },
    }));
    const order = { deskCode: 'SHIBUYA01', event: 'card-exchanged', cards };
    const asked = await propose(clerk.client, '/card-orders', order, 'order');
    const bodySha256 = hex(digest('sha256', Buffer.from(JSON.stringify(order))));
    expect(asked).toMatchObject({ status: 202, body: { act: 'card-order', plan: { cards: 2, bodySha256 } } });
    const exchanges = [await exchange(first), await exchange(other)];
    expect((await propose(clerk.client, '/card-certificates', exchanges[0])).status).toBe(202);
    expect(await approve(second.client, asked.body)).toMatchObject({ body: { state: 'done' } });
    const again = await propose(clerk.client, '/card-orders', order, 'order-again');
    expect(await approve(second.client, again.body)).toMatchObject({
      body: { state: 'failed', status: 409 },
    });
    const differing = [
      { ...exchanges[0], event: 'card-renewed' },
      { ...exchanges[0], cardId: 'not-ordered' },
      { ...exchanges[0], replacesCardId: other.cardId },
    ];
    for (const body of differing)
      expect((await clerk.client.post('/card-certificates', body)).status).not.toBe(201);
    expect(await stateOf(first)).toBe('good');
    const lines = exchanges.map((card, i) => ({ idempotencyKey: `ordered-${i}`, card }));
    const answers: Answer['body'][] = [];
    for await (const answer of clerk.client.issueToCards(lines as never)) answers.push(answer);
    expect(answers).toMatchObject([{ status: 201 }, { status: 201 }]);
    expect([await stateOf(first), await stateOf(other)]).toEqual(['revoked', 'revoked']);
    // Used up: the next card takes the place of a good one as ever.
    const next = { ...first, cardId: `${first.cardId}-new` };
    expect((await propose(clerk.client, '/card-certificates', await exchange(next))).status).toBe(202);
  });

  it.each([
    ['an event by which nothing is replaced', { event: 'card-lost' }, 'bad-request'],
    ['an event that there is not', { event: 'no-such' }, 'bad-request'],
    [
      'a card twice',
      { cards: [1, 2].map(() => ({ holderId: 'a', cardId: 'b', replacesCardId: 'c' })) },
      'bad-request',
    ],
    ['another desk', { deskCode: 'NAKANO001' }, 'desk-not-allowed'],
  ])('is not ordered with %s', async (_what, change, code) => {
    const cards = [{ holderId: 'a', cardId: 'b', replacesCardId: 'c' }];
    const order = { deskCode: 'SHIBUYA01', event: 'card-exchanged', cards, ...change };
    const answer = await clerk.client.post<{ title: string }>('/card-orders', order);
    expect(answer.body.title).toBe(code);
  });

  it('is not replaced by ending it first: who ended a card issues the next one with a second person', async () => {
    const both = { kind: 'person', roles: ['issuer', 'revoker'], desks: ['SHIBUYA01'] } as const;
    const alone = await test.enrol({
      ...both,
      name: 'ends and issues',
      roles: ['issuer', 'revoker'],
      desks: ['SHIBUYA01'],
    });
    const person = await issueTo('ended-first');
    const returned = { event: 'card-returned', cardId: person.cardId };
    expect((await alone.client.post('/events', returned)).status).toBe(200);
    const { event: _, replacesCardId: __, ...fresh } = (await exchange(person)) as Record<string, unknown>;
    const asked = await propose(alone.client, '/card-certificates', fresh, 'ended-first');
    expect(asked).toMatchObject({ status: 202, body: { act: 'good-card' } });
    expect(await approve(second.client, asked.body)).toMatchObject({ body: { state: 'done', status: 201 } });
  });

  it('is not replaced by moving its last day forward first', async () => {
    const both = { kind: 'person', roles: ['issuer', 'revoker'], desks: ['SHIBUYA01'] } as const;
    const alone = await test.enrol({
      ...both,
      name: 'shortens and issues',
      roles: ['issuer', 'revoker'],
      desks: ['SHIBUYA01'],
    });
    const person = await issueTo('shortened-first');
    const today = new Date(test.clock.wallMs() + 9 * 3_600_000).toISOString().slice(0, 10);
    const shortened = { event: 'card-extended', cardId: person.cardId, cardExpiresOn: today };
    expect((await alone.client.post('/events', shortened)).status).toBe(200);
    test.clock.advance(dayMs);
    await expect.poll(() => stateOf(person), { timeout: 15_000 }).toBe('revoked');
    const { event: _, replacesCardId: __, ...fresh } = (await exchange(person)) as Record<string, unknown>;
    const asked = await propose(alone.client, '/card-certificates', fresh, 'shortened-first');
    expect(asked).toMatchObject({ status: 202, body: { act: 'good-card' } });
  });

  it('that never had a signing certificate gets its first from two persons', async () => {
    const at = { holderId: 'no-signing', cardId: 'card-no-signing', deskCode: 'SHIBUYA01' };
    const body = async (keys: object) =>
      cardRequest(keys as never, {
        ...{ ...at, municipalityCode: shibuya, basicFour: basicFourOf('no-signing') },
      });
    const without = await body({ authentication: await makeChipKey() });
    expect(
      (await clerk.client.post('/card-certificates', { ...without, authenticationOnly: true })).status,
    ).toBe(201);
    const first = await propose(
      clerk.client,
      '/card-certificates',
      await body({ signing: await makeChipKey() }),
    );
    expect(first).toMatchObject({ status: 202, body: { act: 'good-card' } });
    expect(await approve(second.client, first.body)).toMatchObject({ body: { state: 'done' } });
  });

  it('of a batch is refused in its line, to be sent by itself', async () => {
    const person = await issueTo('in-a-batch');
    const line = { idempotencyKey: 'b-1', card: await exchange(person) } as never;
    const answers: Answer['body'][] = [];
    for await (const answer of clerk.client.issueToCards([line])) answers.push(answer);
    expect(answers).toMatchObject([{ status: 409, problem: { title: 'approval-needed' } }]);
  });
});

describe('what gives trust back', () => {
  const held = async (holderId: string): Promise<Person> => {
    const person = await issueTo(holderId);
    await revoker.client.post('/events', { event: 'card-lost', cardId: person.cardId });
    return person;
  };
  const changes = ({ issued }: Person): string => {
    const found = issued.certificates.find(({ kind }) => kind === 'card-authentication');
    return `/certificates/${found?.authority}/${found?.serialNumber}/changes`;
  };

  it('waits with all that it would do, and is not done where that has changed since', async () => {
    const person = await issueTo('to-release');
    await revoker.client.post(changes(person), { action: 'hold' });
    const asked = await propose(revoker.client, changes(person), { action: 'release' }, 'release');
    expect(asked).toMatchObject({
      status: 202,
      body: { act: 'release', plan: { consequence: { changes: [{ to: { state: 'good' } }] } } },
    });
    // One who acts on fewer holders does not see it, nor one of another role.
    expectRefusal(await approve(clerk.client, asked.body), 404, 'not-found');
    await revoker.client.post('/events', { event: 'card-lost', cardId: person.cardId });
    expect(await approve(otherRevoker.client, asked.body)).toMatchObject({
      body: { state: 'failed', status: 409 },
    });
    expectRefusal(
      await revoker.client.post(changes(person), { action: 'release' }, 'release'),
      409,
      'plan-changed',
    );
  });

  it('is done as another revoker of those holders approves it; a dry run waits for no one', async () => {
    const person = await issueTo('released');
    await revoker.client.post(changes(person), { action: 'hold' });
    expect((await revoker.client.post(changes(person), { action: 'release', dryRun: true })).status).toBe(
      200,
    );
    const asked = await propose(revoker.client, changes(person), { action: 'release' });
    expect(await approve(otherRevoker.client, asked.body)).toMatchObject({ body: { state: 'done' } });
    const [, authentication] = person.issued.certificates;
    const path = `/certificates/${authentication?.authority}/${authentication?.serialNumber}`;
    expect(await revoker.client.get(path)).toMatchObject({ body: { status: { state: 'good' } } });
  });

  it('is what an event says that ends holds; losing and ending wait for no one', async () => {
    const person = await held('found');
    const found = await propose(revoker.client, '/events', { event: 'card-found', cardId: person.cardId });
    expect(found).toMatchObject({ status: 202, body: { act: 'release' } });
    for (const [event, status] of [
      ['card-lost', 200],
      ['card-returned', 200],
    ] as const)
      expect((await revoker.client.post('/events', { event, cardId: person.cardId })).status).toBe(status);
  });
});

describe('other acts', () => {
  it('blocking a key that certifies nothing here waits, blocking one that does is done', async () => {
    const asked = await propose(otherRevoker.client, '/blocked-keys', { keyHash: '1'.repeat(64) });
    expect(asked).toMatchObject({ status: 202, body: { act: 'unknown-key' } });
    const person = await issueTo('blocked');
    const publicKey = base64(
      createPublicKey(person.signing.privateKey).export({ format: 'der', type: 'spki' }),
    );
    expect((await otherRevoker.client.post('/blocked-keys', { publicKey })).status).toBe(200);
    expect(await stateOf(person)).toBe('revoked');
  });

  it('a desk is recorded, and let go on, by two; it is suspended by one, at once', async () => {
    const at = { deskCode: 'SHIBUYA02', kind: 'counter', municipalityCode: shibuya };
    expect(await propose(one, '/desks', at)).toMatchObject({ status: 202, body: { act: 'desk-rights' } });
    expect((await one.post('/desks/SHIBUYA01/suspension', undefined)).status).toBe(200);
    const resumed = await propose(one, '/desks/SHIBUYA01/resumption', undefined);
    expect(resumed.status).toBe(202);
    expect(await approve(two, resumed.body)).toMatchObject({ body: { state: 'done' } });
  });

  it('expire, and their requests are forgotten', async () => {
    const body = await enrolment();
    const asked = await propose(one, '/clients', body, 'expires');
    test.clock.advance(8 * dayMs);
    expectRefusal(await approve(two, asked.body), 409, 'illegal-transition', /has expired/);
    for (let swept = 0; swept < 2; swept += 1) {
      expectRefusal(await one.post('/clients', body, 'expires'), 409, 'illegal-transition', /has expired/);
      expectRefusal(await approve(two, asked.body), 409, 'illegal-transition', /has expired/);
      await expect
        .poll(() => rowOf(asked.body), { timeout: 5000 })
        .toMatchObject({
          ...{ state: 'expired', body: null, dataKey: null },
        });
    }
  });

  it('the last administrator is not ended, nor bound to less', async () => {
    const { body } = await one.get<{
      clients: { fingerprint: string; roles: string[]; revokedAt: string | null }[];
    }>('/clients');
    const administrators = body.clients.filter(
      ({ roles, revokedAt }) => roles.includes('administrator') && revokedAt === null,
    );
    const { body: own } = await one.get<{ clients: { name: string; fingerprint: string }[] }>('/clients');
    const mine = own.clients.find(({ name }) => name === administratorNames[0])?.fingerprint;
    for (const { fingerprint } of administrators.filter((each) => each.fingerprint !== mine))
      expect((await one.post(`/clients/${fingerprint}/revocation`, undefined)).status).toBe(200);
    for (const path of [`/clients/${mine}/revocation`, `/client-certificates/${mine}/revocation`])
      expectRefusal(await one.post(path, undefined), 409, 'in-use', /0 administrators would be left/);
  });
});

describe('development', () => {
  it('lets one client have as many open as may be', async () => {
    const approvals = { use: 'required', openMax: 1 };
    const service = await startTestService({ overrides: { approvals } });
    const first = await enrolment();
    expect((await service.api.post('/clients', first, 'first')).status).toBe(202);
    expect((await service.api.post('/clients', first, 'first')).status).toBe(202);
    expectRefusal(
      await service.api.post('/clients', await enrolment()),
      409,
      'quota-exceeded',
      /withdraw them/,
    );
    const { body } = await service.api.get<{ proposals: Proposed[] }>('/proposals');
    expect(body.proposals).toHaveLength(1);
    await withdraw(service.api, body.proposals[0] as Proposed);
    expect((await service.api.post('/clients', await enrolment())).status).toBe(202);
    await service.close();
  });

  it('waits for no one, unless approvals are required', async () => {
    const [free, bound] = [
      await startTestService(),
      await startTestService({ overrides: { approvals: 'required' as never } }),
    ];
    const body = await enrolment();
    expect((await free.api.post('/clients', body)).status).toBe(201);
    expect((await bound.api.post('/clients', body)).status).toBe(202);
    await Promise.all([free.close(), bound.close()]);
  });
});
