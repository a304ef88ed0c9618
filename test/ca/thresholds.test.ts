import { createPublicKey } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Issued } from '../../ca/client/client.ts';
import { base64, type ChipKey, cardRequest, makeChipKey } from '../support/actors.ts';
import { removeScratch } from '../support/harness.ts';
import { dayMs, expectRefusal } from '../support/holder-rules.ts';
import {
  basicFourOf,
  type Enrolled,
  municipalities,
  type ProductionService,
  shibuya,
  startProduction,
} from '../support/production.ts';

// What takes trust away is never refused, nor delayed: what one client may not revoke alone any more it holds, and a second person revokes.

let test: ProductionService;
let clerk: Enrolled;
let register: Enrolled;
let person: Enrolled;
let approver: Enrolled;

beforeAll(async () => {
  const approvals = { revocationsPerDay: { person: 1, system: 2 }, openMax: 1 };
  test = await startProduction({ municipalities, approvals });
  await test.approved('/desks', { deskCode: 'SHIBUYA01', kind: 'counter', municipalityCode: shibuya });
  const desks = ['SHIBUYA01'];
  clerk = await test.enrol({ name: 'clerk', kind: 'person', roles: ['issuer'], desks });
  register = await test.enrol({ name: 'register', kind: 'system', roles: ['revoker', 'reader'] });
  person = await test.enrol({ name: 'revoker', kind: 'person', roles: ['revoker'] });
  approver = await test.enrol({ name: 'approver', kind: 'person', roles: ['revoker', 'reader'] });
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

interface Proposed {
  readonly proposalId: string;
  readonly planHash: string;
  readonly act: string;
}

interface Card {
  readonly holderId: string;
  readonly cardId: string;
  readonly signing: ChipKey;
  readonly issued: Issued;
}

let cards = 0;
async function newCard(): Promise<Card> {
  const holderId = `resident-${++cards}`;
  const [signing, authentication] = [await makeChipKey(), await makeChipKey()];
  const at = {
    ...{ holderId, cardId: `card-${cards}`, basicFour: basicFourOf(holderId) },
    ...{ deskCode: 'SHIBUYA01', municipalityCode: shibuya },
  };
  const answer = await clerk.client.post<Issued>(
    '/card-certificates',
    cardRequest({ signing, authentication }, at),
  );
  if (answer.status !== 201) throw new Error(JSON.stringify(answer.body));
  return { ...at, signing, issued: answer.body };
}

const pathOf = ({ issued }: Card, kind = 'card-signing'): string => {
  const found = issued.certificates.find((each) => each.kind === kind);
  return `/certificates/${found?.authority}/${found?.serialNumber}`;
};
const statusOf = async (card: Card, kind?: string) => {
  const { body } = await approver.client.get<{ status: { state: string; reason: string | null } }>(
    pathOf(card, kind),
  );
  return body.status;
};
const revoke = (by: Enrolled, card: Card, key?: string) =>
  by.client.post<Proposed>(`${pathOf(card)}/changes`, { action: 'revoke', reason: 'keyCompromise' }, key);
const approveAll = (by: Enrolled, proposals: readonly Proposed[]) =>
  by.client.post<{ approved: string[]; refused: { title: string }[] }>('/proposal-approvals', {
    proposals: proposals.map(({ proposalId, planHash }) => ({ proposalId, planHash })),
  });
const warnings = async () => {
  await test.service.reload();
  const { body } = await test.administrators[0].get<{ warnings: object[] }>('/health');
  return body.warnings;
};

describe('a client that revokes more in a day than it may alone', () => {
  it('holds at once instead, as a system too; a second person revokes all of it, and the requests are answered', async () => {
    for (const each of [await newCard(), await newCard()])
      expect((await revoke(register, each)).status).toBe(200);
    const [signing, dead] = [await newCard(), await newCard()];
    const one = await revoke(register, signing, 'beyond-1');
    expect(one).toMatchObject({ status: 202, body: { act: 'mass-revocation', state: 'proposed' } });
    expect(await statusOf(signing)).toMatchObject({ state: 'held', reason: 'certificateHold' });
    const death = { event: 'died', holderId: dead.holderId };
    const two = await register.client.post<Proposed>('/events', death, 'beyond-2');
    // No number of them is too many, though `openMax` is one.
    expect(two.status).toBe(202);
    for (const kind of ['card-signing', 'card-authentication'])
      expect(await statusOf(dead, kind)).toMatchObject({ state: 'held' });
    expect(await revoke(register, signing, 'beyond-1')).toMatchObject({ status: 202, body: one.body });
    expect(await warnings()).toContainEqual(
      expect.objectContaining({
        kind: 'revocations-wait',
        about: expect.stringMatching(/^2 revocations of client .*less than an hour/),
      }),
    );
    expectRefusal(await approveAll(register, [one.body]), 403, 'forbidden', /takes two persons/);
    const answer = await approveAll(approver, [one.body, two.body]);
    expect(answer.body).toMatchObject({ approved: [one.body.proposalId, two.body.proposalId], refused: [] });
    expect(await statusOf(signing)).toMatchObject({ state: 'revoked', reason: 'keyCompromise' });
    expect(await statusOf(dead)).toMatchObject({ state: 'revoked' });
    expect(await revoke(register, signing, 'beyond-1')).toMatchObject({ status: 200, replayed: true });
    expect((await register.client.post('/events', death, 'beyond-2')).status).toBe(200);
    const again = await approveAll(approver, [one.body]);
    expect(again.body).toMatchObject({ approved: [], refused: [{ title: 'illegal-transition' }] });
    expect(await warnings()).not.toContainEqual(expect.objectContaining({ kind: 'revocations-wait' }));
  });

  it('holds what a key certifies that it blocks, and the key is blocked as a second person approves', async () => {
    const card = await newCard();
    const publicKey = base64(
      createPublicKey(card.signing.privateKey).export({ format: 'der', type: 'spki' }),
    );
    const asked = await register.client.post<Proposed>('/blocked-keys', { publicKey });
    expect(asked).toMatchObject({ status: 202, body: { act: 'mass-revocation' } });
    expect(await statusOf(card)).toMatchObject({ state: 'held' });
    await approveAll(approver, [asked.body]);
    expect(await statusOf(card)).toMatchObject({ state: 'revoked', reason: 'keyCompromise' });
  });

  it('neither approves its own, nor takes the holds back alone when they are withdrawn', async () => {
    expect((await revoke(person, await newCard())).status).toBe(200);
    const card = await newCard();
    const asked = await revoke(person, card);
    expect(asked.status).toBe(202);
    const own = await approveAll(person, [asked.body]);
    expect(own.body).toMatchObject({ approved: [], refused: [{ title: 'forbidden' }] });
    await person.client.post(`/proposals/${asked.body.proposalId}/withdrawal`, undefined);
    expect(await statusOf(card)).toMatchObject({ state: 'held' });
    const path = `${pathOf(card, 'card-authentication')}/changes`;
    expect((await person.client.post(path, { action: 'hold' })).status).toBe(200);
    const release = { action: 'release' };
    expect((await person.client.post(path, release)).status).not.toBe(200);
    expect(await statusOf(card, 'card-authentication')).toMatchObject({ state: 'held' });
  });

  it('holds a card beyond its number also where it would only move its last day forward', async () => {
    const card = await newCard();
    const today = new Date(test.clock.wallMs() + 9 * 3_600_000).toISOString().slice(0, 10);
    const shortened = { event: 'card-extended', cardId: `card-${cards}`, cardExpiresOn: today };
    const asked = await person.client.post<Proposed>('/events', shortened);
    expect(asked).toMatchObject({ status: 202, body: { act: 'mass-revocation' } });
    for (const kind of ['card-signing', 'card-authentication'])
      expect(await statusOf(card, kind)).toMatchObject({ state: 'held' });
  });

  it('may hold, see what it would do, and revoke once more what is revoked', async () => {
    const [card, ended] = [await newCard(), await newCard()];
    expect((await revoke(approver, ended)).status).toBe(200);
    const path = `${pathOf(card)}/changes`;
    const dry = { action: 'revoke', reason: 'superseded', dryRun: true };
    expect((await person.client.post(path, dry)).status).toBe(200);
    expect((await person.client.post(path, { action: 'hold' })).status).toBe(200);
    expect((await revoke(person, ended)).status).toBe(200);
  });

  it('may revoke again on the next day', async () => {
    const [card, beyond] = [await newCard(), await newCard()];
    test.clock.advance(dayMs);
    expect((await revoke(person, card)).status).toBe(200);
    expect((await revoke(person, beyond)).status).toBe(202);
  });

  it('says which plan it saw: what has changed since is neither revoked nor held', async () => {
    const card = await newCard();
    const planHash = '0'.repeat(64);
    const body = { action: 'revoke', reason: 'superseded', planHash };
    expectRefusal(await person.client.post(`${pathOf(card)}/changes`, body), 409, 'plan-changed');
    expect(await statusOf(card)).toMatchObject({ state: 'good' });
  });
});

describe('an emergency', () => {
  it('holds a kind of phones at once, and stays unconfirmed, louder, until another client approves it', async () => {
    const match = { platform: 'android', models: ['Broken 1'] };
    const { body } = await person.client.post<{
      restrictionId: string;
      state: string;
      acts: { actId: string; state: string; approvedBy: string | null }[];
    }>('/restrictions', { match, emergency: true });
    expect(body).toMatchObject({ state: 'in-force', acts: [{ approvedBy: null }] });
    const path = `/mass-acts/${body.acts[0]?.actId}`;
    const about = (said: string) =>
      expect.objectContaining({
        kind: 'hold-unconfirmed',
        about: `restriction ${body.restrictionId}: ${said}`,
      });
    expect(await warnings()).toContainEqual(about('for less than an hour'));
    test.clock.advance(5 * 3_600_000);
    expect(await warnings()).toContainEqual(about('for more than 4 hours'));
    expectRefusal(
      await person.client.post(`${path}/approval`, undefined),
      403,
      'forbidden',
      /another client/,
    );
    expectRefusal(await register.client.post(`${path}/approval`, undefined), 403, 'forbidden', /two persons/);
    expectRefusal(await person.client.post(`${path}/withdrawal`, undefined), 409, 'illegal-transition');
    expect((await approver.client.post(`${path}/approval`, undefined)).status).toBe(200);
    expect(await warnings()).not.toContainEqual(expect.objectContaining({ kind: 'hold-unconfirmed' }));
    expectRefusal(await approver.client.post(`${path}/approval`, undefined), 409, 'illegal-transition');
  });
});
