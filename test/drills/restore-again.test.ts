import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { endShortened } from '../../ca/revoke/timed.ts';
import { FeedJournal } from '../../core/feed/feed-journal.ts';
import { JournalSeal } from '../../core/feed/journal-seal.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import { openReplicated } from '../../store/restore/replay.ts';
import type { ReplicatedRow } from '../../store/schema/replicated.ts';
import { base64, enrolmentContent, signEnrolment } from '../support/actors.ts';
import {
  dayInJapan,
  enrolmentParts,
  type Holder,
  issueCard,
  issuePhone,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
  warifu,
} from '../support/harness.ts';
import { recordVerifier } from '../support/verifiers.ts';

// Two restores in a row: changes made between them are kept.

afterAll(removeScratch);
// The service is started again with its clock ahead, and makes its TLS certificate by it.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';

const dayMs = 86_400_000;
let test: TestService;
let folder: string;
let backup: string;
let shortened: Holder;
let lost: { holder: Holder; deviceId: string };
let other: Holder;
let dead: Holder;

const journals = (): string[] =>
  readdirSync(join(folder, 'ocsp'))
    .filter((name) => name.startsWith('journal.ndjson'))
    .map((name) => join(folder, 'ocsp', name));
const statesOf = async ({ holderId }: Holder): Promise<string[]> => {
  const { body } = await test.api.get<{ certificates: { status: { state: string } }[] }>(
    `/holders/${holderId}`,
  );
  return body.certificates.map(({ status }) => status.state);
};
/** Tokens of verifiers: of one that was suspended since the backup, and of one that was recorded since. */
const tokens = { suspended: 'suspended-since-the-backup', since: 'recorded-since-the-backup' };
const tokenCredential = (token: string) => ({ type: 'token', sha256: hex(digest('sha256', token)) });
/** Whether OCSP and CRLs refuse a verifier. */
const refusedAt = async (name: keyof typeof tokens): Promise<boolean[]> => {
  const { ocsp, crl } = test.service.addresses;
  const urls = [`${ocsp}/v/${tokens[name]}/MA`, `${crl}/v/${tokens[name]}/crl/index.json`];
  return Promise.all(urls.map(async (url) => (await fetch(url)).status === 403));
};
const restart = async () => {
  test = await startTestService({ folder, clock: test.clock });
};

beforeAll(async () => {
  test = await startTestService({
    overrides: { notices: { tsm: 'http://127.0.0.1:1/' }, activation: { phone: 'at-once' } },
  });
  ({ folder } = test);
  shortened = await issueCard(test.api);
  const holder = await issueCard(test.api);
  lost = { holder, deviceId: (await issuePhone(test.api, holder)).deviceId };
  [other, dead] = [await issueCard(test.api), await issueCard(test.api)];
  const suspended = await recordVerifier(test.api, { credentials: [tokenCredential(tokens.suspended)] });
  await test.close();
  backup = join(scratch(), 'backup.db');
  expect(warifu('backup', backup, '--data', folder).code).toBe(0);
  await restart();
  const cardExpiresOn = dayInJapan(test.clock.wallMs() + 10 * dayMs);
  const moved = { event: 'card-extended', cardId: shortened.cardId, cardExpiresOn };
  expect((await test.api.post('/events', moved)).status).toBe(200);
  await test.api.post('/events', { event: 'phone-given-up', deviceId: lost.deviceId });
  await test.api.post('/switches/card-issuing', { state: 'closed', note: 'incident' });
  await test.api.post(`/verifiers/${suspended.verifierId}/suspension`, undefined);
  await recordVerifier(test.api, { credentials: [tokenCredential(tokens.since)] });
  await test.close();
}, 60_000);

