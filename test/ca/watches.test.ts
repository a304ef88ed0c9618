import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, CaClient, Issued } from '../../ca/client/client.ts';
import { encodeReceipt } from '../../ca/request/receipt.ts';
import { digest } from '../../core/runtime/bytes.ts';
import {
  base64,
  cardRequest,
  derOf,
  enrolmentContent,
  makeChipKey,
  pemOf,
  signEnrolment,
} from '../support/actors.ts';
import {
  addClient,
  dayInJapan,
  enrolmentParts,
  type Holder,
  issueCard,
  issuePhone,
  removeScratch,
  setPreferences,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import {
  authenticationOf,
  type HolderKey,
  recordVerifier,
  signedBy,
  signingOf,
  signReceipt,
} from '../support/verifiers.ts';

// What verifiers learn of certificates that they have received, and what they are notified of.

let test: TestService;
type Client = { client: CaClient; verifierId: string };
let [bank, clinic, other] = [{}, {}, {}] as [Client, Client, Client];

beforeAll(async () => {
  test = await startTestService({
    overrides: { verifiers: { inVain: 3, usesPerHolder: 2 }, activation: { phone: 'at-once' } },
  });
  const make = async (name: string, facts: object = {}): Promise<Client> => {
    const { client } = await addClient(test, name, { roles: ['verifier'] });
    const credentials = [{ type: 'client', client: name }];
    const { verifierId } = await recordVerifier(test.api, { credentials, ...facts });
    return { client, verifierId };
  };
  bank = await make('bank');
  clinic = await make('clinic', { kinds: ['authentication'] });
  other = await make('other', { watchesMax: 2 });
});
afterAll(async () => {
  await test?.close();
  removeScratch();
});

const nothing = { status: 404, body: { title: 'not-found', detail: 'nothing is given' } };
const named = (issued: Issued, kind: string) => {
  const found = issued.certificates.find((each) => each.kind === kind);
  return { authority: found?.authority, serialNumber: found?.serialNumber };
};

interface Linked {
  readonly authority: string;
  readonly serialNumber: string;
  readonly detail?: string;
}
const link = (by: Client, key: HolderKey, wanted: 'pair' | 'successor'): Promise<Answer<Linked>> =>
  by.client.post<Linked>('/certificate-links', { receipt: signReceipt(key, by.verifierId), link: wanted });

async function move(holder: Holder): Promise<Holder> {
  await test.api.post('/events', { event: 'moved', holderId: holder.holderId });
  const cardSigning = await makeChipKey();
  const { holderId, cardId } = holder;
  const answer = await test.api.post<Issued>(
    '/card-certificates',
    cardRequest({ signing: cardSigning }, { holderId, cardId }),
  );
  if (answer.status !== 201) throw new Error(JSON.stringify(answer.body));
  return { ...holder, card: answer.body, cardSigning };
}

describe('a link', () => {
  it('tells a verifier of both kinds the other certificate of one that it has received, and no other verifier', async () => {
    const holder = await issueCard(test.api);
    const [signing, authentication] = [signingOf(holder), authenticationOf(holder)];
    expect((await link(bank, signing, 'pair')).body).toMatchObject(named(holder.card, 'card-authentication'));
    expect((await link(bank, authentication, 'pair')).body).toMatchObject(named(holder.card, 'card-signing'));
    expect(await link(clinic, authentication, 'pair')).toMatchObject({ status: 403 });
    // Received by another.
    const receipt = signReceipt(signing, bank.verifierId);
    const stolen = await other.client.post('/certificate-links', { receipt, link: 'pair' });
    expect(stolen).toMatchObject({ status: 400, body: { title: 'invalid-signed-request' } });
  });

  it('tells the successor, one step a question, and only one that is good now', async () => {
    const first = await issueCard(test.api);
    expect(await link(bank, signingOf(first), 'successor')).toMatchObject(nothing);
    const second = await move(first);
    expect((await link(bank, signingOf(first), 'successor')).body).toMatchObject(
      named(second.card, 'card-signing'),
    );
    const third = await move(second);
    // What came next is good no more; and it was not received.
    expect(await link(bank, signingOf(first), 'successor')).toMatchObject(nothing);
    expect((await link(bank, signingOf(second), 'successor')).body).toMatchObject(
      named(third.card, 'card-signing'),
    );
    expect(await link(clinic, signingOf(second), 'successor')).toMatchObject({ status: 403 });
  });

  it('tells the phone that took another’s place, and not a second phone', async () => {
    const holder = await issueCard(test.api);
    const parts = await enrolmentParts(test.api, holder, { deviceId: 'old-phone' });
    const enrol = async (deviceId: string, own: typeof parts, more: object) =>
      test.api.post<Issued>('/phone-certificates', {
        deviceId,
        signedEnrolment: base64(signEnrolment(enrolmentContent({ ...own, ...more }), own)),
      });
    const old = await enrol('old-phone', parts, {});
    const key = {
      privateKey: parts.signing.privateKey,
      certificate: derOf(pemOf(old.body, 'phone-signing')),
    };
    const ios = await enrolmentParts(test.api, holder, { deviceId: 'second-phone', platform: 'ios' });
    expect((await enrol('second-phone', ios, {})).status).toBe(201);
    expect(await link(bank, key, 'successor')).toMatchObject(nothing);
    const next = await enrolmentParts(test.api, holder, { deviceId: 'new-phone' });
    const changed = await enrol('new-phone', next, { operation: 'change-phone', replaces: 'old-phone' });
    expect(changed.status).toBe(201);
    expect((await link(bank, key, 'successor')).body).toMatchObject(named(changed.body, 'phone-signing'));
  });

  it('tells nothing of a protected holder, of one who has died, and by a key that has leaked', async () => {
    const holder = await issueCard(test.api);
    await test.api.post(`/holders/${holder.holderId}/withholding`, { withheld: true });
    expect(await link(bank, signingOf(holder), 'pair')).toMatchObject(nothing);
    const dead = await issueCard(test.api);
    await test.api.post('/events', { event: 'died', holderId: dead.holderId });
    expect(await link(bank, signingOf(dead), 'pair')).toMatchObject(nothing);
    const leaked = await issueCard(test.api);
    const { authority, serialNumber } = named(leaked.card, 'card-signing');
    await test.api.post(`/certificates/${authority}/${serialNumber}/changes`, {
      ...{ action: 'revoke', reason: 'keyCompromise' },
    });
    expect(await link(bank, signingOf(leaked), 'pair')).toMatchObject(nothing);
  });

  it.each([
    ['another content type', (key: HolderKey) => signedBy(key, receiptOf(key), '1.3.6.1.4.1.32473.8.8')],
    ['a document', (key: HolderKey) => signedBy(key, Buffer.from('I agree'), '1.2.840.113549.1.7.1')],
    [
      'a key of its own',
      (key: HolderKey) => signReceipt({ ...key, privateKey: stranger.privateKey }, bank.verifierId),
    ],
    ['octets behind it', (key: HolderKey) => `${signReceipt(key, bank.verifierId).replace(/=+$/, '')}AAAA`],
  ])('is not told for %s', async (_what, receiptBy) => {
    stranger ??= await makeChipKey();
    const receipt = receiptBy(signingOf(await issueCard(test.api)));
    const answer = await bank.client.post<{ title: string }>('/certificate-links', { receipt, link: 'pair' });
    expect([answer.status, answer.body.title]).toEqual([400, 'invalid-signed-request']);
  });

  it('asked for in vain again and again is an alarm', async () => {
    const holder = await issueCard(test.api);
    for (let i = 0; i < 4; i += 1)
      expect(await link(other, signingOf(holder), 'successor')).toMatchObject(nothing);
    const alarms = test
      .log()
      .split('\n')
      .filter((line) => line.includes('asks in vain'));
    expect(alarms.filter((line) => line.includes(other.verifierId))).toHaveLength(1);
  });
});

let stranger: Awaited<ReturnType<typeof makeChipKey>>;
const receiptOf = (key: HolderKey) =>
  encodeReceipt({
    ...{
      certificate: digest('sha256', key.certificate),
      challenge: randomBytes(16),
      verifier: bank.verifierId,
    },
  });

describe('a watch', () => {
  interface Notice {
    readonly messageId: string;
    readonly occasion: string;
    readonly serialNumber: string;
    readonly reference: string | null;
  }
  const notices = async (by: Client, received: readonly string[] = []): Promise<Notice[]> =>
    (await by.client.post<{ notices: Notice[] }>('/verifier-notices', { received })).body.notices;
  const watchMany = (by: Client, keys: readonly HolderKey[], reference = 'id-1') =>
    by.client.post<{
      results: { watch: { serialNumber: string } | null; problem: { title: string } | null }[];
    }>('/watches', { watches: keys.map((key) => ({ receipt: signReceipt(key, by.verifierId), reference })) });

  it('notifies of revocation, expiry and succession, until the verifier has received it; and names no successor', async () => {
    const holder = await issueCard(test.api);
    const { serialNumber } = named(holder.card, 'card-signing');
    const { body } = await watchMany(bank, [signingOf(holder), authenticationOf(holder)]);
    expect(body.results.map(({ problem }) => problem)).toEqual([null, null]);
    const moved = await move(holder);
    const got = await notices(bank);
    expect(got).toMatchObject([
      { occasion: 'revoked', serialNumber, reference: 'id-1' },
      { occasion: 'succeeded', serialNumber, reference: 'id-1' },
    ]);
    expect(JSON.stringify(got)).not.toContain(named(moved.card, 'card-signing').serialNumber);
    expect(await notices(bank)).toHaveLength(2);
    // Another cannot take them away.
    expect(
      await notices(
        clinic,
        got.map(({ messageId }) => messageId),
      ),
    ).toEqual([]);
    expect(await notices(bank, [got[0]?.messageId ?? ''])).toMatchObject([{ occasion: 'succeeded' }]);
    expect(
      await notices(
        bank,
        got.map(({ messageId }) => messageId),
      ),
    ).toEqual([]);
  });

  it('notifies once of expiry, and not of what was revoked before', async () => {
    const cardExpiresOn = dayInJapan(test.clock.wallMs() + 20 * 86_400_000);
    const holder = await issueCard(test.api, { cardExpiresOn });
    await watchMany(bank, [signingOf(holder), authenticationOf(holder)]);
    await test.api.post('/events', { event: 'moved', holderId: holder.holderId });
    const before = await notices(bank);
    test.clock.advance(22 * 86_400_000);
    for (let i = 0; i < 2; i += 1) await test.service.ca.watches.noteExpired();
    const last = await notices(
      bank,
      before.map(({ messageId }) => messageId),
    );
    const ended = named(holder.card, 'card-authentication').serialNumber;
    expect(last).toMatchObject([{ occasion: 'expired', serialNumber: ended }]);
    await notices(
      bank,
      last.map(({ messageId }) => messageId),
    );
  });

  it('is listed and ended, and counts no more then', async () => {
    const holders = [await issueCard(test.api), await issueCard(test.api), await issueCard(test.api)];
    const { body } = await watchMany(other, holders.map(signingOf));
    expect(body.results.map(({ problem }) => problem?.title ?? null)).toEqual([null, null, 'quota-exceeded']);
    const list = async () => (await other.client.get<{ watches: Linked[] }>('/watches')).body.watches;
    const [first, ...rest] = await list();
    expect(rest).toHaveLength(1);
    const path = `/certificates/${first?.authority}/${first?.serialNumber}/watches`;
    expect((await other.client.post(`${path}/end`, undefined)).status).toBe(200);
    expect((await other.client.post(`${path}/end`, undefined)).status).toBe(404);
    expect((await bank.client.post(`${path}/end`, undefined)).status).toBe(404);
    expect(await list()).toEqual(rest);
    const again = await watchMany(other, holders.map(signingOf));
    expect(again.body.results.filter(({ problem }) => problem === null)).toHaveLength(2);
    for (const { holderId } of holders) await test.api.post('/events', { event: 'died', holderId });
    expect(await notices(other)).toHaveLength(2);
  });

  it('is not had by a signature under a document, for another verifier, or for another certificate', async () => {
    const [holder, another] = [await issueCard(test.api), await issueCard(test.api)];
    const key = signingOf(holder);
    const { authority, serialNumber } = named(another.card, 'card-signing');
    const watch = (receipt: string) =>
      bank.client.post<{ title: string }>(`/certificates/${authority}/${serialNumber}/watches`, { receipt });
    for (const receipt of [
      signReceipt(key, bank.verifierId),
      signReceipt(signingOf(another), clinic.verifierId),
      signedBy(signingOf(another), Buffer.from('I agree'), '1.2.840.113549.1.7.1'),
    ])
      expect(await watch(receipt)).toMatchObject({ status: 400, body: { title: 'invalid-signed-request' } });
    expect((await watch(signReceipt(signingOf(another), bank.verifierId))).status).toBe(200);
  });

  it('is of certificates of the verifier’s kinds alone, also once they are fewer', async () => {
    const holder = await issueCard(test.api);
    const refused = await watchMany(clinic, [signingOf(holder)]);
    expect(refused.body.results).toMatchObject([{ watch: null, problem: { title: 'forbidden' } }]);
    const { client } = await addClient(test, 'narrowed', { roles: ['verifier'] });
    const credentials = [{ type: 'client', client: 'narrowed' }];
    const { verifierId } = await recordVerifier(test.api, { credentials });
    await watchMany({ client, verifierId }, [signingOf(holder)]);
    const facts = { name: 'Narrowed', type: 'private', kinds: ['authentication'], purposes: [] };
    await test.api.post(`/verifiers/${verifierId}`, facts);
    await test.api.post('/events', { event: 'moved', holderId: holder.holderId });
    expect(await notices({ client, verifierId })).toEqual([]);
    await client.close();
  });

  it('of a phone tells of the one that took its place', async () => {
    const holder = await issueCard(test.api);
    const parts = await enrolmentParts(test.api, holder, { deviceId: 'watched-phone' });
    const enrol = (deviceId: string, own: typeof parts, more: object) =>
      test.api.post<Issued>('/phone-certificates', {
        deviceId,
        signedEnrolment: base64(signEnrolment(enrolmentContent({ ...own, ...more }), own)),
      });
    const old = await enrol('watched-phone', parts, {});
    const key = {
      privateKey: parts.signing.privateKey,
      certificate: derOf(pemOf(old.body, 'phone-signing')),
    };
    await watchMany(bank, [key], 'phone');
    const next = await enrolmentParts(test.api, holder, { deviceId: 'next-phone' });
    await enrol('next-phone', next, { operation: 'change-phone', replaces: 'watched-phone' });
    const got = (await notices(bank)).filter(({ reference }) => reference === 'phone');
    expect(got.map(({ occasion }) => occasion).sort()).toEqual(['revoked', 'succeeded']);
    await notices(
      bank,
      got.map(({ messageId }) => messageId),
    );
  });

  it('of a protected holder tells of no succession', async () => {
    const holder = await issueCard(test.api);
    await watchMany(bank, [signingOf(holder)]);
    await test.api.post(`/holders/${holder.holderId}/withholding`, { withheld: true });
    await move(holder);
    expect(await notices(bank)).toMatchObject([{ occasion: 'revoked' }]);
  });
});

describe('a use that a verifier reports', () => {
  it('is bound to its certificate on record, and so often a day for one holder', async () => {
    const holder = await issueCard(test.api);
    const { phone } = await issuePhone(test.api, holder);
    await setPreferences(test.api, holder, { occasions: ['used'] });
    const statuses: number[] = [];
    for (const kind of ['card-authentication', 'phone-authentication', 'card-authentication']) {
      const { authority, serialNumber } = named(kind.startsWith('phone') ? phone : holder.card, kind);
      const path = `/certificates/${authority}/${serialNumber}/uses`;
      statuses.push((await clinic.client.post(path, undefined)).status);
    }
    // No answer says whose certificates are one person's; the holder is notified no more.
    expect(statuses).toEqual([200, 200, 200]);
    type Messages = { messages: { occasion: string; serialNumber: string }[] };
    const { body } = await test.api.get<Messages>('/outbox?state=waiting');
    const used = body.messages
      .filter(({ occasion }) => occasion === 'used')
      .map(({ serialNumber }) => serialNumber);
    expect(used).toEqual([
      named(holder.card, 'card-authentication').serialNumber,
      named(phone, 'phone-authentication').serialNumber,
    ]);
    const { authority, serialNumber } = named(holder.card, 'card-signing');
    const other = await clinic.client.post(`/certificates/${authority}/${serialNumber}/uses`, undefined);
    expect(other.status).toBe(403);
  });
});
