import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { dayInJapan, removeScratch, startTestService, type TestService } from '../support/harness.ts';
import { dayMs, expectRefusal, Person } from '../support/holder-rules.ts';

// Renewal follows what ends first: for the pair, for one slot, for card and phone; and /renewals says what issuing does.

let test: TestService;
beforeAll(async () => {
  test = await startTestService();
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

interface Listed {
  holderId: string;
  kind: string;
  opensAt: string | null;
  endsAt: string;
}

async function renewals(of: Person, days: number): Promise<Listed[]> {
  const { body } = await of.api.get<{ certificates: Listed[] }>(`/renewals?days=${days}`);
  return body.certificates.filter(({ holderId }) => holderId === of.holderId);
}

const year = (text: string | undefined): number => Number(text?.slice(0, 4));

/** A holder who moved a year after issue: the card's two certificates end at different times. */
async function moved(service: TestService): Promise<{ person: Person; details: Record<string, unknown> }> {
  const { clock } = service;
  const birthday = dayInJapan(clock.wallMs() + 100 * dayMs);
  const basicFour = {
    name: '番号　花子',
    address: '東京都渋谷区例町一丁目１番地',
    birthDate: `1990${birthday.slice(4)}`,
    sex: 'female',
  };
  const details = { basicFour, cardExpiresOn: `${year(birthday) + 9}${birthday.slice(4)}` };
  const person = await Person.withCard(service, details);
  clock.advance(366 * dayMs);
  expect((await person.atDesk({ ...details, event: 'moved' }, ['signing'])).status).toBe(201);
  return { person, details };
}

describe('after a move', () => {
  // Each goes years ahead, and a CA lives for ten.
  let service: TestService;
  beforeEach(async () => {
    service = await startTestService();
    return () => service.close();
  });

  /** So many days before a certificate's end. */
  const goBefore = (end: string | undefined, days: number): void =>
    service.clock.advance(Date.parse(end ?? '') - service.clock.wallMs() - days * dayMs);

  it('renewal opens with what ends first, and only the slot in its window gets the sixth birthday', async () => {
    const { person, details } = await moved(service);
    const renewal = { ...details, event: 'card-renewed' };
    const [signing, authentication] = [
      await person.endOf('card-signing'),
      await person.endOf('card-authentication'),
    ];
    expect(year(signing)).toBe(year(authentication) + 1);
    expectRefusal(await person.atDesk(renewal), 409, 'not-due', /opens at/);
    // Two months before the authentication certificate ends; a year and more before the other does.
    goBefore(authentication, 60);
    expectRefusal(await person.atDesk(renewal, ['signing']), 409, 'not-due', /opens at/);
    expect((await renewals(person, 90)).map(({ kind }) => kind)).toEqual(['card-authentication']);
    expect((await person.atDesk(renewal)).status).toBe(201);
    // The first birthday is two months away: the sixth is five years after the old end, the fifth four.
    expect(year(await person.endOf('card-authentication'))).toBe(year(authentication) + 5);
    expect(year(await person.endOf('card-signing'))).toBe(year(authentication) + 4);
    expect(await renewals(person, 90)).toEqual([]);
  });

  it('one slot is renewed alone, and its sibling stays', async () => {
    const { person, details } = await moved(service);
    const authentication = await person.endOf('card-authentication');
    goBefore(authentication, 60);
    const alone = await person.atDesk({ ...details, event: 'card-renewed' }, ['authentication']);
    expect(alone.status).toBe(201);
    expect(alone.body.certificates.map(({ kind }) => kind)).toEqual(['card-authentication']);
    expect(await person.onCard()).toEqual([
      'authentication good',
      'authentication superseded',
      'signing affiliationChanged',
      'signing good',
    ]);
    expect(year(await person.endOf('card-authentication'))).toBe(year(authentication) + 5);
  });
});

describe('a phone', () => {
  it('is not renewed for the same last day, and /renewals says that its card comes first', async () => {
    const person = await Person.withCard(test, { cardExpiresOn: new Person(test).day(60) });
    const deviceId = `${person.holderId}-p`;
    expect((await person.enrol(deviceId)).status).toBe(201);
    expectRefusal(await person.enrol(deviceId, 'renew-phone'), 409, 'not-due', /same day/);
    const listed = await renewals(person, 61);
    expect(listed.filter(({ kind }) => kind.startsWith('phone')).map(({ opensAt }) => opensAt)).toEqual([
      null,
      null,
    ]);
    expect(
      listed.filter(({ kind }) => kind.startsWith('card')).every(({ opensAt }) => opensAt !== null),
    ).toBe(true);
    expect(await person.onPhone(deviceId)).toEqual(['authentication good', 'signing good']);
  });

  it('changes its applet on the same device, which is no renewal', async () => {
    const person = await Person.withCard(test);
    const deviceId = `${person.holderId}-p`;
    await person.enrol(deviceId);
    const answer = await person.enrol(deviceId, 'change-phone', { replaces: deviceId });
    expect(answer.status).toBe(201);
    expect(await person.onPhone(deviceId)).toEqual([
      'authentication good',
      'authentication superseded',
      'signing good',
      'signing superseded',
    ]);
  });
});

describe('an overlap', () => {
  it('renews a phone while its card’s old pair lives on, once, and never lists what was renewed', async () => {
    const service = await startTestService({ overrides: { renewal: { overlap: '2h' } } });
    try {
      const person = new Person(service);
      const cardExpiresOn = person.day(60);
      expect((await person.atDesk({ cardExpiresOn })).status).toBe(201);
      const deviceId = `${person.holderId}-p`;
      await person.enrol(deviceId);
      const longer = person.day(3000);
      const renewal = { cardExpiresOn: longer, cardId: `${person.cardId}-2`, event: 'card-renewed' };
      expect((await person.atDesk({ ...renewal, replacesCardId: person.cardId })).status).toBe(201);
      const { body } = await service.api.get<{ certificates: Listed[] }>('/renewals?days=90');
      const own = body.certificates.filter(({ holderId }) => holderId === person.holderId);
      // The card's old pair was renewed; the phone can be, for it gains.
      expect(own.map(({ kind }) => kind).sort()).toEqual(['phone-authentication', 'phone-signing']);
      expect(own.every(({ opensAt }) => Date.parse(opensAt ?? '') <= service.clock.wallMs())).toBe(true);
      expect((await person.enrol(deviceId, 'renew-phone')).status).toBe(201);
      expectRefusal(await person.enrol(deviceId, 'renew-phone'), 409, 'not-due');
    } finally {
      await service.close();
    }
  });
});
