import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { CaClient, Issued } from '../../ca/client/client.ts';
import { addClient, removeScratch, startTestService, type TestService } from '../support/harness.ts';
import { dayMs, expectRefusal, good, Person } from '../support/holder-rules.ts';

// What happens while something is on its way, or under way at the same moment: one good certificate in each slot.

const ended = (reason: string): string[] => [`authentication ${reason}`, `signing ${reason}`];
const waiting = ['authentication held by not-delivered', 'signing held by not-delivered'];
const counted = (states: readonly string[], kind: string): number =>
  states.filter((state) => state === `${kind} good`).length;

afterAll(removeScratch);

describe('a successor on its way', () => {
  let test: TestService;
  let tsm: CaClient;
  beforeAll(async () => {
    const activation = { card: 'when-delivered', phone: 'when-stored' };
    test = await startTestService({
      overrides: { activation, notices: { tsm: 'http://127.0.0.1:9/orders' } },
    });
    tsm = (await addClient(test, 'sp-tsm', { roles: ['tsm'] })).client;
  });
  afterAll(async () => {
    await tsm.close();
    await test.close();
  });

  /** A holder with a card, and another on its way; the holder goes on with the first. */
  async function onItsWay(): Promise<{ person: Person; old: string; next: string }> {
    const person = await Person.withCard(test);
    const old = person.cardId;
    const keys = [person.cardSigning, person.card] as const;
    const next = `${old}-2`;
    const exchange = { cardId: next, replacesCardId: old, event: 'card-exchanged' };
    expect((await person.atDesk(exchange)).body).toMatchObject({ awaited: true });
    [person.cardSigning, person.card] = keys;
    person.cardId = old;
    return { person, old, next };
  }

  it.each([
    ['is corrected', { event: 'card-last-day-corrected', cardExpiresOn: '2030-03-31' }],
    ['is reissued onto itself', { event: 'card-exchanged' }],
  ])('that %s waits on, and ends the first card when it arrives', async (_how, request) => {
    const { person, old, next } = await onItsWay();
    const { status, body } = await person.atDesk({ cardId: next, ...request });
    expect([status, body.awaited]).toEqual([201, true]);
    expect(await person.onCard(old)).toEqual(good);
    expect(await person.onCard(next)).toEqual([
      'authentication held by not-delivered',
      'authentication superseded',
      'signing held by not-delivered',
      'signing superseded',
    ]);
    await person.report({ event: 'card-delivered', cardId: next });
    expect(await person.onCard(old)).toEqual(ended('superseded'));
    expect(counted(await person.onCard(next), 'signing')).toBe(1);
  });

  it('that is itself replaced by a third leaves the first to the third', async () => {
    const { person, old, next } = await onItsWay();
    const third = { cardId: `${old}-3`, replacesCardId: next, event: 'card-exchanged' };
    expect((await person.atDesk(third)).body).toMatchObject({ awaited: true });
    expect(await person.onCard(next)).toEqual(ended('superseded'));
    expect(await person.onCard(old)).toEqual(good);
    await person.report({ event: 'card-delivered', cardId: `${old}-3` });
    expect(await person.onCard(old)).toEqual(ended('superseded'));
    expect(await person.onCard(`${old}-3`)).toEqual(good);
  });

  it('that is handed over as a third ends both', async () => {
    const { person, old, next } = await onItsWay();
    const third = { cardId: `${old}-3`, replacesCardId: next, event: 'card-exchanged', handedOver: true };
    expect((await person.atDesk(third)).body).toMatchObject({ awaited: false });
    expect(await person.onCard(old)).toEqual(ended('superseded'));
    expect(await person.onCard(next)).toEqual(ended('superseded'));
    expect(await person.onCard(`${old}-3`)).toEqual(good);
    const discarded = await person.report({ event: 'card-discarded-before-delivery', cardId: `${old}-3` });
    expectRefusal(discarded, 409, 'illegal-transition', /was delivered/);
  });

  it.each(['card-returned', 'card-lost and card-found'])(
    'that ends by %s makes no room for a second card',
    async (how) => {
      const { person, old, next } = await onItsWay();
      for (const event of how.split(' and ')) await person.report({ event, cardId: next });
      expectRefusal(await person.atDesk({ cardId: `${old}-3` }), 409, 'quota-exceeded');
      expectRefusal(await person.atDesk({ cardId: next }), 409, 'quota-exceeded');
      // Another may be sent in its place, and arrives.
      const again = { cardId: next, replacesCardId: old, event: 'card-exchanged' };
      expect((await person.atDesk(again)).body).toMatchObject({ awaited: true });
      await person.report({ event: 'card-delivered', cardId: next });
      expect(await person.onCard(old)).toEqual(ended('superseded'));
      expect(counted(await person.onCard(next), 'signing')).toBe(1);
    },
  );

  it('a holder who moves can go on signing: onto the old card at once, onto the new one as it arrives', async () => {
    const { person, old, next } = await onItsWay();
    await person.report({ event: 'moved', holderId: person.holderId });
    expect((await person.atDesk({}, ['signing'])).body).toMatchObject({ awaited: false });
    expect(counted(await person.onCard(old), 'signing')).toBe(1);
    expect((await person.atDesk({ cardId: next }, ['signing'])).body).toMatchObject({ awaited: true });
    await person.report({ event: 'card-delivered', cardId: next });
    expect(counted(await person.onCard(old), 'signing')).toBe(0);
    expect(await person.onCard(next)).toEqual([
      'authentication good',
      'signing affiliationChanged',
      'signing good',
    ]);
  });

  it('does not keep holders from renewing the first card, as /renewals says', async () => {
    const person = new Person(test);
    const cardExpiresOn = person.day(60);
    await person.atDesk({ cardExpiresOn });
    const old = person.cardId;
    await person.atDesk({ cardExpiresOn, cardId: `${old}-2`, replacesCardId: old, event: 'card-exchanged' });
    type Listed = { holderId: string; mediumId: string; opensAt: string };
    const { body } = await test.api.get<{ certificates: Listed[] }>('/renewals?days=90');
    const own = body.certificates.filter(({ holderId }) => holderId === person.holderId);
    expect(own.map(({ mediumId }) => mediumId)).toEqual([`card:${old}`, `card:${old}`]);
    expect((await person.atDesk({ cardExpiresOn, cardId: old, event: 'card-renewed' })).status).toBe(201);
  });

  it('is a phone whose applet is lost meanwhile: it waits on, and its predecessor ends with its arrival', async () => {
    const person = await Person.withCard(test);
    const [first, second] = [`${person.holderId}-1`, `${person.holderId}-2`];
    await person.enrolStored(tsm, first);
    const lost = await person.enrol(second, 'change-phone', { replaces: first });
    const next = await person.enrol(second, 'change-phone', { replaces: second });
    expect(next.body).toMatchObject({ awaited: true });
    const store = (of: Issued) => tsm.post(`/issuances/${of.issuanceId}/storage`, { stored: true });
    await store(lost.body);
    expect(await person.onPhone(first)).toEqual(good);
    await store(next.body);
    expect(await person.onPhone(first)).toEqual(ended('superseded'));
    expect(counted(await person.onPhone(second), 'signing')).toBe(1);
  });

  it('is a phone that is given up: no second one is enrolled in addition', async () => {
    const person = await Person.withCard(test);
    const [first, second] = [`${person.holderId}-1`, `${person.holderId}-2`];
    await person.enrolStored(tsm, first);
    await person.enrol(second, 'change-phone', { replaces: first });
    await person.report({ event: 'phone-given-up', deviceId: second });
    expectRefusal(await person.enrol(`${second}-3`), 409, 'quota-exceeded');
    expect(await person.onPhone(first)).toEqual(good);
  });

  it('says in its plan that nothing happens before it arrives', async () => {
    const person = await Person.withCard(test);
    const plan = {
      cardId: `${person.cardId}-2`,
      replacesCardId: person.cardId,
      event: 'card-exchanged',
      dryRun: true,
    };
    expect((await person.atDesk(plan)).body).toMatchObject({ dryRun: true, awaited: true });
    expect((await person.atDesk({ ...plan, handedOver: true })).body).toMatchObject({ awaited: false });
    expect(await person.onCard(`${person.cardId}-2`)).toEqual([]);
    expect(waiting).toHaveLength(2);
  });
});

