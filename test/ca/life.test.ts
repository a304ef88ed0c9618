import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, CaClient, Changed, Issued } from '../../ca/client/client.ts';
import type { PhoneOperation } from '../../ca/request/enrolment.ts';
import { encodePhoneRevocation, type PhoneRevocation } from '../../ca/revoke/phone-revocation.ts';
import { digest } from '../../core/runtime/bytes.ts';
import {
  base64,
  cardRequest,
  derOf,
  type EnrolmentParts,
  enrolmentContent,
  makeChipKey,
  pemOf,
  signEnrolment,
} from '../support/actors.ts';
import {
  addClient,
  dayInJapan,
  enrolmentParts,
  getChallenge,
  type Holder,
  issueCard,
  issuePhone,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

// What happens to a holder's certificates between the counter and the end, through the API.

let test: TestService;
let api: CaClient;

beforeAll(async () => {
  test = await startTestService();
  api = test.api;
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

interface HolderBody {
  certificates: { kind: string; mediumId: string; status: { state: string; reason: string | null } }[];
}

/** What a holder's certificates are, on one medium, in words. */
async function standing(holder: Holder, mediumId: string, through: CaClient = api): Promise<string[]> {
  const { body } = await through.get<HolderBody>(`/holders/${holder.holderId}`);
  return body.certificates
    .filter((certificate) => certificate.mediumId === mediumId)
    .map(({ kind, status }) => `${kind.replace(/^[a-z]+-/, '')} ${status.reason ?? status.state}`)
    .sort();
}

function expectRefusal(answer: Answer<unknown>, status: number, title: string, detail?: RegExp): void {
  expect(answer).toMatchObject({ status, body: { status, title } });
  if (detail) expect((answer.body as { detail: string }).detail).toMatch(detail);
}

const inDays = (days: number): string => dayInJapan(test.clock.wallMs() + days * 86_400_000);

/** What a counter sends for a card that its holder has already. */
const again = async (holder: Holder, overrides: object = {}) =>
  cardRequest(
    { signing: await makeChipKey() },
    { holderId: holder.holderId, cardId: holder.cardId, ...overrides },
  );

async function enrol(
  holder: Holder,
  operation: PhoneOperation,
  overrides: Partial<EnrolmentParts> & { deviceId: string },
): Promise<Answer<Issued>> {
  const { deviceId, ...others } = overrides;
  const parts = { ...(await enrolmentParts(api, holder, { deviceId })), operation, ...others };
  const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
  return api.post<Issued>('/phone-certificates', { deviceId, signedEnrolment });
}

describe('a plan', () => {
  it('is carried out where its hash still holds, and refused where the record has moved', async () => {
    const holder = await issueCard(api);
    const event = { event: 'card-lost', cardId: holder.cardId };
    const dry = await api.post<Changed>('/events', { ...event, dryRun: true });
    expect(dry.body.planHash).toMatch(/^[0-9a-f]{64}$/);
    const { deviceId } = await issuePhone(api, holder);
    expectRefusal(
      await api.post('/events', { ...event, planHash: dry.body.planHash }),
      409,
      'plan-changed',
      /no longer/,
    );
    expect(await standing(holder, `card:${holder.cardId}`)).toEqual(['authentication good', 'signing good']);
    const { body } = await api.post<Changed>('/events', { ...event, dryRun: true });
    const done = await api.post<Changed>('/events', { ...event, planHash: body.planHash });
    expect(done).toMatchObject({ status: 200, body: { planHash: body.planHash, dryRun: false } });
    expect(done.body.changes).toHaveLength(4);
    expect(await standing(holder, `phone:${deviceId}`)).toEqual([
      'authentication certificateHold',
      'signing certificateHold',
    ]);
  });

  it('says what is to be reissued', async () => {
    const holder = await issueCard(api);
    const { body } = await api.post<Changed>('/events', {
      event: 'moved',
      holderId: holder.holderId,
      dryRun: true,
    });
    expect(body.reissue).toEqual([{ kind: 'card-signing', mediumId: `card:${holder.cardId}` }]);
  });
});

describe('a move', () => {
  it('replaces the card’s signing certificate in one call, and the phone’s ceases with it', async () => {
    const holder = await issueCard(api);
    const { deviceId } = await issuePhone(api, holder);
    const signing = await makeChipKey();
    const body = { ...(await again(holder)), event: 'moved', requests: { signing: base64(signing.request) } };
    const answer = await api.post<Issued>('/card-certificates', body, 'moved-1');
    expect(answer.status).toBe(201);
    expect(answer.body.certificates.map(({ kind }) => kind)).toEqual(['card-signing']);
    expect(answer.body.replaced).toHaveLength(2);
    expect(await standing(holder, `card:${holder.cardId}`)).toEqual([
      'authentication good',
      'signing affiliationChanged',
      'signing good',
    ]);
    expect(await standing(holder, `phone:${deviceId}`)).toEqual([
      'authentication good',
      'signing affiliationChanged',
    ]);
    const replay = await api.post<Issued>('/card-certificates', body, 'moved-1');
    expect(replay).toMatchObject({ status: 201, replayed: true });
    expect(replay.body).toEqual(answer.body);
    // The phone's turn: signing alone, signed for with the card's new key.
    const moved = { ...holder, card: answer.body, cardSigning: signing };
    const { authentication: _, ...parts } = await enrolmentParts(api, moved, { deviceId });
    const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
    const phone = await api.post<Issued>('/phone-certificates', { deviceId, signedEnrolment });
    expect(phone.status).toBe(201);
    expect(await standing(holder, `phone:${deviceId}`)).toEqual([
      'authentication good',
      'signing affiliationChanged',
      'signing good',
    ]);
  });

  it('shows the auditor what took the place of what', async () => {
    const holder = await issueCard(api);
    const { body } = await api.post<Issued>('/card-certificates', {
      ...(await again(holder)),
      event: 'renamed',
    });
    const history = await api.get<{ entries: { change: string; cause: object }[] }>(
      `/holders/${holder.holderId}/history`,
    );
    expect(history.body.entries.filter(({ change }) => change === 'revoked')).toMatchObject([
      { cause: { event: 'renamed', partOf: `issuance:${body.issuanceId}`, cascadedFrom: null } },
    ]);
  });

  it('that fails leaves everything as it was', async () => {
    const holder = await issueCard(api);
    const request = await again(holder);
    const twice = { ...request, event: 'moved', requests: { signing: base64(holder.cardSigning.request) } };
    expectRefusal(await api.post('/card-certificates', twice), 409, 'already-certified');
    const abroad = { ...request, event: 'died' };
    expectRefusal(await api.post('/card-certificates', abroad), 400, 'bad-request', /nothing is reissued/);
    const pair = await api.post('/card-certificates', {
      ...cardRequest({ signing: await makeChipKey(), authentication: await makeChipKey() }),
      holderId: holder.holderId,
      cardId: holder.cardId,
      event: 'moved',
    });
    expectRefusal(pair, 409, 'slot-occupied', /card-authentication/);
    expect(await standing(holder, `card:${holder.cardId}`)).toEqual(['authentication good', 'signing good']);
  });
});

describe('renewal', () => {
  it('opens three months before the end, and is refused earlier', async () => {
    const holder = await issueCard(api, { cardExpiresOn: inDays(120) });
    const renewal = {
      ...cardRequest({ signing: await makeChipKey(), authentication: await makeChipKey() }),
      holderId: holder.holderId,
      cardId: `${holder.cardId}-new`,
      replacesCardId: holder.cardId,
      event: 'card-renewed',
    };
    expectRefusal(await api.post('/card-certificates', renewal), 409, 'not-due', /opens at/);
    test.clock.advance(31 * 86_400_000);
    const answer = await api.post<Issued>('/card-certificates', renewal);
    expect(answer.status).toBe(201);
    expect(answer.body.replaced).toHaveLength(2);
    expect(await standing(holder, `card:${holder.cardId}`)).toEqual([
      'authentication superseded',
      'signing superseded',
    ]);
    expect(await standing(holder, `card:${holder.cardId}-new`)).toEqual([
      'authentication good',
      'signing good',
    ]);
  });

  it('reaches to the sixth birthday, and takes the phone’s pair with the old card', async () => {
    const born = `${inDays(40).slice(4)}`;
    const basicFour = { ...cardRequest({}).basicFour, birthDate: `1990${born}` };
    const holder = await issueCard(api, { cardExpiresOn: inDays(30), basicFour });
    const { deviceId } = await issuePhone(api, holder);
    const { body } = await api.post<Issued>('/card-certificates', {
      ...cardRequest({ signing: await makeChipKey(), authentication: await makeChipKey() }),
      holderId: holder.holderId,
      cardId: `${holder.cardId}-new`,
      replacesCardId: holder.cardId,
      event: 'card-renewed',
      basicFour,
      cardExpiresOn: inDays(3600),
    });
    const year = Number(inDays(40).slice(0, 4)) + 5;
    expect(body.certificates[0]?.notAfter).toBe(`${year}${born}T14:59:59.000Z`);
    expect(await standing(holder, `phone:${deviceId}`)).toEqual([
      'authentication superseded',
      'signing superseded',
    ]);
  });

  it('of nothing that is in force is none', async () => {
    const holder = await issueCard(api, { cardExpiresOn: inDays(30) });
    await api.post('/events', { event: 'card-returned', cardId: holder.cardId });
    const renewal = await renewalOf(holder, `${holder.cardId}-new`);
    expectRefusal(await api.post('/card-certificates', renewal), 409, 'not-due', /nothing is in force/);
  });
});

const renewalOf = async (holder: Holder, cardId: string, overrides: object = {}) => ({
  ...cardRequest({ signing: await makeChipKey(), authentication: await makeChipKey() }),
  holderId: holder.holderId,
  cardId,
  replacesCardId: holder.cardId,
  event: 'card-renewed',
  ...overrides,
});

describe('an overlap', () => {
  let overlapping: TestService;
  beforeAll(async () => {
    overlapping = await startTestService({ overrides: { renewal: { overlap: '2h' } } });
  });
  afterAll(() => overlapping.close());

  it('leaves both in force for as long as it lasts', async () => {
    const holder = await issueCard(overlapping.api, { cardExpiresOn: inDays(30) });
    const renewal = await renewalOf(holder, `${holder.cardId}-new`);
    const answer = await overlapping.api.post<Issued>('/card-certificates', renewal, 'overlap-1');
    expect(answer).toMatchObject({ status: 201, body: { replaced: [{}, {}] } });
    const old = () => standing(holder, `card:${holder.cardId}`, overlapping.api);
    expect(await old()).toEqual(['authentication good', 'signing good']);
    overlapping.clock.advance(7_200_000);
    await expect.poll(old, { timeout: 15_000 }).toEqual(['authentication superseded', 'signing superseded']);
    const replay = await overlapping.api.post('/card-certificates', renewal, 'overlap-1');
    expect(replay).toMatchObject({ replayed: true, body: answer.body });
  });

  it('ends what was renewed, and nothing that was issued since', async () => {
    const through = overlapping.api;
    const holder = await issueCard(through, { cardExpiresOn: inDays(30) });
    const cardId = `${holder.cardId}-new`;
    const cardExpiresOn = inDays(3000);
    const renewed = await renewalOf(holder, cardId, { cardExpiresOn });
    const first = await through.post<Issued>('/card-certificates', renewed);
    expect(first.status).toBe(201);
    // Renewing once more is refused: what lives on for the overlap does not open the window again.
    const twice = await renewalOf(holder, cardId, { cardExpiresOn, replacesCardId: cardId });
    expectRefusal(await through.post('/card-certificates', twice), 409, 'not-due', /opens at/);
    const signing = await makeChipKey();
    const moved = cardRequest(
      { signing },
      { holderId: holder.holderId, cardId, cardExpiresOn, event: 'moved' },
    );
    const answer = await through.post<Issued>('/card-certificates', moved);
    expect(answer.status).toBe(201);
    // A phone that enrols with the new card rests on the new card.
    const onNew = { ...holder, card: answer.body, cardSigning: signing };
    const deviceId = `phone-of-${holder.holderId}`;
    const parts = await enrolmentParts(through, onNew, { deviceId });
    const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
    expect((await through.post('/phone-certificates', { deviceId, signedEnrolment })).status).toBe(201);
    overlapping.clock.advance(7_200_000);
    const old = () => standing(holder, `card:${holder.cardId}`, through);
    await expect
      .poll(old, { timeout: 15_000 })
      .toEqual(['authentication superseded', 'signing affiliationChanged']);
    expect(await standing(holder, `card:${cardId}`, through)).toEqual([
      'authentication good',
      'signing affiliationChanged',
      'signing good',
    ]);
    expect(await standing(holder, `phone:${deviceId}`, through)).toEqual([
      'authentication good',
      'signing good',
    ]);
  });
});

describe('an overlap on one card', () => {
  it('ends the renewed pair, and not what was issued onto the card since', async () => {
    const overlapping = await startTestService({ overrides: { renewal: { overlap: '2h' } } });
    try {
      const through = overlapping.api;
      const cardExpiresOn = inDays(30);
      const holder = await issueCard(through, { cardExpiresOn });
      const renewal = await renewalOf(holder, holder.cardId, { cardExpiresOn });
      expect((await through.post('/card-certificates', renewal)).status).toBe(201);
      const moved = { ...(await again(holder, { cardExpiresOn })), event: 'moved' };
      expect((await through.post('/card-certificates', moved)).status).toBe(201);
      overlapping.clock.advance(7_200_000);
      const card = () => standing(holder, `card:${holder.cardId}`, through);
      await expect
        .poll(card, { timeout: 15_000 })
        .toEqual([
          'authentication good',
          'authentication superseded',
          'signing affiliationChanged',
          'signing affiliationChanged',
          'signing good',
        ]);
    } finally {
      await overlapping.close();
    }
  });
});

describe('a phone', () => {
  it('takes the place of another in one act: the new pair in, the old pair out, its deletion ordered', async () => {
    const holder = await issueCard(api);
    const { deviceId } = await issuePhone(api, holder);
    const answer = await enrol(holder, 'change-phone', { deviceId: `${deviceId}-2`, replaces: deviceId });
    expect(answer.status).toBe(201);
    expect(answer.body.replaced).toHaveLength(2);
    expect(await standing(holder, `phone:${deviceId}`)).toEqual([
      'authentication superseded',
      'signing superseded',
    ]);
    expect(await standing(holder, `phone:${deviceId}-2`)).toEqual(['authentication good', 'signing good']);
  });

  it('stays what it was where the one in its place gets nothing', async () => {
    const holder = await issueCard(api);
    const { deviceId } = await issuePhone(api, holder);
    const used = await makeChipKey();
    await issueCard(api, { requests: (await cardOf(used)).requests });
    const failing = await enrol(holder, 'change-phone', {
      deviceId: `${deviceId}-2`,
      replaces: deviceId,
      signing: used,
    });
    expectRefusal(failing, 409, 'already-certified');
    expect(await standing(holder, `phone:${deviceId}`)).toEqual(['authentication good', 'signing good']);
  });

  it('is one on each platform, unless it takes the place of the other', async () => {
    const holder = await issueCard(api);
    const { deviceId } = await issuePhone(api, holder);
    expectRefusal(
      await enrol(holder, 'issue-to-phone', { deviceId: `${deviceId}-2` }),
      409,
      'quota-exceeded',
    );
  });

  it('does not take the place of a stranger’s or of none, refused alike', async () => {
    const [holder, stranger] = [await issueCard(api), await issueCard(api)];
    const { deviceId } = await issuePhone(api, stranger);
    const change = (replaces: string | undefined, own = 'own') =>
      enrol(holder, 'change-phone', {
        deviceId: `${own}-of-${holder.holderId}`,
        ...(replaces === undefined ? {} : { replaces }),
      });
    const [strangers, none] = [await change(deviceId), await change('nowhere')];
    expectRefusal(strangers, 404, 'not-found');
    // What another holder has is refused in the words for what there is not.
    const words = ({ body }: Answer<unknown>) => (body as { detail: string }).detail;
    expect(words(strangers)).toBe(words(none));
    expectRefusal(await change(undefined), 400, 'invalid-signed-request', /names no phone/);
    expectRefusal(await change(`own-of-${holder.holderId}`), 404, 'not-found');
    expect(await standing(stranger, `phone:${deviceId}`)).toEqual(['authentication good', 'signing good']);
  });

  it('may carry authentication alone, where the card says so in so many words', async () => {
    const holder = await issueCard(api);
    const deviceId = `phone-of-${holder.holderId}`;
    const { signing: _, ...parts } = await enrolmentParts(api, holder, { deviceId });
    const ask = async (operation: PhoneOperation) => {
      const signedEnrolment = base64(signEnrolment(enrolmentContent({ ...parts, operation }), parts));
      return api.post('/phone-certificates', { deviceId, signedEnrolment });
    };
    expectRefusal(await ask('issue-to-phone'), 400, 'invalid-signed-request', /wants a request for signing/);
    expect((await ask('issue-authentication-to-phone')).status).toBe(201);
    expect(await standing(holder, `phone:${deviceId}`)).toEqual(['authentication good']);
  });
});

describe('a phone alone', () => {
  const revocationContentType = '1.3.6.1.4.1.32473.8.2';

  /** A holder whose phone's signing key we have. */
  async function withPhoneKey() {
    const holder = await issueCard(api);
    const deviceId = `phone-of-${holder.holderId}`;
    const parts = await enrolmentParts(api, holder, { deviceId });
    const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
    const { body } = await api.post<Issued>('/phone-certificates', { deviceId, signedEnrolment });
    const certificate = derOf(pemOf(body, 'phone-signing'));
    return { holder, deviceId, key: parts.signing.privateKey, certificate, cardParts: parts };
  }
  type WithKey = Awaited<ReturnType<typeof withPhoneKey>>;

  async function give(
    of: WithKey,
    overrides: Partial<PhoneRevocation> = {},
    contentType = revocationContentType,
  ) {
    const content = encodePhoneRevocation({
      certificate: digest('sha256', of.certificate),
      challenge: await getChallenge(api),
      deviceId: of.deviceId,
      ...overrides,
    });
    const signer = { ...of.cardParts, cardSigningKey: of.key, cardSigningCertificate: of.certificate };
    const signedRevocation = base64(signEnrolment(content, signer, { contentType }));
    return api.post<Changed>('/phone-revocations', { signedRevocation });
  }

  it('gives itself up, by the signature of its own key', async () => {
    const phone = await withPhoneKey();
    const answer = await give(phone);
    expect(answer).toMatchObject({ status: 200 });
    expect(answer.body.orders).toHaveLength(2);
    expect(await standing(phone.holder, `phone:${phone.deviceId}`)).toEqual([
      'authentication cessationOfOperation',
      'signing cessationOfOperation',
    ]);
    expect(await standing(phone.holder, `card:${phone.holder.cardId}`)).toEqual([
      'authentication good',
      'signing good',
    ]);
    expectRefusal(await give(phone), 400, 'invalid-signed-request', /is revoked/);
  });

  it('may do so while it is held: it can do no more than end itself', async () => {
    const phone = await withPhoneKey();
    await api.post('/events', { event: 'phone-lost', deviceId: phone.deviceId });
    expect((await give(phone)).status).toBe(200);
  });

  it('cannot speak for another phone, twice by one challenge, or by the card’s key', async () => {
    const [phone, other] = [await withPhoneKey(), await withPhoneKey()];
    expectRefusal(await give(phone, { deviceId: other.deviceId }), 400, 'invalid-signed-request', /deviceId/);
    const hash = { certificate: digest('sha256', other.certificate) };
    expectRefusal(await give(phone, hash), 400, 'invalid-signed-request', /certificate/);
    const forged = { ...phone, key: other.key };
    expectRefusal(await give(forged), 400, 'invalid-signed-request', /signature/);
    const byCard = {
      ...phone,
      key: phone.cardParts.cardSigningKey,
      certificate: phone.cardParts.cardSigningCertificate as Buffer,
    };
    expectRefusal(
      await give(byCard),
      400,
      'invalid-signed-request',
      /none of this CA of the kinds phone-signing/,
    );
    expectRefusal(
      await give(phone, {}, '1.3.6.1.4.1.32473.8.1'),
      400,
      'invalid-signed-request',
      /eContentType/,
    );
    const challenge = await getChallenge(api);
    expect((await give(other, { challenge })).status).toBe(200);
    expectRefusal(await give(phone, { challenge }), 409, 'challenge-not-usable', /used before/);
    expect(await standing(phone.holder, `phone:${phone.deviceId}`)).toEqual([
      'authentication good',
      'signing good',
    ]);
  });
});

describe('what falls due', () => {
  it('is listed page by page, with the day from which it may be renewed', async () => {
    const holder = await issueCard(api, { cardExpiresOn: inDays(60) });
    type Page = {
      certificates: { holderId: string; kind: string; opensAt: string; notAfter: string }[];
      next: string | null;
    };
    const { body } = await api.get<Page>('/renewals?days=61');
    const own = body.certificates.filter(({ holderId }) => holderId === holder.holderId);
    expect(own.map(({ kind }) => kind).sort()).toEqual(['card-authentication', 'card-signing']);
    expect(Date.parse(own[0]?.opensAt ?? '')).toBeLessThan(test.clock.wallMs());
    expect(body.next).toBeNull();
    const soon = await api.get<Page>('/renewals?days=30');
    expect(soon.body.certificates.map(({ holderId }) => holderId)).not.toContain(holder.holderId);
    expectRefusal(await api.get('/renewals'), 400, 'bad-request');
  });
});

describe('a history', () => {
  it('shows one certificate from its issue to its end, by the API and by a command', async () => {
    const holder = await issueCard(api);
    const { phone, deviceId } = await issuePhone(api, holder);
    await api.post('/events', { event: 'phone-lost', deviceId });
    await api.post('/events', { event: 'card-returned', cardId: holder.cardId });
    const signing = phone.certificates.find(({ kind }) => kind === 'phone-signing');
    const path = `/certificates/${signing?.authority}/${signing?.serialNumber}/history`;
    type Body = { entries: { change: string; cause: { event: string; cascadedFrom: object | null } }[] };
    const { body } = await api.get<Body>(path);
    expect(body.entries.map(({ change, cause }) => `${change} ${cause.event}`)).toEqual([
      'issued issued',
      'held phone-lost',
      'revoked card-returned',
    ]);
    const main = new URL('../../ca/main.ts', import.meta.url).pathname;
    const run = (...of: string[]) =>
      execFileSync(process.execPath, [main, 'history', '--data', test.folder, ...of], {
        encoding: 'utf8',
        stdio: 'pipe',
      });
    const printed = run('--certificate', `${signing?.authority}/${signing?.serialNumber}`);
    expect(printed.trim().split('\n')).toHaveLength(3);
    expect(printed).toMatch(/held \(certificateHold\) {2}phone-lost {2}revoker [0-9a-f]{16}/);
    const lines = run('--holder', holder.holderId).trim().split('\n');
    expect(lines.filter((line) => line.includes('  reported  '))).toHaveLength(2);
    expect(lines).toHaveLength(12);
    expect(() => run('--holder', 'nobody')).toThrow('nothing is on record');
    expect(() => run()).toThrow('either --holder or --certificate');
  });
});

const cardOf = async (signing: Awaited<ReturnType<typeof makeChipKey>>) =>
  cardRequest({ signing, authentication: await makeChipKey() });

describe('a card', () => {
  it('may carry authentication alone, where the counter says so in so many words', async () => {
    const request = cardRequest(
      { authentication: await makeChipKey() },
      { holderId: 'child-1', cardId: 'child-card-1' },
    );
    expectRefusal(await api.post('/card-certificates', request), 400, 'bad-request', /authenticationOnly/);
    const answer = await api.post<Issued>('/card-certificates', { ...request, authenticationOnly: true });
    expect(answer).toMatchObject({ status: 201 });
    expect(answer.body.certificates.map(({ kind }) => kind)).toEqual(['card-authentication']);
  });
});

describe('a switch', () => {
  const turn = (name: string, body: object) => api.post(`/switches/${name}`, body);

  it('closes a function with a clear answer, and opens it again', async () => {
    const holder = await issueCard(api);
    expect((await turn('phone-enrolment', { state: 'closed', note: 'maintenance until 18:00' })).status).toBe(
      200,
    );
    const refused = await enrol(holder, 'issue-to-phone', { deviceId: `phone-of-${holder.holderId}` });
    expectRefusal(refused, 503, 'function-closed', /phone-enrolment is closed: maintenance until 18:00/);
    const { body } = await api.get<{ switches: object[] }>('/switches');
    expect(body.switches).toContainEqual(
      expect.objectContaining({ name: 'phone-enrolment', state: 'closed', note: 'maintenance until 18:00' }),
    );
    await turn('phone-enrolment', { state: 'open' });
    expect((await issuePhone(api, holder)).phone.certificates).toHaveLength(2);
  });

  it('limits a function to so many acts a minute', async () => {
    await turn('card-issuing', { state: 'limited', perMinute: 1 });
    const answers = [];
    for (let i = 0; i < 3; i++) {
      const request = cardRequest(
        { signing: await makeChipKey(), authentication: await makeChipKey() },
        { holderId: `limited-${i}`, cardId: `limited-${i}` },
      );
      answers.push((await api.post('/card-certificates', request)).status);
    }
    await turn('card-issuing', { state: 'open' });
    expect(answers.filter((status) => status === 201).length).toBeLessThan(3);
    expect(answers).toContain(503);
  });

  it('closes releases, and never a revocation', async () => {
    const holder = await issueCard(api);
    const { deviceId } = await issuePhone(api, holder);
    await api.post('/events', { event: 'phone-lost', deviceId });
    await turn('release', { state: 'closed' });
    expectRefusal(await api.post('/events', { event: 'phone-found', deviceId }), 503, 'function-closed');
    expect((await api.post('/events', { event: 'phone-given-up', deviceId })).status).toBe(200);
    await turn('release', { state: 'open' });
    for (const name of ['revocation', 'hold']) {
      expectRefusal(await turn(name, { state: 'closed' }), 400, 'bad-request');
    }
    expectRefusal(await turn('release', { state: 'limited' }), 400, 'bad-request', /perMinute/);
  });

  it('is an administrator’s', async () => {
    const { client } = await addClient(test, 'not-admin', { roles: ['issuer', 'revoker'] });
    expectRefusal(await client.post('/switches/release', { state: 'closed' }), 403, 'forbidden');
    await client.close();
  });
});
