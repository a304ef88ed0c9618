import { execFile } from 'node:child_process';
import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, CaClient, Issued } from '../../ca/client/client.ts';
import { JournalSeal } from '../../core/feed/journal-seal.ts';
import {
  base64,
  cardRequest,
  derOf,
  enrolmentContent,
  makeChipKey,
  pemOf,
  signEnrolment,
  until,
} from '../support/actors.ts';
import { readCertificationRequest } from '../support/evidence-keys.ts';
import {
  addClient,
  enrolmentParts,
  type Holder,
  issueCard,
  issuePhone,
  namedApi,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
  warifu,
} from '../support/harness.ts';

// What happened after a backup comes back out of the followers' journals: for the CA alone, and only as the CA sent it.

interface Adopted {
  readonly certificates: {
    authority: string;
    serialNumber: string;
    kind: string;
    holderId: string | null;
    mediumId: string | null;
    status: { state: string; heldBy: string[] };
  }[];
  readonly next: string | null;
}

let test: TestService;
let api: CaClient;
let folder: string;
let backup: string;
let journal: string;
let dead: Holder;
let deadSince: Holder;
let since: Holder;
let sinceKey: Awaited<ReturnType<typeof makeChipKey>>;
let restricted: { phone: Issued; deviceId: string };
let shutOut: CaClient;
let shutOutAs: string;
const blocked: Awaited<ReturnType<typeof makeChipKey>>[] = [];
let restored: ReturnType<typeof warifu>;

const states = async (holder: Holder) => {
  const { body } = await api.get<{ certificates: Adopted['certificates'] }>(`/holders/${holder.holderId}`);
  return body.certificates.map(({ kind, status }) => `${kind} ${status.state}`).sort();
};
const issueAgain = async ({ holderId, cardId }: Pick<Holder, 'holderId' | 'cardId'>, key = makeChipKey()) => {
  const keys = { signing: await key, authentication: await makeChipKey() };
  return api.post<Issued>('/card-certificates', cardRequest(keys, { holderId, cardId }));
};
const refused = (answer: Answer<unknown>, status: number, title: string) =>
  expect(answer).toMatchObject({ status, body: { title } });

beforeAll(async () => {
  test = await startTestService();
  ({ api, folder } = test);
  dead = await issueCard(api);
  const shut = await addClient(test, 'shut-out', { roles: ['reader'] });
  shutOutAs = shut.fingerprint;
  await shut.client.close();
  await test.close();
  backup = join(scratch(), 'backup.db');
  expect(warifu('backup', backup, '--data', folder).code).toBe(0);

  test = await startTestService({ folder });
  ({ api } = test);
  await api.post('/events', { event: 'died', holderId: dead.holderId });
  deadSince = await issueCard(api);
  await api.post('/events', { event: 'died', holderId: deadSince.holderId });
  since = await issueCard(api);
  sinceKey = since.cardSigning;
  restricted = await issuePhone(api, since);
  blocked.push(await makeChipKey());
  const second = await addClient(test, 'second', { roles: ['revoker'] });
  const match = { platform: 'android', models: ['Example 9'] };
  const proposed = await api.post<{ acts: { actId: string }[] }>('/restrictions', { match });
  const approval = `/mass-acts/${proposed.body.acts[0]?.actId}/approval`;
  expect((await second.client.post(approval, undefined)).status).toBe(200);
  await until('the phone is held', async () => (await states(since)).includes('phone-signing held'));
  await second.client.close();
  expect((await api.post(`/clients/${shutOutAs}/revocation`, undefined)).status).toBe(200);
  const publicKey = base64(readCertificationRequest(blocked[0]?.request ?? new Uint8Array()));
  expect((await api.post('/blocked-keys', { publicKey })).status).toBe(200);
  await test.close();
  journal = join(scratch(), 'journal.ndjson');
  copyFileSync(join(folder, 'ocsp', 'journal.ndjson'), journal);
}, 90_000);
afterAll(async () => {
  await shutOut?.close();
  removeScratch();
});

