import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CaClient, Changed } from '../../ca/client/client.ts';
import { makeChipKey } from '../support/actors.ts';
import {
  addClient,
  dayInJapan,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { dayMs, expectRefusal, good, Person } from '../support/holder-rules.ts';

// An event happens once; what takes trust away always acts; holds have sources; who is closed is issued nothing.

let test: TestService;
let api: CaClient;
let register: CaClient;
let registerFingerprint: string;

beforeAll(async () => {
  test = await startTestService();
  api = test.api;
  const added = await addClient(test, 'register', { roles: ['revoker', 'issuer'], desks: ['*'] });
  register = added.client;
  registerFingerprint = added.fingerprint;
});
afterAll(async () => {
  await register.close();
  await test.close();
  removeScratch();
});

const held = (by: string): string[] => [`authentication held by ${by}`, `signing held by ${by}`];
const ended = (reason: string): string[] => [`authentication ${reason}`, `signing ${reason}`];

describe('an event that is repeated', () => {
  it('is answered as at first, though the day that it named has passed', async () => {
    const person = await Person.withCard(test);
    const cardExpiresOn = dayInJapan(test.clock.wallMs() + 3 * dayMs);
    const event = { event: 'card-extended', cardId: person.cardId, cardExpiresOn };
    const first = await person.report(event, api, 'a-day');
    expect(first, JSON.stringify(first.body)).toMatchObject({ status: 200 });
    test.clock.advance(5 * dayMs);
    expect(await person.report(event, api, 'a-day')).toMatchObject({ replayed: true, body: first.body });
  });
});

describe('an event id', () => {
  it('gives the first answer to the same content, 409 to other content, and belongs to its caller', async () => {
    const person = await Person.withCard(test);
    const event = { event: 'moved', holderId: person.holderId, eventId: `${person.holderId}:e1` };
    const first = await person.report(event, api, 'key-1');
    expect(first).toMatchObject({ status: 200, replayed: false });
    expect(first.body.changes).toHaveLength(1);
    // Under another Idempotency-Key, long after the answers of keys are kept, with members in another order.
    test.clock.advance(8 * dayMs);
    const { eventId, ...others } = event;
    const again = await person.report({ eventId, ...others }, api, 'key-2');
    expect(again).toMatchObject({ status: 200, replayed: true });
    expect(again.body).toEqual(first.body);
    const other = await person.report({ ...event, event: 'renamed' }, api);
    expectRefusal(other, 409, 'event-id-reused');
    expect((await person.report(event, register)).body.changes).toEqual([]);
    const plan = await person.report({ ...event, dryRun: true }, api);
    expect(plan.body.changes).toEqual([]);
  });

  it('of an issuance gives the certificates that were issued first', async () => {
    const person = await Person.withCard(test);
    const signing = await makeChipKey();
    const request = { requests: { signing: Buffer.from(signing.request).toString('base64') } };
    const body = { event: 'moved', eventId: `${person.holderId}:e1`, ...request };
    const first = await person.atDesk(body, []);
    expect(first).toMatchObject({ status: 201, replayed: false });
    const again = await person.atDesk(body, []);
    expect(again).toMatchObject({ status: 201, replayed: true, body: first.body });
    expectRefusal(await person.atDesk({ ...body, event: 'renamed' }, []), 409, 'event-id-reused');
    expect(await person.onCard()).toEqual([
      'authentication good',
      'signing affiliationChanged',
      'signing good',
    ]);
  });

  it('of two requests at the same moment acts once', async () => {
    const person = await Person.withCard(test);
    const event = { event: 'card-lost', cardId: person.cardId, eventId: `${person.holderId}:lost` };
    const answers = await Promise.all([1, 2, 3, 4].map(() => person.report(event)));
    for (const { status } of answers) expect([200, 409]).toContain(status);
    const { body } = await api.get<{ events: { event: string }[] }>(`/holders/${person.holderId}/history`);
    expect(body.events.filter(({ event }) => event === 'card-lost')).toHaveLength(1);
  });
});

describe('an occurrence', () => {
  it('lies in the past, and stands next to the time of recording in the timeline', async () => {
    const person = await Person.withCard(test);
    const event = { event: 'moved', holderId: person.holderId };
    expectRefusal(
      await person.report({ ...event, occurredAt: person.instant(1) }),
      400,
      'bad-request',
      /occurredAt: lies in the future/,
    );
    const later = await person.atDesk({ event: 'moved', occurredAt: person.instant(1) }, ['signing']);
    expectRefusal(later, 400, 'bad-request', /future/);
    expectRefusal(
      await person.report({ ...event, occurredAt: '2026-02-30T00:00:00Z' }),
      400,
      'bad-request',
      /occurredAt/,
    );
    const occurredAt = person.instant(-3);
    await person.report({ ...event, occurredAt });
    type History = {
      events: { event: string; at: string; occurredAt: string }[];
      entries: { change: string; cause: { event: string; occurredAt: string | null } }[];
    };
    const { body } = await api.get<History>(`/holders/${person.holderId}/history`);
    expect(body.events).toMatchObject([{ event: 'moved', occurredAt }]);
    expect(Date.parse(body.events[0]?.at ?? '') - Date.parse(occurredAt)).toBeGreaterThan(2.9 * dayMs);
    expect(body.entries.at(-1)).toMatchObject({ change: 'revoked', cause: { event: 'moved', occurredAt } });
  });
});

describe('a change of the register', () => {
  it.each(['moved', 'renamed', 'register-corrected'])(
    '(%s) reported late by the register leaves the certificate that a desk issued because of it',
    async (event) => {
      const person = await Person.withCard(test);
      const occurredAt = person.instant(-1);
      expect((await person.atDesk({ event, occurredAt }, ['signing'])).status).toBe(201);
      const { status, body } = await person.report(
        { event, holderId: person.holderId, occurredAt, eventId: `${person.holderId}:r` },
        register,
      );
      expect([status, body.changes]).toEqual([200, []]);
      expect(await person.onCard()).toEqual([
        'authentication good',
        'signing affiliationChanged',
        'signing good',
      ]);
      // Neither does it end what a phone copied from that certificate.
      const deviceId = `${person.holderId}-p`;
      await person.enrol(deviceId);
      // An older change of the same kind is older than what the certificate says; a later one is news.
      const older = { event, holderId: person.holderId, occurredAt: person.instant(-2) };
      expect((await person.report(older, register)).body.changes).toEqual([]);
      expect(await person.onPhone(deviceId)).toEqual(good);
      const later = { event, holderId: person.holderId, occurredAt: person.instant(-0.5) };
      expect((await person.report(later, register)).body.changes).toHaveLength(2);
    },
  );

  it('reported first by the register and then by a desk is carried out once, and the desk issues', async () => {
    const person = await Person.withCard(test);
    const occurredAt = person.instant(-1);
    const reported = await person.report({ event: 'moved', holderId: person.holderId, occurredAt }, register);
    expect(reported.body.changes).toHaveLength(1);
    expect((await person.atDesk({ event: 'moved', occurredAt }, ['signing'])).status).toBe(201);
    const again = await person.report({ event: 'moved', holderId: person.holderId, occurredAt }, api);
    expect(again.body.changes).toEqual([]);
    expect(await person.onCard()).toContain('signing good');
  });

  it('whose issuance failed has not happened: reported again it acts', async () => {
    const person = await Person.withCard(test);
    const occurredAt = person.instant(-1);
    const used = await Person.withCard(test);
    const known = { signing: Buffer.from(used.cardSigning.request).toString('base64') };
    const failed = await person.atDesk({ event: 'moved', occurredAt, requests: known }, []);
    expectRefusal(failed, 409, 'already-certified');
    const reported = await person.report({ event: 'moved', holderId: person.holderId, occurredAt }, register);
    expect(reported.body.changes).toHaveLength(1);
  });
});

describe('an event that takes trust away', () => {
  it('acts on whatever is good now, whenever it occurred and however often it is reported', async () => {
    const person = await Person.withCard(test);
    const occurredAt = person.instant(-10);
    const leak = { event: 'key-leaked', holderId: person.holderId, occurredAt };
    expect((await person.report(leak, register)).body.changes).toHaveLength(2);
    expect((await person.atDesk()).status).toBe(201);
    // Reported again with the same occurrence, from another caller: what is good now was issued after it, and ends too.
    const body = (await person.report(leak, api)).body;
    expect(body.changes.map(({ to }) => to.reason)).toEqual(['keyCompromise', 'keyCompromise']);
    expect(await person.onCard()).not.toContain('signing good');
  });

  it('(death) ends what was issued after it above all', async () => {
    const person = await Person.withCard(test);
    const died = { event: 'died', holderId: person.holderId, occurredAt: person.instant(-30) };
    expect((await person.report(died)).body).toMatchObject({ standing: 'closes' });
    expect(await person.onCard()).toEqual(ended('cessationOfOperation'));
  });
});

describe('a loss', () => {
  it('reaches each phone enrolled with the card at or after the stated time, and no other', async () => {
    const person = await Person.withCard(test);
    const [before, after] = [`${person.holderId}-ios`, `${person.holderId}-android`];
    await person.enrol(before, 'issue-to-phone', { device: device(before, 'ios') });
    test.clock.advance(dayMs);
    const lostAt = person.instant(0);
    test.clock.advance(3_600_000);
    await person.enrol(after);
    await person.report({ event: 'card-lost', cardId: person.cardId, occurredAt: lostAt });
    expect(await person.onCard()).toEqual(held('event:card-lost'));
    expect(await person.onPhone(before)).toEqual(good);
    expect(await person.onPhone(after)).toEqual(held('event:card-lost'));
    // A held card enrols nothing.
    expectRefusal(
      await person.enrol(`${after}-2`, 'change-phone', { replaces: before }),
      409,
      'card-certificate-not-good',
    );
    // Found: what the loss held is replaced; the phone that it did not hold stays, though its card's certificates do not.
    await person.report({ event: 'card-found', cardId: person.cardId });
    expect(await person.onCard()).toEqual(ended('superseded'));
    expect(await person.onPhone(after)).toEqual(ended('superseded'));
    expect(await person.onPhone(before)).toEqual(good);
    // It rests on the card: with the card's new certificates, when those cease, it ceases.
    expect((await person.atDesk()).status).toBe(201);
    expect(await person.onPhone(before)).toEqual(good);
    await person.report({ event: 'card-returned', cardId: person.cardId });
    expect(await person.onPhone(before)).toEqual(ended('cessationOfOperation'));
  });

  it('of no stated time reaches phones enrolled within the configured span, and no older ones', async () => {
    const person = await Person.withCard(test);
    const [older, newer] = [`${person.holderId}-ios`, `${person.holderId}-android`];
    await person.enrol(older, 'issue-to-phone', { device: device(older, 'ios') });
    test.clock.advance(31 * dayMs);
    await person.enrol(newer);
    test.clock.advance(29 * dayMs);
    await person.report({ event: 'card-lost', cardId: person.cardId });
    expect(await person.onPhone(older)).toEqual(good);
    expect(await person.onPhone(newer)).toEqual(held('event:card-lost'));
  });

  it('that never was is not found: a good card, and one found twice, stay what they are', async () => {
    const person = await Person.withCard(test);
    const deviceId = `${person.holderId}-p`;
    await person.enrol(deviceId);
    const found = { event: 'card-found', cardId: person.cardId };
    expect((await person.report(found)).body).toMatchObject({ changes: [], reissue: [] });
    await person.report({ event: 'card-lost', cardId: person.cardId });
    expect((await person.report(found)).body.changes).toHaveLength(4);
    expect((await person.atDesk()).status).toBe(201);
    expect((await person.report(found)).body.changes).toEqual([]);
    expect((await person.report({ event: 'phone-found', deviceId })).body.changes).toEqual([]);
    expect(await person.onCard()).toContain('signing good');
  });
});

const device = (deviceId: string, platform: string) => ({
  deviceId,
  platform,
  model: 'Example 9',
  osVersion: '16',
  secureElement: 'GP-SE 2.3',
  patchLevel: '2026-10',
});

describe('a hold', () => {
  const change = (person: Person, kind: string, body: object, through = api) =>
    person.shown().then(({ certificates }) => {
      const on = certificates.filter((each) => each.kind === kind).at(-1);
      return through.post<Changed>(`/certificates/${on?.authority}/${on?.serialNumber}/changes`, body);
    });

  it('names its source, and the end of one never ends another', async () => {
    const person = await Person.withCard(test);
    const deviceId = `${person.holderId}-p`;
    await person.enrol(deviceId);
    await person.report({ event: 'phone-lost', deviceId });
    await change(person, 'phone-authentication', { action: 'hold' }, register);
    const fraud = `operator:${registerFingerprint.slice(0, 16)}`;
    expect((await person.onPhone(deviceId))[0]).toBe(`authentication held by event:phone-lost ${fraud}`);
    // The found phone stays held by the fraud desk.
    await person.report({ event: 'phone-found', deviceId });
    expect((await person.onPhone(deviceId))[0]).toBe(`authentication held by ${fraud}`);
    // Another operator names what it means, or is refused.
    const blind = await change(person, 'phone-authentication', { action: 'release' });
    expectRefusal(blind, 409, 'illegal-transition', /name one in heldBy/);
    await change(person, 'phone-authentication', { action: 'release' }, register);
    expect((await person.onPhone(deviceId))[0]).toBe('authentication good');
  });

  it('of several is released by the one that is named', async () => {
    const person = await Person.withCard(test);
    const deviceId = `${person.holderId}-p`;
    await person.enrol(deviceId);
    await person.report({ event: 'phone-lost', deviceId });
    await change(person, 'phone-authentication', { action: 'hold' }, register);
    await change(person, 'phone-authentication', { action: 'release', heldBy: 'event:phone-lost' });
    expect((await person.onPhone(deviceId))[0]).toMatch(/^authentication held by operator:/);
    const nothing = await change(person, 'phone-authentication', {
      action: 'release',
      heldBy: 'event:phone-lost',
    });
    expectRefusal(nothing, 409, 'illegal-transition');
    const wrong = await change(person, 'phone-authentication', { action: 'hold', heldBy: 'event:x' });
    expectRefusal(wrong, 400, 'bad-request', /heldBy belongs to action release/);
  });

  it('is not released where releases are closed, and the event’s revocations happen all the same', async () => {
    const person = await Person.withCard(test);
    const deviceId = `${person.holderId}-p`;
    await person.enrol(deviceId);
    await person.report({ event: 'phone-lost', deviceId });
    await api.post('/switches/release', { state: 'closed', note: 'inquiry' });
    const found = { event: 'phone-found', deviceId, eventId: `${person.holderId}:found` };
    const refused = await person.report(found, api, 'found-1');
    await api.post('/switches/release', { state: 'open' });
    expectRefusal(refused, 503, 'function-closed', /release is closed: inquiry/);
    expect(await person.onPhone(deviceId)).toEqual([
      'authentication held by event:phone-lost',
      'signing superseded',
    ]);
    // The same request, sent again when releases are open, has the rest.
    expect(await person.report(found, api, 'found-1')).toMatchObject({ status: 200 });
    expect(await person.onPhone(deviceId)).toEqual(['authentication good', 'signing superseded']);
  });
});

describe('a closed holder', () => {
  it('is issued nothing after death, by desk or phone, until a correction that another client approves', async () => {
    const person = await Person.withCard(test);
    await person.report({ event: 'died', holderId: person.holderId });
    expectRefusal(await person.atDesk({ cardId: `${person.cardId}-2` }), 409, 'holder-closed', /since died/);
    expectRefusal(await person.enrol(`${person.holderId}-p`), 409, 'holder-closed');
    const back = await person.report({ event: 'returned-to-register', holderId: person.holderId });
    expectRefusal(back, 409, 'holder-closed', /correction is proposed/);
    expect((await person.shown()).standing).toMatchObject({ closedBy: 'died', reopens: 'correction' });
    type Correction = { correctionId: string; state: string };
    const path = `/holders/${person.holderId}/corrections`;
    const proposed = await api.post<Correction>(path, { note: 'wrong report of 24 November' });
    expect(proposed).toMatchObject({ status: 201, body: { state: 'proposed' } });
    const approval = `/corrections/${proposed.body.correctionId}/approval`;
    expectRefusal(await api.post(approval, undefined), 403, 'forbidden', /another client/);
    expectRefusal(await person.atDesk({ cardId: `${person.cardId}-2` }), 409, 'holder-closed');
    expect(await register.post(approval, undefined)).toMatchObject({
      status: 200,
      body: { state: 'approved' },
    });
    expectRefusal(await register.post(approval, undefined), 409, 'illegal-transition', /is approved/);
    // What was revoked stays revoked; the holder gets new certificates.
    expect(await person.onCard()).toEqual(ended('cessationOfOperation'));
    expect((await person.atDesk({ cardId: `${person.cardId}-2` })).status).toBe(201);
    expectRefusal(await api.post(path, { note: 'again' }), 409, 'illegal-transition', /not closed/);
    const { body } = await api.get<{ corrections: Correction[] }>(path);
    expect(body.corrections).toMatchObject([{ state: 'approved' }]);
  });

  it('who left the register and returned is issued to again, by one desk', async () => {
    const person = await Person.withCard(test);
    await person.report({ event: 'left-register', holderId: person.holderId });
    expectRefusal(await person.atDesk(), 409, 'holder-closed', /since left-register/);
    const back = await person.report({ event: 'returned-to-register', holderId: person.holderId });
    expect(back).toMatchObject({ status: 200, body: { changes: [], standing: 'returns' } });
    expect((await person.atDesk()).status).toBe(201);
    // Who left, and was then reported dead, is closed by the graver event.
    await person.report({ event: 'left-register', holderId: person.holderId });
    await person.report({ event: 'died', holderId: person.holderId });
    const again = await person.report({ event: 'returned-to-register', holderId: person.holderId });
    expectRefusal(again, 409, 'holder-closed', /correction/);
  });

  it('is closed for what is under way: whichever comes first, nothing good is left', async () => {
    for (let round = 0; round < 4; round++) {
      const person = await Person.withCard(test);
      const deviceId = `${person.holderId}-p`;
      const [issued] = await Promise.all([
        person.enrol(deviceId),
        person.report({ event: 'died', holderId: person.holderId }),
      ]);
      expect([201, 409]).toContain(issued.status);
      const { certificates } = await person.shown();
      expect(certificates.map(({ status }) => status.state)).not.toContain('good');
      expect(certificates.map(({ status }) => status.state)).not.toContain('reserved');
    }
  });

  it.each(['my-number-changed', 'moved-abroad'])('stays open by %s', async (event) => {
    const person = await Person.withCard(test);
    await person.report({ event, holderId: person.holderId });
    const slots = event === 'moved-abroad' ? (['signing'] as const) : undefined;
    expect((await person.atDesk({}, slots)).status).toBe(201);
  });

  it('under guardianship is issued no signing certificate, also where nothing was on record before', async () => {
    const person = new Person(test);
    const began = { event: 'guardianship-began', holderId: person.holderId };
    expect(await person.report(began)).toMatchObject({ status: 200, body: { standing: 'bars-signing' } });
    expectRefusal(await person.atDesk(), 409, 'signing-not-allowed', /guardianship-began/);
    const alone = await person.atDesk({ authenticationOnly: true }, ['authentication']);
    expect(alone.status).toBe(201);
    await person.report({ event: 'guardianship-ended', holderId: person.holderId });
    expect((await person.atDesk({}, ['signing'])).status).toBe(201);
    await person.report(began);
    expect(await person.onCard()).toEqual(['authentication good', 'signing cessationOfOperation']);
  });
});

describe('a leaked card key', () => {
  it.each(['event', 'certificate', 'blocked-keys'])(
    'ends the phone pair that it enrolled, by %s',
    async (how) => {
      const person = await Person.withCard(test);
      const [both, alone] = [`${person.holderId}-a`, `${person.holderId}-i`];
      await person.enrol(both);
      const only = { signing: undefined, device: device(alone, 'ios') } as unknown as object;
      await person.enrol(alone, 'issue-authentication-to-phone', only);
      const { certificates } = await person.shown();
      const leaked = certificates.find(({ kind }) => kind === 'card-signing');
      // Though the leaked certificate was replaced meanwhile: what it enrolled lives on, and goes when the leak is known.
      expect((await person.atDesk({ event: 'moved' }, ['signing'])).status).toBe(201);
      expect(await person.onPhone(both)).toEqual(['authentication good', 'signing affiliationChanged']);
      if (how === 'event') await person.report({ event: 'key-leaked', holderId: person.holderId });
      else if (how === 'certificate')
        await api.post(`/certificates/${leaked?.authority}/${leaked?.serialNumber}/changes`, {
          action: 'revoke',
          reason: 'keyCompromise',
        });
      else {
        const { body } = await api.get<{ certificate: string }>(
          `/certificates/${leaked?.authority}/${leaked?.serialNumber}`,
        );
        const { createPublicKey } = await import('node:crypto');
        const publicKey = createPublicKey(body.certificate).export({ format: 'der', type: 'spki' });
        const request = { publicKey: publicKey.toString('base64') };
        const plan = await api.post<Changed>('/blocked-keys', { ...request, dryRun: true });
        expect(await person.onPhone(alone)).toEqual(['authentication good']);
        const done = await api.post<Changed>('/blocked-keys', { ...request, planHash: plan.body.planHash });
        expect(done.body.changes).toHaveLength(plan.body.changes.length);
      }
      expect((await person.onPhone(both))[0]).toBe('authentication keyCompromise');
      expect(await person.onPhone(alone)).toEqual(['authentication keyCompromise']);
      if (how !== 'event') expect(await person.onCard()).toContain('signing good');
    },
  );
});
