import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CaClient, Changed, Issued } from '../../ca/client/client.ts';
import {
  askOcsp,
  base64,
  crlAddress,
  derOf,
  fetchCrl,
  listed,
  makeChipKey,
  ocspRequest,
  pemOf,
} from '../support/actors.ts';
import { addClient, removeScratch, startTestService, type TestService } from '../support/harness.ts';
import { dayMs, expectRefusal, good, Person } from '../support/holder-rules.ts';
import { Receiver } from '../support/tsm.ts';

// A new card or phone takes the place of another when it has arrived: never two good, never none.

let test: TestService;
let api: CaClient;
let tsm: CaClient;
let receiver: Receiver;

beforeAll(async () => {
  receiver = await Receiver.start();
  const overrides = {
    activation: { card: 'when-delivered', phone: 'when-stored', wait: '60d' },
    notices: { tsm: receiver.url },
  };
  test = await startTestService({ overrides });
  api = test.api;
  tsm = (await addClient(test, 'sp-tsm', { roles: ['tsm'] })).client;
});
afterAll(async () => {
  await tsm.close();
  await test.close();
  await receiver.stop();
  removeScratch();
});

const waiting = ['authentication held by not-delivered', 'signing held by not-delivered'];
const ended = (reason: string): string[] => [`authentication ${reason}`, `signing ${reason}`];

/** A holder whose card is exchanged for another that is on its way. */
async function exchanged(overrides: object = {}): Promise<{ person: Person; old: string; answer: Issued }> {
  const person = await Person.withCard(test);
  const old = person.cardId;
  const oldKeys = [person.cardSigning, person.card] as const;
  const { status, body } = await person.atDesk({
    cardId: `${old}-2`,
    replacesCardId: old,
    event: 'card-exchanged',
    ...overrides,
  });
  expect(status, JSON.stringify(body)).toBe(201);
  // The holder goes on with the old card.
  [person.cardSigning, person.card] = oldKeys;
  person.cardId = old;
  return { person, old, answer: body };
}

async function seen(issued: Issued, kind: string): Promise<{ ocsp: string; isListed: boolean }> {
  const leaf = derOf(pemOf(issued, kind));
  const { authority = '', serialNumber = '' } = issued.certificates.find((each) => each.kind === kind) ?? {};
  const issuer = await fetchCrl(`${test.service.addresses.crl}/ca/${authority}.cer`);
  const response = Buffer.from(
    await askOcsp(test.service.addresses.ocsp, await ocspRequest(leaf, issuer)),
  ).toString('hex');
  const ocsp = response.includes('8000180f') ? 'good' : /a00[38]0a0106/.test(response) ? 'held' : 'revoked';
  const isListed = listed(await fetchCrl(crlAddress(leaf))).get(serialNumber) === 6;
  return { ocsp, isListed };
}

describe('an issuance that is repeated', () => {
  it('is answered as at first, though meanwhile less was replaced, and its delivery was confirmed', async () => {
    const person = await Person.withCard(test);
    const old = person.cardId;
    const [signing, authentication] = [await makeChipKey(), await makeChipKey()];
    const body = {
      ...{ cardId: `${old}-2`, replacesCardId: old, event: 'card-exchanged' },
      requests: { signing: base64(signing.request), authentication: base64(authentication.request) },
    };
    const { body: first } = await person.atDesk(body, [], `repeated-${old}`);
    expect(first.replaced).toHaveLength(2);
    await person.report({ event: 'moved', holderId: person.holderId });
    await person.report({ event: 'card-delivered', cardId: `${old}-2` });
    const again = await person.atDesk(body, [], `repeated-${old}`);
    expect(again).toMatchObject({ replayed: true, body: first });
  });
});