/** Binds a card's authentication certificate by the commands of docs/OPERATIONS.md. */
async function bindAsDocumented(path: string, { card, holderId, cardId }: Holder): Promise<void> {
  const document = readFileSync(new URL('../../docs/OPERATIONS.md', import.meta.url), 'utf8');
  const commands = /```sh bind-adopted\n([\s\S]*?)```/.exec(document)?.[1] ?? '';
  const cwd = scratch();
  writeFileSync(join(cwd, 'card.pem'), pemOf(card, 'card-authentication'));
  for (const end of ['key', 'pem'])
    copyFileSync(join(folder, 'clients', `first.${end}`), join(cwd, `one.${end}`));
  copyFileSync(join(folder, 'tls', 'operations-ca.pem'), join(cwd, 'operations-ca.pem'));
  const shown = commands
    .replaceAll('https://ca.example.jp:8443', test.service.addresses.api)
    .replace('HOLDER', holderId)
    .replace('CARD', cardId)
    .replace('/certificates/AUTHORITY/SERIAL', path);
  await promisify(execFile)('sh', ['-e', '-c', shown], { cwd });
}

/** A journal with some lines changed. */
function altered(change: (lines: string[]) => string[]): string {
  const lines = readFileSync(journal, 'utf8').trimEnd().split('\n');
  const file = join(scratch(), 'altered.ndjson');
  writeFileSync(file, `${change(lines).join('\n')}\n`);
  return file;
}
const restoreWith = (file: string, ...flags: string[]) =>
  warifu('restore', backup, '--journal', file, ...flags, '--data', folder);
/** The last line that a change of status is in. */
const lastOf = (lines: string[], word: string): number => lines.findLastIndex((line) => line.includes(word));