describe('a restore', () => {
  it('brings back closed functions, suspensions, orders of deletion, and last days that were moved', async () => {
    const restored = warifu('restore', backup, '--data', folder);
    expect([restored.code, restored.output]).toEqual([
      0,
      expect.stringContaining('not brought back: reports'),
    ]);
    test.clock.advance(20 * dayMs);
    await restart();
    const { body } = await test.api.get<{ switches: { name: string; state: string }[] }>('/switches');
    expect(body.switches.find(({ name }) => name === 'card-issuing')?.state).toBe('closed');
    expect(await refusedAt('suspended')).toEqual([true, true]);
    expect(await refusedAt('since')).toEqual([false, false]);
    type Messages = { messages: { type: string; deviceId: string }[] };
    const waiting = (await test.api.get<Messages>('/outbox?state=waiting')).body.messages;
    expect(
      waiting.filter(({ type, deviceId }) => type === 'remote-deletion' && deviceId === lost.deviceId),
    ).toHaveLength(2);
    const parts = await enrolmentParts(test.api, other, { deviceId: lost.deviceId });
    const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
    const taken = await test.api.post('/phone-certificates', { deviceId: lost.deviceId, signedEnrolment });
    expect(taken).toMatchObject({ status: 409, body: { title: 'medium-unavailable' } });
    await endShortened(test.service.ca);
    expect(await statesOf(shortened)).toEqual(['revoked', 'revoked']);
    await test.api.post('/events', { event: 'died', holderId: dead.holderId });
    await test.close();
  }, 60_000);
});

describe('a second restore of the same backup', () => {
  const cut = (file: string, word: string): string => {
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
    const last = lines.findLastIndex((line) => line.includes(word));
    const cutFile = join(scratch(), 'cut.ndjson');
    writeFileSync(cutFile, `${lines.filter((_, i) => i !== last).join('\n')}\n`);
    return cutFile;
  };

  it('is refused without the journal of the record that the first made, or with one that was cut', () => {
    const [now = '', aside = ''] = journals().sort();
    expect([now, aside].map((file) => file.split('/').at(-1))).toEqual([
      'journal.ndjson',
      'journal.ndjson.previous',
    ]);
    const given = (...files: string[]) => warifu('restore', backup, '--journal', ...files, '--data', folder);
    const without = given(aside);
    expect([without.code, without.output]).toEqual([1, expect.stringMatching(/done after restore number 1/)]);
    const gap = given(aside, cut(now, '"change":"revoked"'));
    expect([gap.code, gap.output]).toEqual([1, expect.stringMatching(/would lack events \d+ to \d+ of n1/)]);
  }, 60_000);

  it('with both, which are found by themselves, forgets nothing of either', async () => {
    expect(warifu('restore', backup, '--data', folder)).toEqual({
      code: 0,
      output: expect.stringContaining('incarnation'),
    });
    await restart();
    expect(await statesOf(dead)).toEqual(['revoked', 'revoked']);
    expect((await statesOf(lost.holder)).filter((state) => state === 'revoked')).toHaveLength(2);
    await endShortened(test.service.ca);
    expect(await statesOf(shortened)).toEqual(['revoked', 'revoked']);
    await test.close();
    expect(warifu('audit', 'verify', '--data', folder).code).toBe(0);
  }, 60_000);
});

describe('what journals tell', () => {
  const seal = new JournalSeal(new Uint8Array(32).fill(7));
  const roles = (value: string): ReplicatedRow => ['client', 0, ['f'.repeat(64), 'x', value, '[]', 1, null]];
  const sealed = (incarnation: string, position: number, value: string) => ({
    incarnation,
    text: seal.seal(JSON.stringify({ position, rows: [roles(value)] })),
  });
  const rolesIn = (...replicated: ReturnType<typeof sealed>[]) =>
    openReplicated(replicated, seal, {
      end: { incarnation: 'a', position: 10 },
      ordinals: new Map([
        ['a', 2],
        ['b', 3],
        ['before', 1],
      ]),
    }).rows.map(({ values }) => values.roles);

  it('is ordered by where it stands, whatever the clock said, and nothing that the backup has counts', () => {
    expect(rolesIn(sealed('a', 12, 'newest'), sealed('a', 11, 'newer'))).toEqual(['newest']);
    expect(rolesIn(sealed('b', 3, 'of the next record'), sealed('a', 12, 'newer'))).toEqual([
      'of the next record',
    ]);
    expect(rolesIn(sealed('a', 10, 'known'), sealed('a', 9, 'known before'))).toEqual([]);
    expect(rolesIn(sealed('before', 99, 'long before'))).toEqual([]);
  });

  it('is never overwritten by a journal that is set aside later', () => {
    const file = join(scratch(), 'journal.ndjson');
    for (const text of ['one', 'two', 'three']) {
      writeFileSync(file, text);
      new FeedJournal(file).setAside('previous');
    }
    const read = ['', '-2', '-3'].map((end) => readFileSync(`${file}.previous${end}`, 'utf8'));
    expect(read).toEqual(['one', 'two', 'three']);
  });
});
