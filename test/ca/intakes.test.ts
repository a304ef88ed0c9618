import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CaClient, Issued } from '../../ca/client/client.ts';
import { oid } from '../../core/asn1/oids.ts';
import { approvalActs } from '../../core/model/approval.ts';
import { makeChipKey } from '../support/actors.ts';
import {
  addClient,
  type Holder,
  issueCard,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { approvedBy } from '../support/production.ts';
import { authenticationOf, type HolderKey, signedBy, signingOf, signReceipt } from '../support/verifiers.ts';

// Customers whom a verifier had before it could have them sign receipts: certificates that it asks to watch as one list.

let test: TestService;
type Client = { client: CaClient; verifierId: string };
let make: (name: string, facts?: object) => Promise<Client>;
let [bank, clinic, second] = [{}, {}, {} as CaClient] as [Client, Client, CaClient];

beforeAll(async () => {
  const acts = Object.fromEntries(
    Object.keys(approvalActs).map((act) => [act, act === 'verifier-rights' ? 'required' : 'off']),
  );
  test = await startTestService({
    overrides: { verifiers: { intakeSample: 3 }, approvals: { use: 'required', acts } },
  });
  const kind = 'person';
  second = (await addClient(test, 'second administrator', { kind, roles: ['administrator'] })).client;
  make = async (name, facts = {}) => {
    const { client } = await addClient(test, name, { roles: ['verifier'] });
    const credentials = [{ type: 'client', client: name }];
    const body = { name, type: 'private', kinds: ['signing', 'authentication'], purposes: [], credentials };
    const { verifierId } = (
      await approvedBy<{ verifierId: string }>(test.api, second, '/verifiers', { ...body, ...facts })
    ).body;
    return { client, verifierId };
  };
  bank = await make('bank', { watchesMax: 10 });
  clinic = await make('clinic', { kinds: ['authentication'] });
});
afterAll(async () => {
  await test?.close();
  removeScratch();
});

const statement = 'A Bank: opening of an account';
const application = Buffer.from(`${statement}. I have read the terms.`);

interface Shown {
  readonly intakeId: string;
  readonly state: string;
  readonly entries: number;
  readonly sampled: number;
  readonly shown: number;
  readonly watched: number;
  readonly leftOut: number;
  readonly toShow: readonly { readonly authority: string; readonly serialNumber: string }[];
  readonly title: string;
  readonly detail: string;
}
const named = (issued: Issued, kind = 'card-signing') => {
  const { authority = '', serialNumber = '' } = issued.certificates.find((each) => each.kind === kind) ?? {};
  return { authority, serialNumber };
};
const signs = (key: HolderKey, content: Uint8Array = application, type: string = oid.data) =>
  signedBy(key, content, type);

/** A verifier's intake of these certificates, its sample drawn; and what it is called. */
async function intakeOf(by: Client, entries: readonly object[]): Promise<string> {
  const begun = await by.client.post<Shown>('/watch-intakes', { statement });
  if (begun.status !== 201) throw new Error(JSON.stringify(begun.body));
  const { intakeId } = begun.body;
  const added = await by.client.post<Shown>(`/watch-intakes/${intakeId}/entries`, { entries });
  if (added.status !== 200) throw new Error(JSON.stringify(added.body));
  const drawn = await by.client.post(`/watch-intakes/${intakeId}/sample`, undefined);
  if (drawn.status !== 200) throw new Error(JSON.stringify(drawn.body));
  return intakeId;
}
const show = (by: Client, intakeId: string, signatures: readonly string[]) =>
  by.client.post<Shown>(`/watch-intakes/${intakeId}/signatures`, { signatures });
const read = async (by: Client, intakeId: string): Promise<Shown> =>
  (await by.client.get<Shown>(`/watch-intakes/${intakeId}`)).body;
/** Ends one, and waits until nothing is left of its list: before, the verifier cannot begin another. */
const end = async (intakeId: string): Promise<number> => {
  const { status } = await test.api.post(`/watch-intakes/${intakeId}/end`, undefined);
  await test.service.ca.intakes.proceed(100);
  return status;
};
const watched = async (by: Client) =>
  (await by.client.get<{ watches: { serialNumber: string; reference: string }[] }>('/watches')).body.watches;

describe('an intake of customers of before', () => {
  it('is watched once a sample of it was shown and two administrators have accepted it, and not sooner', async () => {
    const holders = await holdersOf(5);
    const entries = holders.map(({ card }, i) => ({ ...named(card), reference: `id-${i}` }));
    const intakeId = await intakeOf(bank, [...entries, entries[0] as object]);
    const sampled = await read(bank, intakeId);
    expect(sampled).toMatchObject({ state: 'sampled', entries: 5, sampled: 3, shown: 0 });
    expect(sampled.toShow).toHaveLength(3);
    const early = await test.api.post(`/watch-intakes/${intakeId}/acceptance`, undefined);
    expect(early).toMatchObject({ status: 409, body: { title: 'illegal-transition' } });
    const drawn = holders.filter(({ card }) =>
      sampled.toShow.some(({ serialNumber }) => serialNumber === named(card).serialNumber),
    );
    const [first, ...others] = drawn.map((holder) => signs(signingOf(holder))) as [string, ...string[]];
    expect((await show(bank, intakeId, [first, first])).body).toMatchObject({ state: 'sampled', shown: 1 });
    expect((await show(bank, intakeId, others)).body).toMatchObject({ state: 'shown', shown: 3 });
    await test.service.ca.intakes.proceed(100);
    expect(await watched(bank)).toEqual([]);
    const path = `/watch-intakes/${intakeId}/acceptance`;
    const proposed = await test.api.post<{ plan: object }>(path, undefined);
    expect(proposed).toMatchObject({ status: 202, body: { plan: { intake: { entries: 5, statement } } } });
    expect(await read(bank, intakeId)).toMatchObject({ state: 'shown' });
    expect((await approvedBy(test.api, second, path, undefined)).status).toBe(200);
    await expect.poll(async () => (await read(bank, intakeId)).state).toBe('done');
    expect(await read(bank, intakeId)).toMatchObject({ watched: 5, leftOut: 0 });
    expect((await watched(bank)).map(({ reference }) => reference).sort()).toEqual(
      entries.map(({ reference }) => reference),
    );
    const [holder] = holders;
    await test.api.post('/events', { event: 'died', holderId: holder?.holderId });
    const { body } = await bank.client.post<{ notices: object[] }>('/verifier-notices', {});
    expect(body.notices).toMatchObject([{ occasion: 'revoked', reference: 'id-0' }]);
  });

  it('is shown by signatures over its statement with the certificates that were drawn, and by no others', async () => {
    const [holder, other, leaked] = await holdersOf(3);
    const intakeId = await intakeOf(bank, [named(holder.card), named(leaked.card)]);
    const { authority, serialNumber } = named(leaked.card);
    await test.api.post(`/certificates/${authority}/${serialNumber}/changes`, {
      ...{ action: 'revoke', reason: 'keyCompromise' },
    });
    const stranger = { ...signingOf(holder), privateKey: (await makeChipKey()).privateKey };
    const own = '1.3.6.1.4.1.32473.8.10';
    for (const [signature, title] of [
      [signs(signingOf(holder), Buffer.from('I love this town')), 'invalid-signed-request'],
      [signs(signingOf(holder), application, own), 'invalid-signed-request'],
      [signs(stranger), 'invalid-signed-request'],
      [signs(signingOf(leaked)), 'invalid-signed-request'],
      [`${signs(signingOf(holder)).replace(/=+$/, '')}AAAA`, 'invalid-signed-request'],
      [signs(signingOf(other)), 'bad-request'],
      [signs(authenticationOf(holder)), 'bad-request'],
    ] as const)
      expect((await show(bank, intakeId, [signs(signingOf(holder)), signature])).body.title).toBe(title);
    expect(await read(bank, intakeId)).toMatchObject({ state: 'sampled', shown: 0 });
    expect(await end(intakeId)).toBe(200);
  });

  it('is its verifier’s alone, which cannot leave it for another once it knows the sample', async () => {
    const [holder] = await holdersOf(1);
    const begun = await bank.client.post<Shown>('/watch-intakes', { statement });
    const { intakeId } = begun.body;
    for (const [path, body] of [
      ['entries', { entries: [named(holder.card, 'card-authentication')] }],
      ['sample', undefined],
      ['signatures', { signatures: [signs(signingOf(holder))] }],
      ['end', undefined],
    ] as const)
      expect((await clinic.client.post(`/watch-intakes/${intakeId}/${path}`, body)).status).toBe(404);
    expect((await clinic.client.get(`/watch-intakes/${intakeId}`)).status).toBe(404);
    expect((await clinic.client.get<{ intakes: object[] }>('/watch-intakes')).body.intakes).toEqual([]);
    const another = await bank.client.post<Shown>('/watch-intakes', { statement });
    expect(another).toMatchObject({ status: 409, body: { title: 'in-use' } });
    // A mistake is the verifier's to end, until it knows the sample.
    expect((await bank.client.post(`/watch-intakes/${intakeId}/end`, undefined)).status).toBe(200);
    await test.service.ca.intakes.proceed(100);
    expect((await bank.client.get(`/watch-intakes/${intakeId}`)).status).toBe(404);
    const drawn = await intakeOf(bank, [named(holder.card)]);
    const late = await bank.client.post(`/watch-intakes/${drawn}/end`, undefined);
    expect(late).toMatchObject({ status: 409, body: { title: 'illegal-transition' } });
    const entries = [named(holder.card)];
    expect((await bank.client.post(`/watch-intakes/${drawn}/entries`, { entries })).status).toBe(409);
    expect(await end(drawn)).toBe(200);
  });

  it('leaves out what the verifier may not watch by the time it is taken in', async () => {
    const [holder, leaked] = await holdersOf(2);
    const all = [holder, leaked].map(({ card }) => named(card, 'card-authentication'));
    const intakeId = await intakeOf(clinic, all);
    const keys = [authenticationOf(holder), authenticationOf(leaked)];
    expect(
      (
        await show(
          clinic,
          intakeId,
          keys.map((key) => signs(key)),
        )
      ).body.state,
    ).toBe('shown');
    const { authority, serialNumber } = named(leaked.card, 'card-authentication');
    await test.api.post(`/certificates/${authority}/${serialNumber}/changes`, {
      ...{ action: 'revoke', reason: 'keyCompromise' },
    });
    const path = `/watch-intakes/${intakeId}/acceptance`;
    expect((await approvedBy(test.api, second, path, undefined)).status).toBe(200);
    await expect.poll(async () => (await read(clinic, intakeId)).state).toBe('done');
    expect(await read(clinic, intakeId)).toMatchObject({ watched: 1, leftOut: 1 });
    expect(await watched(clinic)).toMatchObject([named(holder.card, 'card-authentication')]);
  });

  it('is of certificates of the verifier’s kinds alone, and accepted of none that may ask nothing now', async () => {
    const [holder] = await holdersOf(1);
    const { intakeId } = (await clinic.client.post<Shown>('/watch-intakes', { statement })).body;
    const path = `/watch-intakes/${intakeId}`;
    const refused = await clinic.client.post(`${path}/entries`, { entries: [named(holder.card)] });
    expect(refused).toMatchObject({ status: 403, body: { title: 'forbidden' } });
    const entries = [named(holder.card, 'card-authentication')];
    await clinic.client.post(`${path}/entries`, { entries });
    await clinic.client.post(`${path}/sample`, undefined);
    await show(clinic, intakeId, [signs(authenticationOf(holder))]);
    const suspension = `/verifiers/${clinic.verifierId}/suspension`;
    expect((await test.api.post(suspension, undefined)).status).toBe(200);
    const accepted = await approvedBy(test.api, second, `${path}/acceptance`, undefined);
    expect(accepted).toMatchObject({ status: 403, body: { title: 'forbidden' } });
    expect(await end(intakeId)).toBe(200);
  });

  it('counts each part of its list as a question', async () => {
    const [holder] = await holdersOf(1);
    const shop = await make('shop', { questionsPerDay: 1 });
    const { intakeId } = (await shop.client.post<Shown>('/watch-intakes', { statement })).body;
    const path = `/watch-intakes/${intakeId}/entries`;
    const add = (kind: string) => shop.client.post(path, { entries: [named(holder.card, kind)] });
    // Repeated, as what these clients send is, it is one question.
    expect((await add('card-signing')).status).toBe(200);
    expect((await add('card-authentication')).status).toBe(429);
    await shop.client.close();
  });

  it('is one at a time, until nothing is left of its list', async () => {
    const [holder] = await holdersOf(1);
    const { intakeId } = (await bank.client.post<Shown>('/watch-intakes', { statement })).body;
    await bank.client.post(`/watch-intakes/${intakeId}/entries`, { entries: [named(holder.card)] });
    const { intakes } = test.service.ca;
    // As if the list were too long to be removed at once.
    const proceed = intakes.proceed.bind(intakes);
    Object.assign(intakes, { proceed: async () => undefined });
    try {
      expect((await bank.client.post(`/watch-intakes/${intakeId}/end`, undefined)).status).toBe(200);
      const another = await bank.client.post('/watch-intakes', { statement });
      expect(another).toMatchObject({ status: 409, body: { title: 'in-use' } });
    } finally {
      Object.assign(intakes, { proceed });
    }
    await proceed(100);
    const begun = await bank.client.post<Shown>('/watch-intakes', { statement });
    expect(begun.status).toBe(201);
    expect(await end(begun.body.intakeId)).toBe(200);
  });

  it('without a reference leaves that of a certificate which is watched already', async () => {
    const [holder] = await holdersOf(1);
    const receipt = signReceipt(signingOf(holder), bank.verifierId);
    await bank.client.post('/watches', { watches: [{ receipt, reference: 'from before' }] });
    const intakeId = await intakeOf(bank, [named(holder.card)]);
    await show(bank, intakeId, [signs(signingOf(holder))]);
    const path = `/watch-intakes/${intakeId}/acceptance`;
    expect((await approvedBy(test.api, second, path, undefined)).status).toBe(200);
    await expect.poll(async () => (await read(bank, intakeId)).state).toBe('done');
    expect(await watched(bank)).toContainEqual(
      expect.objectContaining({ ...named(holder.card), reference: 'from before' }),
    );
  });

  it('is bounded by what the verifier may watch, names what it refuses, and has at least one certificate', async () => {
    const holders = await holdersOf(6);
    const { intakeId } = (await bank.client.post<Shown>('/watch-intakes', { statement })).body;
    const path = `/watch-intakes/${intakeId}`;
    const empty = await bank.client.post(`${path}/sample`, undefined);
    expect(empty).toMatchObject({ status: 400, body: { title: 'bad-request' } });
    const both = holders.flatMap(({ card }) => [named(card), named(card, 'card-authentication')]);
    const many = await bank.client.post(`${path}/entries`, { entries: both });
    expect(many).toMatchObject({ status: 409, body: { title: 'quota-exceeded' } });
    const unknown = [both[0], { authority: 'signing-1', serialNumber: '01' }];
    const refused = await bank.client.post<Shown>(`${path}/entries`, { entries: unknown });
    expect([refused.status, refused.body.detail]).toEqual([404, 'entries[1]: no such certificate']);
    expect(await read(bank, intakeId)).toMatchObject({ entries: 0 });
    expect(await end(intakeId)).toBe(200);
    for (const bad of ['  ', 'ab\u202ecd'])
      expect((await bank.client.post('/watch-intakes', { statement: bad })).status).toBe(400);
  });
});

async function holdersOf<N extends number>(
  many: N,
): Promise<N extends 1 ? [Holder] : [Holder, Holder, Holder]> {
  const made: Holder[] = [];
  for (let i = 0; i < many; i += 1) made.push(await issueCard(test.api));
  return made as never;
}