describe('a journal', () => {
  it('says nothing of whose anything is, and seals nothing twice the same', () => {
    const text = readFileSync(journal, 'utf8');
    for (const { holderId, cardId } of [dead, deadSince, since]) {
      expect(text).not.toContain(`"${holderId}"`);
      expect(text).not.toContain(`card:${cardId}`);
    }
    expect(text).not.toContain(restricted.deviceId);
    const seal = new JournalSeal(new Uint8Array(32));
    expect(seal.seal('the same')).not.toBe(seal.seal('the same'));
    expect(seal.seal('a').length).toBe(seal.seal('abcdefghij').length);
    expect(seal.open(seal.seal('the same'))).toBe('the same');
    expect(() => new JournalSeal(new Uint8Array(32).fill(1)).open(seal.seal('x'))).toThrow(/did not seal/);
  });

  it.each<[string, (lines: string[]) => string[], RegExp]>([
    [
      'in which an attacker made a revoked certificate good',
      (lines) =>
        lines.map((line, i) =>
          i === lastOf(lines, '"revoked"') ? line.replaceAll('"revoked"', '"good"') : line,
        ),
      /line \d+ was forged or altered/,
    ],
    [
      'to which an attacker added a revocation',
      (lines) => {
        const line = JSON.parse(lines.at(-1) ?? '') as { events: object[]; cursor: object };
        const event = { type: 'status', change: 'revoked', authority: 'signing-1', epoch: 1, position: 0 };
        const status = { state: 'revoked', reason: 'unspecified', revokedMs: 1, invalidityMs: null };
        const events = [{ ...event, ...status, version: 99, notAfterMs: 1, shard: null }];
        return [...lines, JSON.stringify({ ...line, events })];
      },
      /line \d+ was forged or altered/,
    ],
    [
      'to which an attacker added a line without a proof',
      (lines) => {
        const { proof: _, ...line } = JSON.parse(lines.at(-1) ?? '') as { proof: string };
        return [...lines, JSON.stringify(line)];
      },
      /line \d+ has no proof that this CA sent it/,
    ],
    [
      'that says it goes further than it does',
      (lines) =>
        lines.map((line, i) =>
          i < lines.length - 1 ? line : line.replace(/"positions":\{"n1":\d+/, '"positions":{"n1":999999'),
        ),
      /was forged or altered/,
    ],
    [
      'in which a line is no JSON',
      (lines) => lines.map((line, i) => (i === 3 ? line.slice(1) : line)),
      /no JSON/,
    ],
    [
      'from which an attacker took a revocation',
      (lines) => lines.filter((_, i) => i !== lastOf(lines, '"change":"revoked"')),
      /would lack events \d+ to \d+ of n1/,
    ],
  ])('is refused %s', (_what, change, detail) => {
    const { code, output } = restoreWith(altered(change));
    expect([code, output]).toEqual([1, expect.stringMatching(detail)]);
  });

  it('of an earlier version is believed only where that is said', () => {
    const file = altered((lines) =>
      lines.map((line) => {
        const { events, cursor } = JSON.parse(line) as { events: { type: string }[]; cursor: object };
        return JSON.stringify({ events: events.filter(({ type }) => type !== 'sealed'), cursor });
      }),
    );
    const refusal = restoreWith(file);
    expect([refusal.code, refusal.output]).toEqual([1, expect.stringMatching(/--accept-unproven/)]);
  });
});

describe('a restore from an older backup and the journal', () => {
  beforeAll(async () => {
    restored = warifu('restore', backup, '--data', folder);
    test = await startTestService({ folder });
    ({ api } = test);
  }, 60_000);

  it('says what came back', () => {
    expect([restored.code, restored.output]).toEqual([0, expect.any(String)]);
    expect(restored.output).toMatch(
      /: 2 certificates changed since the backup, 6 issued since, 0 holders closed/,
    );
    for (const table of ['standing', 'client', 'restriction', 'publicKey'])
      expect(restored.output).toMatch(new RegExp(`brought back: \\d+ rows of ${table}`));
  });

  it('lists what was issued since, over the API and in a file for its owner alone', async () => {
    const { body } = await api.get<Adopted>('/certificates?adopted');
    const listed = body.certificates.map(({ kind, holderId, mediumId }) => `${kind} ${holderId} ${mediumId}`);
    expect(listed.sort()).toEqual(
      [
        ...['signing', 'authentication'].map(
          (slot) => `card-${slot} ${deadSince.holderId} card:${deadSince.cardId}`,
        ),
        ...['signing', 'authentication'].map((slot) => `card-${slot} ${since.holderId} card:${since.cardId}`),
        ...['signing', 'authentication'].map(
          (slot) => `phone-${slot} ${since.holderId} phone:${restricted.deviceId}`,
        ),
      ].sort(),
    );
    const file = join(folder, 'adopted.ndjson');
    expect(statSync(file).mode & 0o077).toBe(0);
    const lines = readFileSync(file, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { serialNumber: string });
    expect(lines.map(({ serialNumber }) => serialNumber).sort()).toEqual(
      body.certificates.map(({ serialNumber }) => serialNumber).sort(),
    );
  });

  it('certifies no key twice, and none that was blocked', async () => {
    refused(
      await issueAgain({ holderId: 'x', cardId: 'x' }, Promise.resolve(sinceKey)),
      409,
      'already-certified',
    );
    refused(
      await issueAgain({ holderId: 'y', cardId: 'y' }, Promise.resolve(blocked[0] as typeof sinceKey)),
      400,
      'invalid-key',
    );
  });

  it('issues to no holder who died, before or after the backup', async () => {
    refused(await issueAgain(dead), 409, 'holder-closed');
    refused(await issueAgain(deadSince), 409, 'holder-closed');
    expect(await states(dead)).toEqual(['card-authentication revoked', 'card-signing revoked']);
  });

  it('keeps whom an administrator had shut out outside', async () => {
    shutOut = namedApi(test, 'shut-out');
    refused(await shutOut.get('/holders/unknown'), 401, 'unauthenticated');
  });

  it('occupies the slots of what was issued since', async () => {
    refused(await issueAgain(since), 409, 'slot-occupied');
  });

  it('has a restriction in force, by which phones stay held until it ends', async () => {
    const other = await issueCard(api, { holderId: 'after', cardId: 'after' });
    await expect(issuePhone(api, { ...other, holderId: 'after' })).rejects.toThrow(/device-restricted/);
    const { body } = await api.get<{ restrictions: { restrictionId: string; state: string }[] }>(
      '/restrictions',
    );
    expect(body.restrictions).toMatchObject([{ state: 'in-force' }]);
    const end = await api.post<{ acts: { actId: string; state: string }[] }>(
      `/restrictions/${body.restrictions[0]?.restrictionId}/end`,
      { action: 'release' },
    );
    const act = end.body.acts.find(({ state }) => state === 'proposed');
    const { client } = await addClient(test, 'third', { roles: ['revoker'] });
    expect((await client.post(`/mass-acts/${act?.actId}/approval`, undefined)).status).toBe(200);
    await client.close();
    await expect
      .poll(() => states(since))
      .toEqual([
        'card-authentication good',
        'card-signing good',
        'phone-authentication good',
        'phone-signing good',
      ]);
  });

  it('binds a card to its holder again by the certificate itself, so that it can do what it could', async () => {
    const { body } = await api.get<Adopted>('/certificates?adopted');
    const pathOf = (kind: string) => {
      const found = body.certificates.find((each) => each.kind === kind && each.holderId === since.holderId);
      return `/certificates/${found?.authority}/${found?.serialNumber}`;
    };
    const whose = { holderId: since.holderId, cardId: since.cardId };
    const certificate = base64(derOf(pemOf(since.card, 'card-signing')));
    const bind = (kind: string, said: object) => api.post(`${pathOf(kind)}/holder`, said);
    refused(
      await bind('card-signing', { ...whose, holderId: 'thief', certificate }),
      409,
      'illegal-transition',
    );
    refused(await bind('card-authentication', { ...whose, certificate }), 400, 'bad-request');
    refused(await bind('card-signing', { ...whose, certificate: 'AAAA' }), 400, 'bad-request');
    const phone = { holderId: since.holderId, deviceId: restricted.deviceId, certificate };
    refused(await bind('card-signing', phone), 400, 'bad-request');
    expect((await bind('card-signing', { ...whose, certificate })).status).toBe(200);
    refused(await bind('card-signing', { ...whose, certificate }), 404, 'not-found');
    await bindAsDocumented(pathOf('card-authentication'), since);
    const detail = await api.get<{ certificate: string | null }>(pathOf('card-signing'));
    expect(detail.body.certificate).toBe(pemOf(since.card, 'card-signing'));
    const parts = await enrolmentParts(api, since, { platform: 'ios', deviceId: 'second-phone' });
    const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
    const enrolled = await api.post('/phone-certificates', { deviceId: 'second-phone', signedEnrolment });
    expect(enrolled.status).toBe(201);
    const left = await api.get<Adopted>('/certificates?adopted');
    expect(left.body.certificates).toHaveLength(4);
  });

  it('keeps what was bound, where a backup of then is restored once more', async () => {
    await test.close();
    const bound = join(scratch(), 'bound.db');
    expect(warifu('backup', bound, '--data', folder).code).toBe(0);
    expect(warifu('restore', bound, '--data', folder)).toMatchObject({ code: 0 });
    test = await startTestService({ folder });
    ({ api } = test);
    expect((await states(since)).length).toBeGreaterThanOrEqual(4);
  }, 60_000);

  it('cascades from card to phone, and reaches both by the holder’s death', async () => {
    await api.post('/events', { event: 'moved', holderId: since.holderId });
    expect(await states(since)).toContain('phone-signing revoked');
    expect(await states(since)).toContain('phone-authentication good');
    await api.post('/events', { event: 'died', holderId: since.holderId });
    expect((await states(since)).every((state) => state.endsWith('revoked'))).toBe(true);
  });

  it('holds together: its audit chain verifies', async () => {
    await test.close();
    expect(warifu('audit', 'verify', '--data', folder)).toMatchObject({ code: 0 });
  });
});

describe('a journal that is older than the backup', () => {
  it('takes nothing back that the backup knows better', async () => {
    const service = await startTestService();
    const known = await addClient(service, 'known', { roles: ['reader'] });
    await known.client.close();
    await service.close();
    const old = join(scratch(), 'old.ndjson');
    copyFileSync(join(service.folder, 'ocsp', 'journal.ndjson'), old);
    const second = await startTestService({ folder: service.folder });
    expect((await second.api.post(`/clients/${known.fingerprint}/revocation`, undefined)).status).toBe(200);
    await second.close();
    const later = join(scratch(), 'later.db');
    expect(warifu('backup', later, '--data', service.folder).code).toBe(0);
    const { code, output } = warifu('restore', later, '--journal', old, '--data', service.folder);
    expect([code, output]).toEqual([0, expect.not.stringMatching(/^brought back/m)]);
    const third = await startTestService({ folder: service.folder });
    const client = namedApi(third, 'known');
    refused(await client.get('/holders/unknown'), 401, 'unauthenticated');
    await client.close();
    await third.close();
  }, 60_000);
});

describe('a journal of an earlier version, believed', () => {
  it('leaves it to an administrator to say whose the adopted are, and lets none escape death or blocking', async () => {
    const service = await startTestService();
    const died = await issueCard(service.api);
    await service.close();
    const early = join(scratch(), 'early.db');
    expect(warifu('backup', early, '--data', service.folder).code).toBe(0);
    const second = await startTestService({ folder: service.folder });
    await second.api.post('/events', { event: 'died', holderId: died.holderId });
    const later = await issueCard(second.api);
    await second.close();
    const kept = join(scratch(), 'kept.ndjson');
    const lines = readFileSync(join(service.folder, 'ocsp', 'journal.ndjson'), 'utf8')
      .trimEnd()
      .split('\n');
    const stripped = lines.map((line) => {
      const { events, cursor } = JSON.parse(line) as { events: { type: string }[]; cursor: object };
      return JSON.stringify({ events: events.filter(({ type }) => type !== 'sealed'), cursor });
    });
    writeFileSync(kept, `${stripped.join('\n')}\n`);
    const given = ['--journal', kept, '--accept-unproven', '--data', service.folder];
    expect(warifu('restore', early, ...given)).toMatchObject({
      code: 0,
      output: expect.stringMatching(
        /2 certificates changed since the backup, 2 issued since, 1 holders closed/,
      ),
    });
    let third = await startTestService({ folder: service.folder });
    const { body } = await third.api.get<Adopted>('/certificates?adopted');
    expect(body.certificates.map(({ holderId }) => holderId)).toEqual([null, null]);
    const bind = (slot: string, holderId: string) => {
      const found = body.certificates.find(({ kind }) => kind === `card-${slot}`);
      const certificate = base64(derOf(pemOf(later.card, `card-${slot}`)));
      const path = `/certificates/${found?.authority}/${found?.serialNumber}/holder`;
      return third.api.post(path, { holderId, cardId: later.cardId, certificate });
    };
    refused(await bind('signing', died.holderId), 409, 'holder-closed');
    const publicKey = base64(readCertificationRequest(later.cardAuthentication.request));
    expect((await third.api.post('/blocked-keys', { publicKey })).status).toBe(200);
    refused(await bind('authentication', later.holderId), 400, 'invalid-key');
    await third.close();
    // A backup of before it was bound, and the journal that received it.
    const unbound = join(scratch(), 'unbound.db');
    expect(warifu('backup', unbound, '--data', service.folder).code).toBe(0);
    third = await startTestService({ folder: service.folder });
    expect((await bind('signing', later.holderId)).status).toBe(200);
    await third.close();
    expect(
      warifu(
        'restore',
        unbound,
        '--journal',
        join(service.folder, 'ocsp', 'journal.ndjson'),
        '--data',
        service.folder,
      ),
    ).toMatchObject({
      code: 0,
      output: expect.stringContaining('brought back: 1 rows of certificate'),
    });
    third = await startTestService({ folder: service.folder });
    await third.api.post('/events', { event: 'died', holderId: later.holderId });
    const after = await third.api.get<{ certificates: Adopted['certificates'] }>(
      `/holders/${later.holderId}`,
    );
    expect(after.body.certificates.map(({ status }) => status.state)).toEqual(['revoked']);
    await third.close();
  }, 60_000);
});
