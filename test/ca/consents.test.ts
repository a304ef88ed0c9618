import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describedRoutes } from '../../ca/api/openapi.ts';
import type { Answer, CaClient, Issued } from '../../ca/client/client.ts';
import { encodeAccessQuery } from '../../ca/request/access-query.ts';
import { encodeConsent, encodeConsentWithdrawal, type SignedConsent } from '../../ca/request/consent.ts';
import { endOfConsent } from '../../core/model/consent.ts';
import { digest } from '../../core/runtime/bytes.ts';
import { base64, cardRequest, makeChipKey, until } from '../support/actors.ts';
import {
  addClient,
  getChallenge,
  type Holder,
  issueCard,
  issuePhone,
  removeScratch,
  setPreferences,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { Receiver } from '../support/tsm.ts';
import {
  authenticationOf,
  type HolderKey,
  recordVerifier,
  type ShownVerifier,
  signedBy,
  signingOf,
} from '../support/verifiers.ts';

// The latest basic four by consent: what is given, to whom, and all that is not.

const [shibuya, nakano] = ['13113', '13114'];
const municipalities = [
  { code: shibuya, prefecture: 'Tokyo-to', municipality: 'Shibuya-ku' },
  { code: nakano, prefecture: 'Tokyo-to', municipality: 'Nakano-ku' },
];
const basicFour = {
  ...{ name: '番号　花子', address: '東京都渋谷区例町一丁目１番地' },
  ...{ birthDate: '1990-04-01', sex: 'female' },
};
const newAddress = '東京都中野区隠町九丁目９番地';

let test: TestService;
let portal: Receiver;
let platform: { client: CaClient; verifier: ShownVerifier };
let [shop, otherShop, bank] = [{}, {}, {}] as [ShownVerifier, ShownVerifier, ShownVerifier];
let bankClient: CaClient;

beforeAll(async () => {
  portal = await Receiver.start();
  const notices = { portal: portal.url, towns: portal.url };
  test = await startTestService({ overrides: { municipalities, notices } as Record<string, object> });
  portal.trust(test.folder);
  const named = async (name: string) => {
    const { client } = await addClient(test, name, { roles: ['verifier'] });
    return { client, credentials: [{ type: 'client', client: name }] };
  };
  const { client, credentials } = await named('platform');
  platform = { client, verifier: await recordVerifier(test.api, { type: 'platform', credentials }) };
  const behind = { type: 'provider', platformId: platform.verifier.verifierId };
  shop = await recordVerifier(test.api, { ...behind, name: 'Shop' });
  otherShop = await recordVerifier(test.api, { ...behind, name: 'Other shop' });
  const own = await named('bank');
  bank = await recordVerifier(test.api, { credentials: own.credentials, url: portal.url });
  bankClient = own.client;
});
afterAll(async () => {
  await test?.close();
  await portal?.stop();
  removeScratch();
});

interface Given {
  readonly consentId: string;
  readonly detail?: string;
}

async function challengeFor(client: CaClient): Promise<Uint8Array> {
  const { body } = await client.post<{ challenge: string }>('/consent-challenges', undefined);
  return Buffer.from(body.challenge, 'base64');
}

/** What a holder signs for the platform and one of its services; all of it can be overridden. */
async function signConsent(
  by: HolderKey,
  wanted: Partial<SignedConsent> = {},
  client = platform.client,
): Promise<string> {
  const content = encodeConsent({
    ...{ certificate: digest('sha256', by.certificate), challenge: await challengeFor(client) },
    ...{ verifier: platform.verifier.verifierId, service: shop.verifierId, items: ['name', 'address'] },
    ...{ purpose: 'delivery', text: '最新の住所をお店に提供することに同意します。' },
    ...wanted,
  });
  return signedBy(by, content, '1.3.6.1.4.1.32473.8.8');
}

const consent = async (by: HolderKey, wanted: Partial<SignedConsent> = {}): Promise<Answer<Given>> =>
  platform.client.post<Given>('/consents', { signedConsent: await signConsent(by, wanted) });

interface Latest {
  readonly items: Record<string, string>;
}
const ask = (
  certificate: Uint8Array,
  { client = platform.client, serviceId = shop.verifierId as string | null } = {},
): Promise<Answer<Latest>> =>
  client.post<Latest>('/latest-basic-four', {
    certificate: base64(certificate),
    ...(serviceId === null ? {} : { serviceId }),
  });

/** The one answer of everything that is not given. */
const nothing = { status: 404, body: { title: 'not-found', detail: 'nothing is given' } };

/** The register reports a move, and the new town issues onto the same card. */
async function move(holder: Holder, address = newAddress): Promise<Holder> {
  await test.api.post('/events', { event: 'moved', holderId: holder.holderId });
  return reissue(holder, address);
}

async function reissue({ holderId, cardId, ...holder }: Holder, address = newAddress): Promise<Holder> {
  const cardSigning = await makeChipKey();
  const at = { holderId, cardId, deskCode: 'DESK00002', municipalityCode: nakano };
  const body = cardRequest({ signing: cardSigning }, { ...at, basicFour: { ...basicFour, address } });
  const answer = await test.api.post<Issued>('/card-certificates', body);
  if (answer.status !== 201) throw new Error(`moving: ${JSON.stringify(answer.body)}`);
  return { ...holder, holderId, cardId, card: answer.body, cardSigning };
}

async function withdraw(by: HolderKey, consentId: string, client = platform.client): Promise<Answer<Given>> {
  const content = encodeConsentWithdrawal({
    ...{ certificate: digest('sha256', by.certificate), challenge: await challengeFor(client) },
    consentId,
  });
  const signedWithdrawal = signedBy(by, content, '1.3.6.1.4.1.32473.8.9');
  return client.post<Given>(`/consents/${consentId}/withdrawal`, { signedWithdrawal });
}

describe('the latest basic four', () => {
  it('are given by a certificate of before: the consented items of the present one, and no others', async () => {
    const holder = await issueCard(test.api);
    const { status, body } = await consent(signingOf(holder));
    expect([status, body]).toMatchObject([
      201,
      { items: ['name', 'address'], purpose: 'delivery', serviceId: shop.verifierId, withdrawnAt: null },
    ]);
    const moved = await move(holder);
    const before = signingOf(holder).certificate;
    expect(await ask(before)).toMatchObject({
      ...{ status: 200, body: { items: { name: basicFour.name, address: newAddress } } },
    });
    expect(Object.keys((await ask(before)).body.items)).toEqual(['name', 'address']);
    // Also once that one has ended in its turn.
    await move(moved, '東京都中野区三番地');
    expect((await ask(before)).body.items.address).toBe('東京都中野区三番地');
  });

  it('have the form of the register, for each item', async () => {
    const holder = await issueCard(test.api);
    await consent(signingOf(holder), { items: ['birthDate', 'sex'] });
    await move(holder);
    expect((await ask(signingOf(holder).certificate)).body.items).toEqual({
      birthDate: '1990-04-01',
      sex: 'female',
    });
  });

  it('are given for that service alone: not for another of the platform, nor to another verifier', async () => {
    const holder = await issueCard(test.api);
    await consent(signingOf(holder));
    await move(holder);
    const { certificate } = signingOf(holder);
    expect((await ask(certificate)).status).toBe(200);
    expect(await ask(certificate, { serviceId: otherShop.verifierId })).toMatchObject(nothing);
    expect(await ask(certificate, { serviceId: null })).toMatchObject(nothing);
    expect(await ask(certificate, { client: bankClient })).toMatchObject(nothing);
    expect(await ask(certificate, { client: bankClient, serviceId: null })).toMatchObject(nothing);
    expect(await ask(certificate, { serviceId: 'none' })).toMatchObject(nothing);
  });

  it('are given to who has received the certificate, and shows all of it', async () => {
    const [holder, other] = [await issueCard(test.api), await issueCard(test.api)];
    await consent(signingOf(holder));
    await move(holder);
    const { certificate } = signingOf(holder);
    const altered = Buffer.from(certificate);
    altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1;
    expect(await ask(altered)).toMatchObject(nothing);
    expect(await ask(signingOf(other).certificate)).toMatchObject(nothing);
    expect(await ask(authenticationOf(holder).certificate)).toMatchObject(nothing);
    expect((await ask(certificate.subarray(0, 100))).status).toBe(400);
  });

  it('are not given while there is no good signing certificate, or the holder is closed: one answer for all', async () => {
    const holder = await issueCard(test.api);
    await consent(signingOf(holder));
    const { certificate } = signingOf(holder);
    expect((await ask(certificate)).status).toBe(200);
    await test.api.post('/events', { event: 'moved', holderId: holder.holderId });
    expect(await ask(certificate)).toMatchObject(nothing);
    const again = await reissue(holder);
    expect((await ask(certificate)).status).toBe(200);
    await test.api.post('/events', { event: 'card-lost', cardId: again.cardId });
    expect(await ask(certificate)).toMatchObject(nothing);
    const dead = await issueCard(test.api);
    await consent(signingOf(dead));
    await test.api.post('/events', { event: 'died', holderId: dead.holderId });
    const answer = await ask(signingOf(dead).certificate);
    expect(answer).toMatchObject(nothing);
    expect(Object.keys(answer.body)).toEqual(Object.keys((await ask(certificate)).body));
  });

  it('are not given to a verifier, nor for a service, that is suspended', async () => {
    const holder = await issueCard(test.api);
    await consent(signingOf(holder));
    const { certificate } = signingOf(holder);
    await test.api.post(`/verifiers/${shop.verifierId}/suspension`, undefined);
    expect(await ask(certificate)).toMatchObject(nothing);
    await test.api.post(`/verifiers/${shop.verifierId}/resumption`, undefined);
    await test.api.post(`/verifiers/${platform.verifier.verifierId}/suspension`, undefined);
    expect((await ask(certificate)).status).toBe(403);
    await test.api.post(`/verifiers/${platform.verifier.verifierId}/resumption`, undefined);
    expect((await ask(certificate)).status).toBe(200);
  });

  it('are an access that the holder sees, with who got them', async () => {
    const holder = await issueCard(test.api);
    const { body } = await consent(signingOf(holder));
    await ask(signingOf(holder).certificate);
    const content = encodeAccessQuery({
      ...{
        certificate: digest('sha256', signingOf(holder).certificate),
        challenge: await getChallenge(test.api),
      },
      holderId: holder.holderId,
    });
    const query = signedBy(signingOf(holder), content, '1.3.6.1.4.1.32473.8.7');
    const seen = await test.api.send<{ accesses: object[] }>(
      ...([
        'GET',
        `/holders/${holder.holderId}/accesses`,
        undefined,
        { 'warifu-signed-query': query },
      ] as const),
    );
    expect(seen.body.accesses).toContainEqual(
      expect.objectContaining({ kind: 'verifier', name: 'A Bank', route: 'POST /latest-basic-four' }),
    );
    const listed = await test.api.get<{ consents: Given[] }>(`/holders/${holder.holderId}/consents`);
    expect(listed.body.consents).toMatchObject([{ consentId: body.consentId, verifier: 'A Bank' }]);
  });

  it('are asked for so often a day', async () => {
    const name = 'clinic';
    const { client } = await addClient(test, name, { roles: ['verifier'] });
    await recordVerifier(test.api, { questionsPerDay: 3, credentials: [{ type: 'client', client: name }] });
    const { certificate } = signingOf(await issueCard(test.api));
    const statuses: number[] = [];
    for (let i = 0; i < 4; i += 1)
      statuses.push((await ask(certificate, { client, serviceId: null })).status);
    expect(statuses).toEqual([404, 404, 404, 429]);
    await client.close();
  });
});

describe('a consent', () => {
  it('ends ten years after the next day, with that day’s last second in Japan', () => {
    const at = (text: string) => Date.parse(`${text}+09:00`);
    expect(endOfConsent(at('2026-11-25T23:59:59'), 10)).toBe(at('2036-11-25T23:59:59'));
    expect(endOfConsent(at('2026-11-25T00:00:00'), 10)).toBe(at('2036-11-25T23:59:59'));
    // The next day is one that no common year has.
    expect(endOfConsent(at('2028-02-28T12:00:00'), 10)).toBe(at('2038-02-28T23:59:59'));
    expect(endOfConsent(at('2027-12-31T12:00:00'), 10)).toBe(at('2037-12-31T23:59:59'));
  });

  it('outlives the certificate that signed it, unless its key is declared leaked from before, or without a date', async () => {
    const leak = async (invalidityDate: string | undefined) => {
      const holder = await issueCard(test.api);
      await consent(signingOf(holder));
      const [signing] = holder.card.certificates;
      const path = `/certificates/${signing?.authority}/${signing?.serialNumber}/changes`;
      const change = {
        action: 'revoke',
        reason: 'keyCompromise',
        ...(invalidityDate ? { invalidityDate } : {}),
      };
      const changed = await test.api.post(path, change);
      expect(changed.status).toBe(200);
      await reissue(holder);
      return (await ask(signingOf(holder).certificate)).status;
    };
    const yesterday = new Date(test.clock.wallMs() - 86_400_000).toISOString();
    expect(await leak(yesterday)).toBe(404);
    expect(await leak(undefined)).toBe(404);
    // A key that is blocked later, long after its certificate had ended.
    const holder = await issueCard(test.api);
    await consent(signingOf(holder));
    await move(holder);
    expect((await ask(signingOf(holder).certificate)).status).toBe(200);
    const { publicKey: spki } = new X509Certificate(signingOf(holder).certificate);
    const publicKey = base64(spki.export({ format: 'der', type: 'spki' }));
    expect((await test.api.post('/blocked-keys', { publicKey })).status).toBe(200);
    expect((await ask(signingOf(holder).certificate)).status).toBe(404);
  });

  it('is withdrawn by any key of the holder’s, also of a card that is held and while no signing certificate exists', async () => {
    const holder = await issueCard(test.api);
    const first = await consent(signingOf(holder));
    await test.api.post('/events', { event: 'moved', holderId: holder.holderId });
    expect((await withdraw(authenticationOf(holder), first.body.consentId)).body).toMatchObject({
      withdrawnBy: 'holder',
      withdrawnAt: expect.any(String),
    });
    const again = await reissue(holder);
    expect(await ask(signingOf(holder).certificate)).toMatchObject(nothing);
    const second = await consent(signingOf(again));
    await test.api.post('/events', { event: 'card-lost', cardId: holder.cardId });
    expect((await withdraw(authenticationOf(holder), second.body.consentId)).status).toBe(200);
  });

  it('is withdrawn by the phone’s key, and not by another holder’s', async () => {
    const [holder, other] = [await issueCard(test.api), await issueCard(test.api)];
    await issuePhone(test.api, holder);
    const { body } = await consent(signingOf(holder));
    expect(await withdraw(authenticationOf(other), body.consentId)).toMatchObject({ status: 404 });
    expect((await ask(signingOf(holder).certificate)).status).toBe(200);
  });

  it('is withdrawn at a desk of the holder’s municipality, and at no other', async () => {
    const holder = await issueCard(test.api);
    const { body } = await consent(signingOf(holder));
    const binding = (code: string) => ({ roles: ['revoker'], municipalities: [code] });
    const { client: own } = await addClient(test, 'own-town', binding(shibuya));
    const { client: other } = await addClient(test, 'other-town', binding(nakano));
    const path = `/consents/${body.consentId}/withdrawal`;
    expect((await other.post(path, {})).status).toBe(404);
    expect((await ask(signingOf(holder).certificate)).status).toBe(200);
    expect(await own.post(path, {})).toMatchObject({
      status: 200,
      body: { withdrawnAt: expect.any(String) },
    });
    expect(await ask(signingOf(holder).certificate)).toMatchObject(nothing);
    await own.close();
    await other.close();
  });

  it('is refused for another verifier, an unknown service, a used challenge, and by a key for authentication', async () => {
    const holder = await issueCard(test.api);
    const by = signingOf(holder);
    const title = async (signedConsent: string, client = platform.client) => {
      const answer = await client.post<{ title: string }>('/consents', { signedConsent });
      return [answer.status, answer.body.title];
    };
    const forBank = { verifier: bank.verifierId, service: bank.verifierId };
    expect(await title(await signConsent(by, forBank))).toEqual([400, 'invalid-signed-request']);
    expect(await title(await signConsent(by, { service: bank.verifierId }))).toEqual([403, 'forbidden']);
    expect(await title(await signConsent(by, { service: 'none' }))).toEqual([403, 'forbidden']);
    const signed = await signConsent(by);
    // A challenge that was given to another.
    expect(await title(signed, bankClient)).toEqual([409, 'challenge-not-usable']);
    expect((await title(signed))[0]).toBe(201);
    expect(await title(signed)).toEqual([409, 'challenge-not-usable']);
    expect(await title(await signConsent(authenticationOf(holder)))).toEqual([400, 'invalid-signed-request']);
    expect(await title(await signConsent(by, { items: [] }))).toEqual([400, 'invalid-signed-request']);
    expect(await title(await signConsent(by, { text: ' ' }))).toEqual([400, 'invalid-signed-request']);
    await test.api.post('/events', { event: 'moved', holderId: holder.holderId });
    expect(await title(await signConsent(by))).toEqual([400, 'invalid-signed-request']);
  });
});

describe('a protected holder who has moved', () => {
  it('has a new address that no route tells those who had the old one, and no notice', async () => {
    const holder = await issueCard(test.api);
    await setPreferences(test.api, holder, { occasions: ['issued', 'revoked', 'held', 'released', 'used'] });
    await consent(signingOf(holder));
    const { client: town } = await addClient(test, 'protecting-town', {
      ...{ roles: ['revoker'], municipalities: [shibuya] },
    } as { roles: string[] });
    const { client: stranger } = await addClient(test, 'old-town', {
      ...{ roles: ['revoker', 'reader', 'identity-reader'], municipalities: [shibuya] },
    } as { roles: string[] });
    const withheld = await town.post(`/holders/${holder.holderId}/withholding`, { withheld: true });
    expect(withheld).toMatchObject({ status: 200, body: { withheldAt: expect.any(String) } });
    const moved = await move(holder);
    expect(await ask(signingOf(holder).certificate)).toMatchObject(nothing);
    const told: string[] = [];
    const clients = [platform.client, bankClient, town, stranger];
    const [present, past] = [moved.card.certificates, holder.card.certificates].map((all) =>
      all.find(({ kind }) => kind === 'card-signing'),
    );
    for (const { route } of await describedRoutes())
      for (const client of clients)
        for (const serial of [present, past]) {
          const [method = '', path = ''] = route.split(' ');
          // Of nodes, and of other clients.
          if (/^\/(feed|clients|desks)/.test(path)) continue;
          const url = path
            .replace('{holderId}', holder.holderId)
            .replace('{authority}', serial?.authority ?? '')
            .replace('{serialNumber}', serial?.serialNumber ?? '')
            .replace(/\{[a-zA-Z]+\}/g, '00000000-0000-0000-0000-000000000000');
          const query = { '/renewals': '?days=4000', '/outbox': '?state=delivered' }[path] ?? '';
          const asked = JSON.stringify({ dryRun: true, certificate: base64(signingOf(holder).certificate) });
          const body = method === 'GET' ? undefined : asked;
          const answer = await client.send<unknown>(method as 'GET', `${url}${query}`, body, {
            ...(method === 'GET' ? {} : { 'idempotency-key': crypto.randomUUID() }),
            ...{ 'warifu-purpose': 'incident' },
          });
          told.push(JSON.stringify(answer.body));
        }
    expect(told.length).toBeGreaterThan(300);
    const about = () =>
      [...portal.had.values()].filter(({ message }) => message.holderId === holder.holderId);
    // Those who have the card read what is the holder's, and withdraw for the holder.
    await stranger.post(`/holders/${holder.holderId}`, undefined);
    const clerk = await addClient(test, 'new-town', {
      ...{ roles: ['revoker', 'reader'], desks: ['DESK00002'], municipalities: [nakano] },
    } as { roles: string[] });
    await clerk.client.get(`/holders/${holder.holderId}`);
    const second = (await consent(signingOf(moved))).body.consentId;
    await clerk.client.post(`/consents/${second}/withdrawal`, { deskCode: 'DESK00002' });
    const signed = async () => {
      const content = encodeAccessQuery({
        certificate: digest('sha256', authenticationOf(holder).certificate),
        ...{ challenge: await getChallenge(test.api), holderId: holder.holderId },
      });
      return { 'warifu-signed-query': signedBy(authenticationOf(holder), content, '1.3.6.1.4.1.32473.8.7') };
    };
    for (const list of ['accesses', 'consents']) {
      const path = `/holders/${holder.holderId}/${list}`;
      const answer = await test.api.send<unknown>('GET', path, undefined, await signed());
      expect(answer.status).toBe(200);
      told.push(JSON.stringify(answer.body));
    }
    told.push(JSON.stringify((await withdraw(authenticationOf(holder), second)).body));
    await clerk.client.close();
    await until('notices were sent', async () => about().length >= 3);
    const notices = about().map(({ message }) => JSON.stringify(message));
    for (const text of [...told, ...notices])
      expect(text).not.toMatch(/隠町|Nakano|13114|9番地|９番地|DESK00002|new-town/);
    await town.close();
    await stranger.close();
  });

  it('is given out about again once the town of now ends it, and not by the one before', async () => {
    const holder = await issueCard(test.api);
    await consent(signingOf(holder));
    const path = `/holders/${holder.holderId}/withholding`;
    expect((await test.api.post(path, { withheld: true })).status).toBe(200);
    expect(await ask(signingOf(holder).certificate)).toMatchObject(nothing);
    const moved = await move(holder);
    // What is signed meanwhile counts no more once it ends.
    await consent(signingOf(moved), { items: ['sex'] });
    const binding = { roles: ['revoker'], municipalities: [shibuya] };
    const { client } = await addClient(test, 'town-before', binding);
    expect((await client.post(path, { withheld: false })).status).toBe(404);
    expect(await ask(signingOf(holder).certificate)).toMatchObject(nothing);
    expect((await test.api.post(path, { withheld: false })).status).toBe(200);
    expect(Object.keys((await ask(signingOf(holder).certificate)).body.items)).toEqual(['name', 'address']);
    await client.close();
  });
});
