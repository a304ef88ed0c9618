import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, CaClient } from '../../ca/client/client.ts';
import { noticeText } from '../../ca/notify/notice-text.ts';
import { encodeNoticeWishes, parseNoticeWishes } from '../../ca/notify/notice-wishes.ts';
import { noticeOccasions } from '../../store/api/outbox-store.ts';
import { derOf, pemOf } from '../support/actors.ts';
import {
  addClient,
  dataFolder,
  type Holder,
  issueCard,
  issuePhone,
  namedApi,
  type PreferencesAnswer,
  removeScratch,
  setPreferences,
  signedWishes,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { Mailbox } from '../support/mailbox.ts';
import { Receiver } from '../support/tsm.ts';

// Notices are a holder's defence against anyone who has card or phone: what they are, and where they go, only the holder decides.

let test: TestService;
let api: CaClient;
let mailbox: Mailbox;
let portal: Receiver;
beforeAll(async () => {
  [mailbox, portal] = [await Mailbox.start(), await Receiver.start()];
  const notices = {
    portal: portal.url,
    verifiers: [{ name: 'bank', url: portal.url, title: '例銀行' }],
    mail: { host: '127.0.0.1', port: mailbox.port, from: 'ca@example', tls: 'never' },
    contact: '0120-000-000',
    retryFirst: '50ms',
    retryMost: '200ms',
  };
  test = await startTestService({ overrides: { notices } });
  api = test.api;
  portal.trust(test.folder);
});
afterAll(async () => {
  await test.close();
  await portal.stop();
  await mailbox.stop();
  removeScratch();
});

let addresses = 0;
const nextAddress = (): string => {
  addresses += 1;
  return `person-${addresses}@example.jp`;
};

const refused = (answer: Answer<unknown>, status: number, title: string, detail: RegExp = /./) =>
  expect(answer).toMatchObject({ status, body: { title, detail: expect.stringMatching(detail) } });

/** The code in the n-th mail to an address. */
async function codeAt(address: string, n = 0): Promise<string> {
  await expect.poll(() => mailbox.to(address).length).toBeGreaterThan(n);
  return /[0-9A-HJKMNP-TV-Z]{8}/.exec(mailbox.to(address)[n]?.text ?? '')?.[0] ?? '';
}
const confirm = (holder: Holder, code: string, key?: string) =>
  api.post<PreferencesAnswer>(`/holders/${holder.holderId}/notices/confirmation`, { code }, key);

async function withAddress(occasions: readonly (typeof noticeOccasions)[number][] = ['held']) {
  const [holder, address] = [await issueCard(api), nextAddress()];
  expect((await setPreferences(api, holder, { occasions, mailAddress: address })).status).toBe(200);
  expect((await confirm(holder, await codeAt(address))).status).toBe(200);
  return { holder, address };
}
const notices = (holder: Holder) =>
  portal
    .messages()
    .filter(({ holderId }) => holderId === holder.holderId)
    .map(({ kind, occasion }) => `${kind} ${occasion}`);
const subjects = (address: string) => mailbox.to(address).map(({ subject }) => subject);

describe('notice preferences', () => {
  it('are taken as a holder’s card or phone signs them', async () => {
    const holder = await issueCard(api);
    expect(await setPreferences(api, holder, { occasions: ['held', 'used'], language: 'en' })).toMatchObject({
      status: 200,
      body: { occasions: ['held', 'used'], by: 'portal', language: 'en', confirmBy: null },
    });
  });

  it.each<[string, (holder: Holder) => Promise<Answer<unknown>>, number, string]>([
    [
      'of another holder',
      async (holder) => {
        const other = await issueCard(api);
        const by = {
          key: other.cardSigning.privateKey,
          certificate: derOf(pemOf(other.card, 'card-signing')),
        };
        return api.post(`/holders/${holder.holderId}/notices`, { signedWishes: await signedWishes(api, by) });
      },
      404,
      'not-found',
    ],
    [
      'signed by the card’s authentication key',
      async (holder) => {
        const certificate = derOf(pemOf(holder.card, 'card-authentication'));
        const by = { key: holder.cardAuthentication.privateKey, certificate };
        return api.post(`/holders/${holder.holderId}/notices`, { signedWishes: await signedWishes(api, by) });
      },
      400,
      'invalid-signed-request',
    ],
    [
      'signed by another key',
      async (holder) => {
        const certificate = derOf(pemOf(holder.card, 'card-signing'));
        const by = { key: holder.cardAuthentication.privateKey, certificate };
        return api.post(`/holders/${holder.holderId}/notices`, { signedWishes: await signedWishes(api, by) });
      },
      400,
      'invalid-signed-request',
    ],
    [
      'that name another certificate',
      (holder) => setPreferences(api, holder, { certificate: randomBytes(32) }),
      400,
      'invalid-signed-request',
    ],
    [
      'for a challenge that was not given',
      (holder) => setPreferences(api, holder, { challenge: randomBytes(32) }),
      409,
      'challenge-not-usable',
    ],
    [
      'of a card that is held',
      async (holder) => {
        await api.post('/events', { event: 'card-lost', cardId: holder.cardId });
        return setPreferences(api, holder);
      },
      400,
      'invalid-signed-request',
    ],
    [
      'that are not signed',
      (holder) => api.post(`/holders/${holder.holderId}/notices`, { occasions: [] }),
      400,
      'bad-request',
    ],
  ])('are refused %s', async (_what, send, status, title) => {
    refused(await send(await issueCard(api)), status, title);
  });

  it('are used up with their challenge, and answered again under the same Idempotency-Key', async () => {
    const holder = await issueCard(api);
    const certificate = derOf(pemOf(holder.card, 'card-signing'));
    const body = {
      signedWishes: await signedWishes(api, { key: holder.cardSigning.privateKey, certificate }),
    };
    const path = `/holders/${holder.holderId}/notices`;
    const first = await api.post<PreferencesAnswer>(path, body, 'wishes-1');
    expect(first.status).toBe(200);
    expect((await api.post<PreferencesAnswer>(path, body, 'wishes-1')).body).toEqual(first.body);
    refused(await api.post(path, body), 409, 'challenge-not-usable');
  });

  const list = (mailAddress: string) => ({
    certificate: new Uint8Array(32),
    challenge: new Uint8Array(32),
    occasions: [],
    language: 'ja' as const,
    mailAddress,
  });
  it.each([
    'a@example.jp,b@example.jp',
    'a@example.jp b@example.jp',
    'a@example.jp;b@example.jp',
    'Hanako <a@example.jp>',
    'a@example.jp\r\nBcc: b@example.jp',
    '"a"@example.jp',
    'group:a@example.jp',
    'nobody',
    'a@@example.jp',
    'a\u0000b@example.jp',
    'a\u202Eb@example.jp',
    'a@example..jp',
    'a@-example.jp',
    `${'a'.repeat(65)}@example.jp`,
    `a@${'b'.repeat(260)}.jp`,
  ])('name one address, and not %j', (address) => {
    expect(() => parseNoticeWishes(encodeNoticeWishes(list(address)))).toThrow(/not one address/);
  });

  it('name known occasions, each once, and a known language', () => {
    const content = { ...list('a@example.jp'), mailAddress: null };
    const parsed = (altered: object) => parseNoticeWishes(encodeNoticeWishes({ ...content, ...altered }));
    expect(parsed({ occasions: noticeOccasions }).occasions).toEqual([...noticeOccasions]);
    expect(() => parsed({ occasions: ['held', 'held'] })).toThrow(/named twice/);
    expect(() => parsed({ occasions: ['renewed'] })).toThrow(/none of issued/);
    expect(() => parsed({ language: 'fr' })).toThrow(/none of ja, en/);
  });

  it('for mail are refused where no mail is sent', async () => {
    const bare = await startTestService({ folder: await dataFolder() });
    const holder = await issueCard(bare.api);
    refused(
      await setPreferences(bare.api, holder, { mailAddress: 'a@example.jp' }),
      400,
      'bad-request',
      /no mail is sent here/,
    );
    await bare.close();
  });
});

describe('a mail address', () => {
  it('counts once the code that was sent there comes back', async () => {
    const [holder, address] = [await issueCard(api), nextAddress()];
    const asked = await setPreferences(api, holder, { occasions: ['held'], mailAddress: address });
    expect(asked).toMatchObject({ status: 200, body: { by: 'portal', confirmBy: expect.any(String) } });
    const code = await codeAt(address);
    await api.post('/events', { event: 'phone-lost', deviceId: (await issuePhone(api, holder)).deviceId });
    await expect.poll(() => notices(holder).filter((each) => each.endsWith('held')).length).toBe(2);
    expect(await confirm(holder, code.toLowerCase(), 'c-1')).toMatchObject({
      status: 200,
      body: { by: 'mail' },
    });
    expect(await confirm(holder, code.toLowerCase(), 'c-1')).toMatchObject({ status: 200 });
    refused(await confirm(holder, code), 409, 'code-not-usable');
    await api.post('/events', { event: 'card-lost', cardId: holder.cardId });
    await expect.poll(() => subjects(address).filter((each) => each.includes('一時停止')).length).toBe(2);
  });

  it('stands in no answer, no file and no log, and neither does its code', async () => {
    const { holder, address } = await withAddress();
    const code = await codeAt(address);
    expect(test.log()).not.toContain(address);
    expect(test.log()).not.toContain(code);
    const { body } = await api.get(`/holders/${holder.holderId}`);
    expect(JSON.stringify(body)).not.toContain(address);
  });

  it('is confirmed by no other holder’s code, and by none after five wrong ones or a day', async () => {
    const [holder, other] = [await issueCard(api), await issueCard(api)];
    const [address, others] = [nextAddress(), nextAddress()];
    await setPreferences(api, holder, { mailAddress: address });
    await setPreferences(api, other, { mailAddress: others });
    refused(await confirm(holder, await codeAt(others)), 409, 'code-not-usable', /not the code/);
    for (let i = 0; i < 4; i++) refused(await confirm(holder, '00000000'), 409, 'code-not-usable');
    refused(await confirm(holder, await codeAt(address)), 409, 'code-not-usable', /no address waits/);
    const late = await codeAt(others);
    test.clock.advance(86_400_001);
    refused(await confirm(other, late), 409, 'code-not-usable', /no address waits/);
  });

  it('is asked for five times a day at most', async () => {
    const holder = await issueCard(api);
    for (let i = 0; i < 5; i++)
      expect((await setPreferences(api, holder, { mailAddress: nextAddress() })).status).toBe(200);
    refused(await setPreferences(api, holder, { mailAddress: nextAddress() }), 409, 'quota-exceeded');
    expect((await setPreferences(api, holder, { occasions: ['held'] })).status).toBe(200);
    test.clock.advance(86_400_001);
    expect((await setPreferences(api, holder, { mailAddress: nextAddress() })).status).toBe(200);
  });

  it('that another takes the place of is notified of it', async () => {
    const { holder, address } = await withAddress();
    const next = nextAddress();
    await setPreferences(api, holder, { occasions: [], mailAddress: next });
    // It is where notices go until the other is confirmed: also that of the change itself.
    await expect.poll(() => subjects(address)).toEqual(['通知先の確認', '通知の設定の変更のお知らせ']);
    await confirm(holder, await codeAt(next));
    await expect.poll(() => subjects(address).length).toBe(3);
    expect(subjects(address).at(-1)).toBe('通知の設定の変更のお知らせ');
    expect(subjects(next)).toEqual(['通知先の確認']);
  });

  it('that is given up for the portal is notified of it', async () => {
    const { holder, address } = await withAddress();
    expect(await setPreferences(api, holder)).toMatchObject({ status: 200, body: { by: 'portal' } });
    await expect.poll(() => subjects(address).at(-1)).toBe('通知の設定の変更のお知らせ');
  });

  it('that was confirmed before need not be again', async () => {
    const { holder, address } = await withAddress();
    const again = await setPreferences(api, holder, { occasions: ['used'], mailAddress: address });
    expect(again).toMatchObject({ status: 200, body: { by: 'mail', confirmBy: null } });
  });

  it('is not confirmed any more once other preferences have come', async () => {
    const [holder, address] = [await issueCard(api), nextAddress()];
    await setPreferences(api, holder, { mailAddress: address });
    const code = await codeAt(address);
    await setPreferences(api, holder);
    refused(await confirm(holder, code), 409, 'code-not-usable');
  });
});

describe('a notice that is not optional', () => {
  it('sends a phone’s issue and end whatever the preferences are, through the portal', async () => {
    const holder = await issueCard(api);
    const { deviceId } = await issuePhone(api, holder);
    await api.post('/events', { event: 'phone-given-up', deviceId });
    await expect.poll(() => notices(holder).length).toBe(4);
    expect(notices(holder).sort()).toEqual([
      'phone-authentication issued',
      'phone-authentication revoked',
      'phone-signing issued',
      'phone-signing revoked',
    ]);
  });

  it('goes to the address of a holder who chose no notices', async () => {
    const { holder, address } = await withAddress([]);
    const { deviceId } = await issuePhone(api, holder);
    await api.post('/events', { event: 'phone-lost', deviceId });
    await api.post('/events', { event: 'phone-given-up', deviceId });
    const expected = ['発行', '発行', '失効', '失効'].map((word) => `電子証明書の${word}のお知らせ`);
    await expect.poll(() => subjects(address).slice(1).sort()).toEqual(expected.sort());
    // By another way, which may take longer.
    await expect.poll(() => notices(holder)).toEqual(['card-signing wishes-changed']);
  });
});

describe('a notice of use', () => {
  it.each([
    ['ja' as const, /個人番号カード用署名用電子証明書が「例銀行」で利用されました。/],
    ['en' as const, /The signing certificate of your My Number Card was used at “例銀行”./],
  ])('names the verifier, in the language %s', async (language, words) => {
    const [holder, address] = [await issueCard(api), nextAddress()];
    await setPreferences(api, holder, { occasions: ['used'], mailAddress: address, language });
    await confirm(holder, await codeAt(address));
    const bank = await bankClient();
    const [signing] = holder.card.certificates.filter(({ kind }) => kind === 'card-signing');
    const path = `/certificates/${signing?.authority}/${signing?.serialNumber}/uses`;
    expect((await bank.post(path, undefined)).status).toBe(200);
    await bank.close();
    await expect.poll(() => mailbox.to(address).length).toBe(2);
    const { text } = mailbox.to(address)[1] as { text: string };
    expect(text).toMatch(words);
    expect(text).toContain('0120-000-000');
    const inJapan = new Date(test.clock.wallMs() + 9 * 3_600_000)
      .toISOString()
      .slice(0, 13)
      .replace('T', ' ');
    expect(text).toContain(inJapan);
  });
});

let banks = 0;
async function bankClient(): Promise<CaClient> {
  banks += 1;
  if (banks === 1) return (await addClient(test, 'bank', { roles: ['verifier'] })).client;
  return namedApi(test, 'bank');
}

describe('the text of a notice', () => {
  it('is Japanese or English for every occasion, with the time in Japan', () => {
    for (const occasion of [...noticeOccasions, 'enrolment-code', 'wishes-changed'] as const) {
      const message = { kind: 'phone-signing', occasion, createdMs: Date.UTC(2026, 11, 31, 15, 30) };
      const said = { verifier: 'V', code: 'C', contact: 'X' };
      const [ja, en] = [noticeText(message, 'ja', said), noticeText(message, 'en', said)];
      expect(ja.subject + ja.text).toMatch(/[ぁ-ん]/);
      expect(en.subject + en.text).not.toMatch(/[ぁ-ん]|\{/);
      for (const { text } of [ja, en]) expect(text).toContain('2027-01-01 00:30:00');
    }
  });

  it('takes nothing that a name says for a place to fill', () => {
    const message = { kind: 'card-signing', occasion: 'used' as const, createdMs: 0 };
    const { text } = noticeText(message, 'en', { verifier: '{code}', code: 'SECRET', contact: '' });
    expect(text).toContain('“{code}”');
    expect(text).not.toContain('SECRET');
  });
});
