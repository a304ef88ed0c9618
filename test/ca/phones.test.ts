import { createHash, sign } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, CaClient, Changed, Issued } from '../../ca/client/client.ts';
import type { PhoneOperation } from '../../ca/request/enrolment.ts';
import { encodePhoneRevocation } from '../../ca/revoke/phone-revocation.ts';
import { digest } from '../../core/runtime/bytes.ts';
import {
  base64,
  cardRequest,
  derOf,
  type EnrolmentParts,
  enrolmentContent,
  pemOf,
  signEnrolment,
} from '../support/actors.ts';
import {
  addClient,
  enrolmentParts,
  getChallenge,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { dayMs, expectRefusal, good, nextKey, Person } from '../support/holder-rules.ts';
import { Receiver } from '../support/tsm.ts';

// A phone changes hands, gives itself up with either key, and has authentication alone where a desk allows it.

let test: TestService;
let api: CaClient;
let tsm: CaClient;
let portal: Receiver;
let receiver: Receiver;

beforeAll(async () => {
  [receiver, portal] = [await Receiver.start(), await Receiver.start()];
  const overrides = {
    activation: { phone: 'at-once' },
    notices: { tsm: receiver.url, portal: portal.url },
    limits: { phoneHandOverAfter: '90d' },
    issuing: { enrolmentCodes: 'on' },
  };
  test = await startTestService({ overrides });
  api = test.api;
  for (const each of [receiver, portal]) each.trust(test.folder);
  tsm = (await addClient(test, 'sp-tsm', { roles: ['tsm'] })).client;
});
afterAll(async () => {
  await tsm.close();
  await test.close();
  await receiver.stop();
  await portal.stop();
  removeScratch();
});

const soon = { timeout: 15_000 };
const ended = (reason: string): string[] => [`authentication ${reason}`, `signing ${reason}`];

interface Order {
  messageId: string;
  deviceId: string | null;
  instance: string | null;
  state: string;
}

/** Orders of one phone that are not confirmed. */
async function orders(deviceId: string): Promise<Order[]> {
  const found = new Map<string, Order>();
  // Between the two answers it may have been delivered.
  for (const state of ['waiting', 'delivered'])
    for (const order of (await api.get<{ messages: Order[] }>(`/outbox?state=${state}`)).body.messages)
      if (order.deviceId === deviceId) found.set(order.messageId, order);
  return [...found.values()];
}

describe('a phone that changes hands', () => {
  it('is the next holder’s when all has ceased and its deletion is confirmed, and not before', async () => {
    const [first, next] = [await Person.withCard(test), await Person.withCard(test)];
    const deviceId = `handed-${first.holderId}`;
    const enrolled = await first.enrol(deviceId);
    const inUse = await next.enrol(deviceId);
    expectRefusal(inUse, 409, 'medium-unavailable');
    await first.report({ event: 'phone-given-up', deviceId });
    const notDeleted = await next.enrol(deviceId);
    expectRefusal(notDeleted, 409, 'medium-unavailable');
    // The words are the same whatever is the reason: they tell nothing of the other's record.
    expect((notDeleted.body as unknown as { detail: string }).detail).toBe(
      (inUse.body as unknown as { detail: string }).detail,
    );
    const [one, two, ...none] = await orders(deviceId);
    expect(none).toEqual([]);
    // An order names the applet's instance: the issuance that brought the key.
    expect([one?.instance, two?.instance]).toEqual([enrolled.body.issuanceId, enrolled.body.issuanceId]);
    await tsm.post(`/orders/${one?.messageId}/confirmation`, undefined);
    expectRefusal(await next.enrol(deviceId), 409, 'medium-unavailable');
    await tsm.post(`/orders/${two?.messageId}/confirmation`, undefined);
    const handed = await next.enrol(deviceId);
    expect(handed.status).toBe(201);
    expect(await next.onPhone(deviceId)).toEqual(good);
    // What is said of the device is said of the next holder's now; the first holder's record keeps what it had.
    await next.report({ event: 'phone-lost', deviceId });
    expect(await first.onPhone(deviceId)).toEqual(ended('cessationOfOperation'));
    expect((await next.onPhone(deviceId))[0]).toBe('authentication held by event:phone-lost');
  });

  it('is the next holder’s when so much time has passed that policy takes it for deleted', async () => {
    const [first, next] = [await Person.withCard(test), await Person.withCard(test)];
    const deviceId = `aged-${first.holderId}`;
    await first.enrol(deviceId);
    await first.report({ event: 'phone-given-up', deviceId });
    test.clock.advance(89 * dayMs);
    expectRefusal(await next.enrol(deviceId), 409, 'medium-unavailable');
    test.clock.advance(2 * dayMs);
    expect((await next.enrol(deviceId)).status).toBe(201);
    // The first owner's order comes late: it names the first owner's instance.
    const late = await orders(deviceId);
    expect(new Set(late.map(({ instance }) => instance)).size).toBe(1);
    for (const { messageId } of late) await tsm.post(`/orders/${messageId}/confirmation`, undefined);
    expect(await next.onPhone(deviceId)).toEqual(good);
  });

  it('is not claimed by a caller who only names it, and a card is never', async () => {
    const [owner, stranger] = [await Person.withCard(test), await Person.withCard(test)];
    const deviceId = `named-${owner.holderId}`;
    // Refused requests that name a device leave it to its owner.
    const refused = await stranger.enrol(deviceId, 'change-phone', { replaces: 'nowhere' });
    expectRefusal(refused, 404, 'not-found');
    expect((await owner.enrol(deviceId)).status).toBe(201);
    await owner.report({ event: 'card-returned', cardId: owner.cardId });
    const theirs = await stranger.atDesk({ cardId: owner.cardId });
    expectRefusal(theirs, 409, 'medium-unavailable');
    expect(JSON.stringify(theirs.body)).not.toMatch(/another|holder-|person-/);
  });
});

describe('a limit that was lowered', () => {
  it('keeps no one from changing, renewing or ending what exists', async () => {
    const more = await startTestService({ overrides: { limits: { cards: 2, phonesPerPlatform: 2 } } });
    const person = new Person(more);
    const cardExpiresOn = person.day(60);
    await person.atDesk({ cardExpiresOn });
    const first = person.cardId;
    const firstKeys = [person.cardSigning, person.card] as const;
    expect((await person.atDesk({ cardId: `${first}-2`, cardExpiresOn })).status).toBe(201);
    for (const phone of ['a', 'b']) expect((await person.enrol(`${first}-${phone}`)).status).toBe(201);
    await more.close();
    const { readFileSync, writeFileSync } = await import('node:fs');
    const file = `${more.folder}/warifu.json`;
    const config = JSON.parse(readFileSync(file, 'utf8')) as { limits: object };
    writeFileSync(file, JSON.stringify({ ...config, limits: { cards: 1, phonesPerPlatform: 1 } }));
    const fewer = await startTestService({ folder: more.folder });
    try {
      const again = Object.assign(new Person(fewer, person.holderId), {
        card: person.card,
        cardSigning: person.cardSigning,
        cardId: person.cardId,
      });
      expectRefusal(await again.atDesk({ cardId: `${first}-3` }), 409, 'quota-exceeded');
      expect((await again.enrol(`${first}-c`, 'change-phone', { replaces: `${first}-a` })).status).toBe(201);
      expectRefusal(await again.enrol(`${first}-d`), 409, 'quota-exceeded');
      const renewed = await again.atDesk({
        cardExpiresOn: again.day(3000),
        cardId: `${first}-4`,
        replacesCardId: first,
        event: 'card-renewed',
      });
      expect(renewed.status).toBe(201);
      expect((await again.report({ event: 'phone-given-up', deviceId: `${first}-c` })).status).toBe(200);
      expect(firstKeys).toHaveLength(2);
    } finally {
      await fewer.close();
    }
  });
});

/** Signs as the chip of any of our certificates does. */
const signedBy = (
  content: Uint8Array,
  key: EnrolmentParts['cardSigningKey'],
  certificate: Uint8Array,
  contentType?: string,
) =>
  base64(
    signEnrolment(
      content,
      { cardSigningKey: key, cardSigningCertificate: certificate } as EnrolmentParts,
      contentType === undefined ? {} : { contentType },
    ),
  );

describe('a phone alone', () => {
  const contentType = '1.3.6.1.4.1.32473.8.2';

  it.each(['signing', 'authentication'] as const)(
    'gives itself up with its %s key, and nothing else',
    async (slot) => {
      const [person, other] = [await Person.withCard(test), await Person.withCard(test)];
      const [deviceId, others] = [`${person.holderId}-p`, `${other.holderId}-p`];
      const keys = { signing: nextKey(), authentication: nextKey() };
      const { body } = await person.enrol(deviceId, 'issue-to-phone', keys);
      await other.enrol(others);
      const certificate = derOf(pemOf(body, `phone-${slot}`));
      const message = async (device: string) =>
        signedBy(
          encodePhoneRevocation({
            certificate: digest('sha256', certificate),
            challenge: await getChallenge(api),
            deviceId: device,
          }),
          keys[slot].privateKey,
          certificate,
          contentType,
        );
      const give = (signedRevocation: string, manner: object = {}) =>
        api.post<Changed>('/phone-revocations', { signedRevocation, ...manner });
      expectRefusal(await give(await message(others)), 400, 'invalid-signed-request', /deviceId/);
      const signed = await message(deviceId);
      const plan = await give(signed, { dryRun: true });
      expect(await person.onPhone(deviceId)).toEqual(good);
      const done = await give(signed, { planHash: plan.body.planHash });
      expect(done).toMatchObject({ status: 200, body: { planHash: plan.body.planHash } });
      expect(await person.onPhone(deviceId)).toEqual(ended('cessationOfOperation'));
      expect(await person.onCard()).toEqual(good);
      expect(await other.onPhone(others)).toEqual(good);
    },
  );
});

describe('authentication alone', () => {
  async function child(): Promise<{
    person: Person;
    key: ReturnType<typeof nextKey>;
    certificate: Uint8Array;
  }> {
    const person = new Person(test);
    const key = nextKey();
    const { basicFour: _, ...request } = cardRequest(
      { authentication: key },
      { holderId: person.holderId, cardId: person.cardId },
    );
    const { status, body } = await api.post<Issued>('/card-certificates', {
      ...request,
      authenticationOnly: true,
    });
    expect(status).toBe(201);
    return { person, key, certificate: derOf(pemOf(body, 'card-authentication')) };
  }

  it('is issued to a card without the basic four, to a birthday that the card’s last day is', async () => {
    const { person } = await child();
    // The card ends on 30 June 2035: the fifth birthday after issue is the 30 June that comes fifth.
    expect(await person.endOf('card-authentication')).toMatch(/^20\d\d-06-30T14:59:59/);
    const without = cardRequest(
      { signing: nextKey() },
      { holderId: 'x-1', cardId: 'x-1', basicFour: undefined },
    );
    expectRefusal(await api.post('/card-certificates', without), 400, 'bad-request', /basicFour/);
  });

  it('is issued, changed and given up on a phone whose card signs', async () => {
    const person = await Person.withCard(test);
    const [first, second] = [`${person.holderId}-1`, `${person.holderId}-2`];
    const only = { signing: undefined } as unknown as object;
    expect((await person.enrol(first, 'issue-authentication-to-phone', only)).status).toBe(201);
    const changed = await person.enrol(second, 'change-phone', { ...only, replaces: first });
    expect(changed.status).toBe(201);
    expect(changed.body.certificates.map(({ kind }) => kind)).toEqual(['phone-authentication']);
    expect(await person.onPhone(first)).toEqual(['authentication superseded']);
    expect(await person.onPhone(second)).toEqual(['authentication good']);
    await person.report({ event: 'phone-given-up', deviceId: second });
    expect(await person.onPhone(second)).toEqual(['authentication cessationOfOperation']);
  });

  /** An enrolment as the authentication key of a card signs it. */
  async function signedByAuthentication(
    of: Awaited<ReturnType<typeof child>>,
    deviceId: string,
    code?: string,
    overrides: {
      operation?: PhoneOperation;
      signing?: boolean;
      contentType?: string;
      replaces?: string;
    } = {},
  ): Promise<Answer<Issued>> {
    const holder = {
      holderId: of.person.holderId,
      cardId: of.person.cardId,
      card: { certificates: [] } as unknown as Issued,
      cardSigning: of.key,
    };
    const parts = await enrolmentParts(api, { ...holder, card: fakeIssued(of.certificate) }, { deviceId });
    const all = {
      ...parts,
      cardSigningKey: of.key.privateKey,
      cardSigningCertificate: of.certificate,
      operation: overrides.operation ?? 'issue-authentication-to-phone',
      authentication: nextKey(),
      ...(overrides.replaces === undefined ? {} : { replaces: overrides.replaces }),
      signing: overrides.signing ? nextKey() : undefined,
    } as EnrolmentParts;
    const signedEnrolment = signedBy(
      enrolmentContent(all),
      of.key.privateKey,
      of.certificate,
      overrides.contentType,
    );
    const enrolmentCode = code === undefined ? {} : { enrolmentCode: code };
    return api.post<Issued>('/phone-certificates', { deviceId, signedEnrolment, ...enrolmentCode });
  }
  const fakeIssued = (certificate: Uint8Array): Issued =>
    ({
      certificates: [
        {
          kind: 'card-signing',
          certificate: `-----BEGIN CERTIFICATE-----\n${base64(certificate)}\n-----END CERTIFICATE-----\n`,
        },
      ],
    }) as unknown as Issued;

  const askCode = (person: Person, key?: string, through = api) =>
    through.post<{ code: string; expiresAt: string }>(
      '/enrolment-codes',
      { holderId: person.holderId, cardId: person.cardId, deskCode: 'DESK00001' },
      key,
    );

  it('key alone enrols nothing; with a desk’s code it does once, and the holder is notified', async () => {
    const of = await child();
    const { person } = of;
    const deviceId = `${person.holderId}-p`;
    expectRefusal(
      await signedByAuthentication(of, deviceId),
      400,
      'invalid-signed-request',
      /not a card’s signing/,
    );
    const given = await askCode(person, `code-${person.holderId}`);
    expect(given.status).toBe(201);
    const { code } = given.body;
    expect(code).toMatch(/^[0-9A-HJKMNP-TV-Z]{16}$/);
    expect((await askCode(person, `code-${person.holderId}`)).body.code).toBe(code);
    // A notice that no preference declines: none was set.
    await expect
      .poll(
        () =>
          portal
            .messages()
            .filter((each) => each.holderId === person.holderId)
            .map(({ occasion }) => occasion),
        soon,
      )
      .toEqual(['enrolment-code']);
    const guessed = await signedByAuthentication(of, deviceId, '0'.repeat(16));
    expectRefusal(guessed, 409, 'code-not-usable');
    const another = await child();
    expectRefusal(await signedByAuthentication(another, `${deviceId}-x`, code), 409, 'code-not-usable');
    expect((await signedByAuthentication(of, deviceId, code)).status).toBe(201);
    expect(await person.onPhone(deviceId)).toEqual(['authentication good']);
    expectRefusal(
      await signedByAuthentication(of, `${deviceId}-2`, code, {
        operation: 'change-phone',
        replaces: deviceId,
      }),
      409,
      'code-not-usable',
    );
    const next = (await askCode(person)).body.code;
    const changed = await signedByAuthentication(of, `${deviceId}-2`, next, {
      operation: 'change-phone',
      replaces: deviceId,
    });
    expect(changed.status).toBe(201);
  });

  it('code ends after 15 minutes, stands for no signing certificate, and is nothing for a card that signs', async () => {
    const of = await child();
    const { code } = (await askCode(of.person)).body;
    const both = await signedByAuthentication(of, `${of.person.holderId}-p`, code, {
      operation: 'issue-to-phone',
      signing: true,
    });
    expectRefusal(both, 400, 'invalid-signed-request', /authentication alone/);
    test.clock.advance(15 * 60_000);
    expectRefusal(await signedByAuthentication(of, `${of.person.holderId}-p`, code), 409, 'code-not-usable');
    const adult = await Person.withCard(test);
    expectRefusal(await askCode(adult), 409, 'illegal-transition', /signing certificate/);
    expectRefusal(
      await api.post('/enrolment-codes', {
        holderId: adult.holderId,
        cardId: of.person.cardId,
        deskCode: 'DESK00001',
      }),
      404,
      'not-found',
    );
    expectRefusal(
      await api.post('/enrolment-codes', {
        holderId: of.person.holderId,
        cardId: of.person.cardId,
        deskCode: 'ONLINE001',
      }),
      403,
      'desk-not-allowed',
    );
  });

  it('code is never on record, nor in the log', async () => {
    const of = await child();
    const { code } = (await askCode(of.person)).body;
    expect(test.log()).not.toContain(code);
    const { readFileSync, readdirSync } = await import('node:fs');
    for (const file of readdirSync(test.folder).filter((name) => name.startsWith('record.db')))
      expect(readFileSync(`${test.folder}/${file}`).includes(code)).toBe(false);
  });

  it('codes are off by default', async () => {
    const service = await startTestService();
    try {
      const person = await Person.withCard(service);
      const body = { holderId: person.holderId, cardId: person.cardId, deskCode: 'DESK00001' };
      expectRefusal(
        await service.api.post('/enrolment-codes', body),
        503,
        'function-closed',
        /enrolmentCodes/,
      );
    } finally {
      await service.close();
    }
  });

  it('signed for a login is no enrolment, and an enrolment is no answer to a login', async () => {
    const person = await Person.withCard(test);
    const { cardSigning } = person;
    const certificate = derOf(person.pem('card-signing'));
    const deviceId = `${person.holderId}-p`;
    const parts = await enrolmentParts(api, person.asHolder(), { deviceId });
    const content = enrolmentContent(parts);
    // A relying party had the card sign a challenge of its choice: the very octets of an enrolment, as data (id-data).
    const asData = signedBy(content, cardSigning.privateKey, certificate, '1.2.840.113549.1.7.1');
    const post = (signedEnrolment: string) => api.post('/phone-certificates', { deviceId, signedEnrolment });
    expectRefusal(await post(asData), 400, 'invalid-signed-request', /eContentType/);
    // Nor is a signature over the bare octets, put into a message, one over its attributes.
    const bare = sign('sha256', content, cardSigning.privateKey);
    const message = Buffer.from(signedBy(content, cardSigning.privateKey, certificate), 'base64');
    const forged = Buffer.concat([message.subarray(0, message.length - bare.length), bare]);
    expectRefusal(await post(forged.toString('base64')), 400, 'invalid-signed-request', /signature/);
    // What an enrolment signs begins with the attributes that name it: no hash of a challenge is that.
    const challenge = createHash('sha256').update('login').digest();
    expect(Buffer.from(message).includes(challenge)).toBe(false);
    expect(await person.onPhone(deviceId)).toEqual([]);
  });
});