describe('at the same moment', () => {
  let test: TestService;
  beforeAll(async () => {
    test = await startTestService();
  });
  afterAll(async () => {
    await test.close();
  });

  it('desks move a holder: one signing certificate is good, whatever the clock does', async () => {
    for (let round = 0; round < 10; round++) {
      const person = await Person.withCard(test);
      const answers = await Promise.all([1, 2, 3].map(() => person.atDesk({ event: 'moved' }, ['signing'])));
      for (const { status } of answers) expect([201, 409]).toContain(status);
      expect(counted(await person.onCard(), 'signing')).toBe(1);
    }
    const person = await Person.withCard(test);
    expect((await person.atDesk({ event: 'moved' }, ['signing'])).status).toBe(201);
    test.clock.step(-3000);
    expect((await person.atDesk({ event: 'moved' }, ['signing'])).status).toBe(201);
    test.clock.advance(3000);
    expect(counted(await person.onCard(), 'signing')).toBe(1);
  });

  it('holders exchange a phone twice: one is good', async () => {
    for (let round = 0; round < 4; round++) {
      const person = await Person.withCard(test);
      const first = `${person.holderId}-1`;
      await person.enrol(first);
      const next = [2, 3].map((n) => `${person.holderId}-${n}`);
      await Promise.all(next.map((deviceId) => person.enrol(deviceId, 'change-phone', { replaces: first })));
      const phones = await Promise.all([first, ...next].map((deviceId) => person.onPhone(deviceId)));
      expect(counted(phones.flat(), 'signing')).toBe(1);
    }
  });

  it('dry runs are refused as the act would be', async () => {
    const person = await Person.withCard(test);
    const moved = { event: 'moved', dryRun: true };
    const wrongDay = await person.atDesk({ ...moved, cardExpiresOn: '2033-03-31' }, ['signing']);
    expectRefusal(wrongDay, 400, 'bad-request', /not the day on record/);
    const other = await Person.withCard(test);
    const requests = { signing: Buffer.from(other.cardSigning.request).toString('base64') };
    expectRefusal(await person.atDesk({ ...moved, requests }, []), 409, 'already-certified');
    await person.report({ event: 'left-register', holderId: person.holderId });
    expectRefusal(await person.atDesk(moved, ['signing']), 409, 'holder-closed');
  });

  it('what is renewed is not reported by itself', async () => {
    const person = await Person.withCard(test);
    const alone = await person.report({ event: 'card-renewed', cardId: person.cardId });
    expectRefusal(alone, 400, 'bad-request', /comes with the new certificates/);
    expect(await person.onCard()).toEqual(good);
  });

  it('another person’s birth date is refused without an event too, unless the register corrected it', async () => {
    const person = await Person.withCard(test);
    await person.report({ event: 'moved', holderId: person.holderId });
    const basicFour = {
      name: '番号　花子',
      address: '東京都渋谷区例町一丁目１番地',
      birthDate: '1991-04-01',
      sex: 'female',
    };
    expectRefusal(await person.atDesk({ basicFour }, ['signing']), 400, 'bad-request', /birthDate/);
    await person.report({ event: 'register-corrected', holderId: person.holderId });
    expect((await person.atDesk({ basicFour }, ['signing'])).status).toBe(201);
  });

  it('a correction is about one closing, and no other', async () => {
    const { client, fingerprint } = await addClient(test, 'corrector', { roles: ['revoker'] });
    expect(fingerprint).toHaveLength(64);
    const person = await Person.withCard(test);
    await person.report({ event: 'left-register', holderId: person.holderId });
    const path = `/holders/${person.holderId}/corrections`;
    const proposed = await test.api.post<{ correctionId: string }>(path, { note: 'did not leave' });
    await person.report({ event: 'died', holderId: person.holderId });
    const approved = await client.post(`/corrections/${proposed.body.correctionId}/approval`, undefined);
    await client.close();
    expectRefusal(approved, 409, 'illegal-transition', /about left-register/);
    expect((await person.shown()).standing).toMatchObject({ closedBy: 'died' });
  });

  it('what opens a holder undoes only what occurred before it, in whatever order they are reported', async () => {
    const person = await Person.withCard(test);
    const tell = (event: string, days: number) =>
      person.report({ event, holderId: person.holderId, occurredAt: person.instant(-days) });
    await tell('left-register', 30);
    await tell('returned-to-register', 20);
    await tell('left-register', 10);
    await tell('returned-to-register', 20);
    expect((await person.shown()).standing).toMatchObject({ closedBy: 'left-register' });
    await tell('returned-to-register', 5);
    expect((await person.shown()).standing).toMatchObject({ closedBy: null });
    await tell('guardianship-ended', 1);
    await tell('guardianship-began', 9);
    expect((await person.shown()).standing).toMatchObject({ signingBarredBy: null });
  });
});