describe('a new card', () => {
  it('is held until it is delivered, in OCSP and CRL, while the old one stays good', async () => {
    const { person, old, answer } = await exchanged();
    expect(answer).toMatchObject({ awaited: true });
    expect(answer.replaced).toHaveLength(2);
    expect(await person.onCard(`${old}-2`)).toEqual(waiting);
    expect(await person.onCard(old)).toEqual(good);
    await expect.poll(() => seen(answer, 'card-signing')).toEqual({ ocsp: 'held', isListed: true });
    const plan = await person.report({ event: 'card-delivered', cardId: `${old}-2`, dryRun: true });
    expect(plan.body.changes).toHaveLength(4);
    const done = await person.report({
      event: 'card-delivered',
      cardId: `${old}-2`,
      planHash: plan.body.planHash,
    });
    expect(done).toMatchObject({ status: 200, body: { confirmed: [answer.issuanceId] } });
    expect(await person.onCard(`${old}-2`)).toEqual(good);
    expect(await person.onCard(old)).toEqual(ended('superseded'));
    await expect.poll(() => seen(answer, 'card-signing')).toEqual({ ocsp: 'good', isListed: false });
    // Reported twice it changes nothing.
    const again = await person.report({ event: 'card-delivered', cardId: `${old}-2` });
    expect(again.body.changes).toEqual([]);
  });

  it('is delivered though releases are closed, and lifts no other hold', async () => {
    const { person, old } = await exchanged();
    await person.report({ event: 'card-lost', cardId: `${old}-2` });
    await api.post('/switches/release', { state: 'closed' });
    const done = await person.report({ event: 'card-delivered', cardId: `${old}-2` });
    await api.post('/switches/release', { state: 'open' });
    expect(done.status).toBe(200);
    expect(await person.onCard(`${old}-2`)).toEqual([
      'authentication held by event:card-lost',
      'signing held by event:card-lost',
    ]);
    expect(await person.onCard(old)).toEqual(ended('superseded'));
  });

  it('cannot be released by an operator instead', async () => {
    const { answer } = await exchanged();
    const [first] = answer.certificates;
    const path = `/certificates/${first?.authority}/${first?.serialNumber}/changes`;
    for (const body of [{ action: 'release' }, { action: 'release', heldBy: 'not-delivered' }])
      expectRefusal(await api.post(path, body), 409, 'illegal-transition');
  });

  it('that is discarded is revoked, its keys stay used up, and the old card lives to its own end', async () => {
    const { person, old, answer } = await exchanged();
    await person.report({ event: 'card-discarded-before-delivery', cardId: `${old}-2` });
    expect(await person.onCard(`${old}-2`)).toEqual(ended('unspecified'));
    expect(await person.onCard(old)).toEqual(good);
    const late = await person.report({ event: 'card-delivered', cardId: `${old}-2` });
    expectRefusal(late, 409, 'illegal-transition', /not to be handed over/);
    test.clock.advance(61 * dayMs);
    await new Promise((resolve) => setTimeout(resolve, 6000));
    expect(await person.onCard(old)).toEqual(good);
    expect(answer.certificates).toHaveLength(2);
    // Another may be sent.
    const next = { cardId: `${old}-3`, replacesCardId: old, event: 'card-exchanged' };
    expect((await person.atDesk(next)).status).toBe(201);
  });

  it('that is never confirmed is revoked in the end, and ends nothing', async () => {
    const { person, old } = await exchanged();
    test.clock.advance(59 * dayMs);
    expect(await person.onCard(`${old}-2`)).toEqual(waiting);
    test.clock.advance(2 * dayMs);
    await expect.poll(() => person.onCard(`${old}-2`), { timeout: 15_000 }).toEqual(ended('unspecified'));
    expect(await person.onCard(old)).toEqual(good);
  });

  it.each(['died', 'card-lost on the old card'])(
    'is reached by what happens in between: %s',
    async (what) => {
      const { person, old } = await exchanged();
      const deviceId = `${person.holderId}-p`;
      await person.enrolStored(tsm, deviceId);
      if (what === 'died') {
        await person.report({ event: 'died', holderId: person.holderId });
        for (const card of [old, `${old}-2`])
          expect(await person.onCard(card)).toEqual(ended('cessationOfOperation'));
        expectRefusal(
          await person.report({ event: 'card-delivered', cardId: `${old}-2` }),
          409,
          'illegal-transition',
          /not to be handed over/,
        );
      } else {
        await person.report({ event: 'card-lost', cardId: old });
        expect((await person.onCard(old))[0]).toBe('authentication held by event:card-lost');
        await person.report({ event: 'card-delivered', cardId: `${old}-2` });
        expect(await person.onCard(`${old}-2`)).toEqual(good);
        expect(await person.onCard(old)).toEqual(ended('superseded'));
        expect(await person.onPhone(deviceId)).toEqual(ended('superseded'));
      }
    },
  );

  it('is good at once where the desk hands it over, or where it is the same card', async () => {
    const { person, old } = await exchanged({ handedOver: true });
    expect(await person.onCard(`${old}-2`)).toEqual(good);
    expect(await person.onCard(old)).toEqual(ended('superseded'));
    const same = await Person.withCard(test);
    expect((await same.atDesk({ event: 'card-exchanged' })).body).toMatchObject({ awaited: false });
    expect(await same.onCard()).toContain('signing good');
  });

  it('on its way is one: a second successor waits for what becomes of the first', async () => {
    const { person, old } = await exchanged();
    const second = { cardId: `${old}-3`, replacesCardId: old, event: 'card-exchanged' };
    expectRefusal(await person.atDesk(second), 409, 'quota-exceeded');
  });

  it('is as good as the old one when the holder moves meanwhile: both signing certificates end', async () => {
    const { person, old } = await exchanged();
    await person.report({ event: 'moved', holderId: person.holderId });
    expect(await person.onCard(old)).toEqual(['authentication good', 'signing affiliationChanged']);
    await person.report({ event: 'card-delivered', cardId: `${old}-2` });
    expect(await person.onCard(`${old}-2`)).toEqual(['authentication good', 'signing affiliationChanged']);
    expect((await person.atDesk({ cardId: `${old}-2` }, ['signing'])).status).toBe(201);
  });

  it('that a desk issued because of a move stays when the register reports the move', async () => {
    const person = await Person.withCard(test);
    const [old, occurredAt] = [person.cardId, person.instant(-1)];
    await person.report({ event: 'card-returned', cardId: old });
    const moved = { cardId: `${old}-2`, event: 'moved', occurredAt };
    expect((await person.atDesk(moved)).body).toMatchObject({ awaited: true });
    await person.report({ event: 'moved', holderId: person.holderId, occurredAt });
    expect(await person.onCard(`${old}-2`)).toEqual(waiting);
  });
});

describe('a new phone', () => {
  /** A holder whose phone is changed for another that is being set up. */
  async function changing(): Promise<{ person: Person; old: string; next: string; answer: Issued }> {
    const person = await Person.withCard(test);
    const [old, next] = [`${person.holderId}-p1`, `${person.holderId}-p2`];
    expect((await person.enrolStored(tsm, old)).body).toMatchObject({ awaited: true });
    const { status, body } = await person.enrol(next, 'change-phone', { replaces: old });
    expect(status).toBe(201);
    expect(body).toMatchObject({ awaited: true });
    return { person, old, next, answer: body };
  }
  const store = (answer: Issued, stored: boolean, through = tsm) =>
    through.post<Changed>(`/issuances/${answer.issuanceId}/storage`, { stored });

  it('takes the place of the old one when the TSM says that it is stored', async () => {
    const { person, old, next, answer } = await changing();
    expect(await person.onPhone(next)).toEqual(waiting);
    expect(await person.onPhone(old)).toEqual(good);
    expectRefusal(await store(answer, true, api), 403, 'forbidden');
    const done = await store(answer, true);
    expect(done.status).toBe(200);
    // The old keys are ordered to be deleted now, and not before.
    expect(done.body.orders.map(({ deviceId }) => deviceId)).toEqual([old, old]);
    expect(await person.onPhone(next)).toEqual(good);
    expect(await person.onPhone(old)).toEqual(ended('superseded'));
    expect((await store(answer, true)).body.changes).toEqual([]);
  });

  it('that could not be stored ends itself, and the old one stays', async () => {
    const { person, old, next, answer } = await changing();
    expect((await store(answer, false)).status).toBe(200);
    expect(await person.onPhone(next)).toEqual(ended('unspecified'));
    expect(await person.onPhone(old)).toEqual(good);
    expect((await store(answer, true)).body.changes).toEqual([]);
    expect(await person.onPhone(next)).toEqual(ended('unspecified'));
  });

  it('is reached by a restriction in between, which its arrival does not lift', async () => {
    const { person, next, answer } = await changing();
    const second = (await addClient(test, 'second', { roles: ['revoker'] })).client;
    const proposed = await api.post<{ restrictionId: string; acts: { actId: string }[] }>('/restrictions', {
      match: { platform: 'android', models: ['Example 9'] },
    });
    const { restrictionId, acts } = proposed.body;
    await second.post(`/mass-acts/${acts[0]?.actId}/approval`, undefined);
    await second.close();
    const by = `restriction:${restrictionId}`;
    await expect
      .poll(() => person.onPhone(next), { timeout: 10_000 })
      .toEqual([`authentication held by not-delivered ${by}`, `signing held by not-delivered ${by}`]);
    await store(answer, true);
    expect((await person.onPhone(next))[0]).toBe(`authentication held by ${by}`);
  });
});

describe('an overlap', () => {
  it('of a card that is discarded ends nothing', async () => {
    const service = await startTestService({ overrides: { renewal: { overlap: '2h' } } });
    try {
      const person = new Person(service);
      const cardExpiresOn = person.day(60);
      expect((await person.atDesk({ cardExpiresOn })).status).toBe(201);
      const old = person.cardId;
      const renewal = { cardId: `${old}-2`, replacesCardId: old, event: 'card-renewed' };
      expect((await person.atDesk(renewal)).status).toBe(201);
      await person.report({ event: 'card-discarded-before-delivery', cardId: `${old}-2` });
      service.clock.advance(3 * 3_600_000);
      await new Promise((resolve) => setTimeout(resolve, 6000));
      expect(await person.onCard(old)).toEqual(good);
      expect(await person.onCard(`${old}-2`)).toEqual(ended('unspecified'));
    } finally {
      await service.close();
    }
  });
});