describe('an overlap', () => {
  let test: TestService;
  beforeEach(async () => {
    test = await startTestService({ overrides: { renewal: { overlap: '2h' } } });
    return () => test.close();
  });

  const afterIt = async (): Promise<void> => {
    test.clock.advance(3 * 3_600_000);
    await new Promise((resolve) => setTimeout(resolve, 6000));
  };

  it('of two renewals at once ends the old pair and no new one', async () => {
    const person = new Person(test);
    const cardExpiresOn = person.day(60);
    await person.atDesk({ cardExpiresOn });
    const renewal = { cardExpiresOn, event: 'card-renewed' };
    const answers = await Promise.all([person.atDesk(renewal), person.atDesk(renewal)]);
    // One behind the other they are two renewals, the second of what the first issued.
    for (const { status } of answers) expect([201, 409]).toContain(status);
    await afterIt();
    const states = await person.onCard();
    expect([counted(states, 'signing'), counted(states, 'authentication')]).toEqual([1, 1]);
  });

  it('whose successor ended leaves the old pair where the new one is no more, and room for no other card', async () => {
    const person = new Person(test);
    const cardExpiresOn = person.day(60);
    await person.atDesk({ cardExpiresOn });
    const old = person.cardId;
    const renewal = { cardExpiresOn, event: 'card-renewed', cardId: `${old}-2`, replacesCardId: old };
    expect((await person.atDesk(renewal)).status).toBe(201);
    await person.report({ event: 'card-returned', cardId: `${old}-2` });
    expectRefusal(await person.atDesk({ cardExpiresOn, cardId: `${old}-3` }), 409, 'quota-exceeded');
    await afterIt();
    expect(await person.onCard(old)).toEqual(good);
  });
});

describe('a card’s day that moved twice', () => {
  it('counts as it is now: shortened, then corrected, nothing ends on the abandoned day', async () => {
    const test = await startTestService();
    try {
      const person = await Person.withCard(test, { cardExpiresOn: new Person(test).day(900) });
      const shorter = { event: 'card-extended', cardId: person.cardId, cardExpiresOn: person.day(20) };
      await person.report(shorter);
      const { body } = await test.api.get<{
        certificates: { holderId: string; opensAt: string; endsAt: string }[];
      }>('/renewals?days=90');
      // Ends with the card, and is renewed, onto another card, as if that were its own end.
      for (const { opensAt, endsAt } of body.certificates) {
        expect(endsAt).toContain(person.day(20));
        expect(Date.parse(opensAt)).toBeLessThan(test.clock.wallMs());
      }
      const corrected = { event: 'card-last-day-corrected', cardExpiresOn: person.day(400) };
      expect((await person.atDesk(corrected)).status).toBe(201);
      test.clock.advance(22 * dayMs);
      await new Promise((resolve) => setTimeout(resolve, 6000));
      expect(counted(await person.onCard(), 'signing')).toBe(1);
    } finally {
      await test.close();
    }
  });
});
