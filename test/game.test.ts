import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, Issued } from '../ca/client/client.ts';
import { makeBackup } from '../ca/node/guarded-acts.ts';
import { withNode } from '../ca/node/operator.ts';
import { restore } from '../ca/node/restore-command.ts';
import { cardRequest, makeChipKey } from './support/actors.ts';
import { removeScratch, scratch } from './support/harness.ts';
import { ownKey } from './support/own-key.ts';
import {
  basicFourOf,
  type Enrolled,
  municipalities,
  nakano,
  type ProductionService,
  shibuya,
  startProduction,
} from './support/production.ts';

// A game: each who has a part in the service, alone and malicious, with its own credentials and files. What each tries fails, or is seen: by an
// alarm, or a warning, that docs/OPERATIONS.md names.

const operations = readFileSync(new URL('../docs/OPERATIONS.md', import.meta.url), 'utf8');

let test: ProductionService;
const players = new Map<string, Enrolled>();
const player = (name: string): Enrolled => players.get(name) as Enrolled;
/** A resident of Shibuya with a good card, and one of Nakano. */
let victim: Issued;
let stranger: Issued;

const desk = (deskCode: string, municipalityCode: string) => ({ deskCode, municipalityCode });
const cardOf = async (holderId: string, at: object, more: object = {}) =>
  cardRequest(
    { signing: await makeChipKey(), authentication: await makeChipKey() },
    { holderId, cardId: `card-of-${holderId}`, basicFour: basicFourOf(holderId), ...at, ...more },
  );

beforeAll(async () => {
  const verifiers = [{ name: 'bank', url: 'https://bank.example.jp/notices' }];
  const approvals = { revocationsPerDay: { person: 1, system: 1 } };
  const limits = { responderCertificatesPerDay: 1 };
  test = await startProduction({
    municipalities,
    approvals,
    limits,
    notices: { verifiers },
    issuing: { enrolmentCodes: 'on' },
  });
  for (const at of [desk('SHIBUYA01', shibuya), desk('NAKANO001', nakano)])
    await test.approved('/desks', { ...at, kind: 'counter' });
  await test.approved('/desks', { deskCode: 'ONLINE001', kind: 'online' });
  const parts: Record<string, Parameters<ProductionService['enrol']>[0]> = {
    clerk: { name: 'clerk', kind: 'person', roles: ['issuer'], desks: ['SHIBUYA01'] },
    'other clerk': { name: 'other clerk', kind: 'person', roles: ['issuer'], desks: ['NAKANO001'] },
    portal: { name: 'portal', kind: 'system', roles: ['issuer'], desks: ['ONLINE001'] },
    reader: { name: 'reader', kind: 'person', roles: ['reader'], municipalities: [shibuya] },
    revoker: { name: 'revoker', kind: 'person', roles: ['revoker'], municipalities: [shibuya] },
    'nation’s revoker': { name: 'national', kind: 'person', roles: ['revoker'], municipalities: ['*'] },
    administrator: { name: 'third administrator', kind: 'person', roles: ['administrator'] },
    'OCSP node': { name: 'ocsp', kind: 'system', roles: ['follower', 'ocsp'] },
    'CRL node': { name: 'crl', kind: 'system', roles: ['follower'] },
    verifier: { name: 'bank', kind: 'system', roles: ['verifier'] },
    TSM: { name: 'tsm', kind: 'system', roles: ['tsm'] },
  };
  for (const [name, part] of Object.entries(parts)) players.set(name, await test.enrol(part));
  const issue = async (by: string, holderId: string, at: object): Promise<Issued> => {
    const answer = await player(by).client.post<Issued>('/card-certificates', await cardOf(holderId, at));
    if (answer.status !== 201) throw new Error(JSON.stringify(answer.body));
    return answer.body;
  };
  victim = await issue('clerk', 'victim', desk('SHIBUYA01', shibuya));
  stranger = await issue('other clerk', 'stranger', desk('NAKANO001', nakano));
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

const pathOf = ({ certificates }: Issued, kind: string): string => {
  const found = certificates.find((each) => each.kind === kind);
  return `/certificates/${found?.authority}/${found?.serialNumber}`;
};
type Attempt = (by: Enrolled['client']) => Promise<Answer<unknown>>;
const post =
  (path: string | (() => string), body: () => unknown = () => undefined): Attempt =>
  async (by) =>
    by.post(typeof path === 'string' ? path : path(), await body());
const get =
  (path: string | (() => string)): Attempt =>
  (by) =>
    by.get(typeof path === 'string' ? path : path());
const rights = async () => ({
  ...{ name: `accomplice ${crypto.randomUUID()}`, kind: 'person', roles: ['administrator'], desks: [] },
  request: (await ownKey()).request,
});

/** Who tries what, and how it is answered: 202 waits for a second person, and nothing is done. */
const attempts: readonly (readonly [who: string, what: string, attempt: Attempt, status: number])[] = [
  [
    'clerk',
    'issues to another town’s resident',
    post('/card-certificates', () => cardOf('stranger', desk('SHIBUYA01', shibuya), { cardId: 'c-1' })),
    403,
  ],
  [
    'clerk',
    'issues in the name of another town',
    post('/card-certificates', () => cardOf('new-1', desk('SHIBUYA01', nakano))),
    403,
  ],
  [
    'clerk',
    'issues in the name of another desk',
    post('/card-certificates', () => cardOf('new-2', desk('NAKANO001', nakano))),
    403,
  ],
  [
    'clerk',
    'issues to a new holder with the name and address of another',
    post('/card-certificates', () =>
      cardOf('new-3', desk('SHIBUYA01', shibuya), { basicFour: basicFourOf('victim') }),
    ),
    202,
  ],
  [
    'clerk',
    'puts a card of its own in the place of a good one',
    post('/card-certificates', () =>
      cardOf('victim', desk('SHIBUYA01', shibuya), {
        cardId: 'c-2',
        replacesCardId: 'card-of-victim',
        event: 'card-exchanged',
      }),
    ),
    202,
  ],
  [
    'clerk',
    'orders such cards',
    post('/card-orders', () => ({
      deskCode: 'SHIBUYA01',
      event: 'card-exchanged',
      cards: [{ holderId: 'victim', cardId: 'c-3', replacesCardId: 'card-of-victim' }],
    })),
    202,
  ],
  [
    'clerk',
    'takes another’s card number',
    post('/card-certificates', () =>
      cardOf('new-4', desk('SHIBUYA01', shibuya), { cardId: 'card-of-stranger' }),
    ),
    409,
  ],
  ['clerk', 'enrols phones', post('/phone-challenges'), 403],
  ['clerk', 'revokes', post('/events', () => ({ event: 'card-returned', cardId: 'card-of-victim' })), 403],
  ['clerk', 'looks holders up', get('/holders/victim'), 403],
  ['clerk', 'enrols an accomplice', post('/clients', rights), 403],
  [
    'portal',
    'issues to a card',
    post('/card-certificates', () => cardOf('new-5', { deskCode: 'ONLINE001', municipalityCode: shibuya })),
    403,
  ],
  [
    'portal',
    'issues to a phone without the card’s signature',
    post('/phone-certificates', () => ({ deviceId: 'p-1', signedEnrolment: 'AAAA' })),
    400,
  ],
  [
    'portal',
    'gives a phone up without its signature',
    post('/phone-revocations', () => ({ signedRevocation: 'AAAA' })),
    400,
  ],
  [
    'portal',
    'has a holder’s notices sent elsewhere',
    post('/holders/victim/notices', () => ({ signedWishes: 'AAAA' })),
    400,
  ],
  ['portal', 'sees who looked a holder up', get('/holders/victim/accesses'), 400],
  [
    'portal',
    'allows a phone by a code',
    post('/enrolment-codes', () => ({ holderId: 'victim', cardId: 'card-of-victim', deskCode: 'ONLINE001' })),
    403,
  ],
  ['reader', 'looks another town’s resident up', get('/holders/stranger'), 404],
  ['reader', 'looks another town’s certificate up', get(() => pathOf(stranger, 'card-signing')), 404],
  ['reader', 'sees who else looked', get('/holders/victim/accesses'), 400],
  [
    'reader',
    'lists holders in bulk',
    post('/exports', () => ({ what: 'renewals', ground: 'curiosity' })),
    202,
  ],
  ['reader', 'revokes', post('/events', () => ({ event: 'card-returned', cardId: 'card-of-victim' })), 403],
  ['reader', 'reads the outbox', get('/outbox?state=waiting'), 403],
  ['reader', 'reads certificates that are bound to no holder yet', get('/certificates?adopted'), 403],
  [
    'revoker',
    'revokes another town’s card',
    post('/events', () => ({ event: 'card-returned', cardId: 'card-of-stranger' })),
    404,
  ],
  [
    'revoker',
    'revokes another town’s certificate',
    post(
      () => `${pathOf(stranger, 'card-signing')}/changes`,
      () => ({ action: 'revoke', reason: 'keyCompromise' }),
    ),
    404,
  ],
  [
    'revoker',
    'holds the phones of the nation',
    post('/restrictions', () => ({ match: { platform: 'android' }, emergency: true })),
    403,
  ],
  ['revoker', 'blocks a key', post('/blocked-keys', () => ({ keyHash: 'a'.repeat(64) })), 403],
  [
    'revoker',
    'opens a holder who is not closed',
    post('/holders/victim/corrections', () => ({ note: 'x' })),
    409,
  ],
  ['revoker', 'issues', post('/card-certificates', () => cardOf('new-6', desk('SHIBUYA01', shibuya))), 403],
  [
    'nation’s revoker',
    'blocks keys before they are certified',
    post('/blocked-keys', () => ({ keyHash: 'b'.repeat(64) })),
    202,
  ],
  ['administrator', 'makes the second person', post('/clients', rights), 202],
  [
    'administrator',
    'gives itself more roles',
    post(
      () => `/clients/${player('administrator').fingerprint}/binding`,
      () => ({ roles: ['administrator', 'issuer'] }),
    ),
    202,
  ],
  [
    'administrator',
    'gives a reader the nation',
    post(
      () => `/clients/${player('reader').fingerprint}/binding`,
      () => ({ municipalities: ['*'] }),
    ),
    202,
  ],
  [
    'administrator',
    'gets a certificate in another’s name',
    post(
      () => `/clients/${player('clerk').fingerprint}/certificates`,
      async () => ({ request: (await ownKey()).request }),
    ),
    202,
  ],
  [
    'administrator',
    'records a desk of its own',
    post('/desks', () => ({ ...desk('SHIBUYA09', shibuya), kind: 'counter' })),
    202,
  ],
  [
    'administrator',
    'issues',
    post('/card-certificates', () => cardOf('new-7', desk('SHIBUYA01', shibuya))),
    403,
  ],
  ['administrator', 'looks holders up', get('/holders/victim'), 403],
  ['administrator', 'takes the record’s time back', post('/clock/corrections', () => ({})), 409],
  [
    'OCSP node',
    'answers for an authority that it is not bound to',
    post('/responder-certificates', async () => ({
      authority: 'signing-9',
      request: (await ownKey()).request,
    })),
    403,
  ],
  ['OCSP node', 'looks holders up', get('/holders/victim'), 403],
  [
    'OCSP node',
    'revokes',
    post('/events', () => ({ event: 'card-returned', cardId: 'card-of-victim' })),
    403,
  ],
  [
    'CRL node',
    'signs OCSP responses',
    post('/responder-certificates', async () => ({
      authority: 'signing-1',
      request: (await ownKey()).request,
    })),
    403,
  ],
  ['CRL node', 'looks holders up', get('/holders/victim'), 403],
  ['verifier', 'looks a holder up by a certificate', get(() => pathOf(victim, 'card-signing')), 403],
  ['verifier', 'sees what others asked', get('/holders/victim/accesses'), 403],
  [
    'verifier',
    'revokes',
    post(
      () => `${pathOf(victim, 'card-signing')}/changes`,
      () => ({ action: 'revoke', reason: 'keyCompromise' }),
    ),
    403,
  ],
  [
    'TSM',
    'confirms the storage of a card’s certificates',
    post(
      () => `/issuances/${victim.issuanceId}/storage`,
      () => ({ stored: false }),
    ),
    404,
  ],
  ['TSM', 'confirms what it was not ordered', post(`/orders/${crypto.randomUUID()}/confirmation`), 404],
  ['TSM', 'enrols a phone', post('/phone-challenges'), 403],
  ['TSM', 'looks holders up', get('/holders/victim'), 403],
];

const stateOf = async (issued: Issued): Promise<string> => {
  using database = new DatabaseSync(join(test.folder, 'record.db'), { readOnly: true });
  const serial = issued.certificates[0]?.serialNumber;
  expect(serial).toBeDefined();
  const row = database
    .prepare('SELECT state FROM certificate WHERE issuanceId = ? ORDER BY kind DESC LIMIT 1')
    .get(issued.issuanceId);
  return String(row?.state);
};

describe('one who is alone and malicious', () => {
  it.each(attempts)('as %s, fails: %s', async (who, _what, attempt, status) => {
    const answer = await attempt(player(who).client);
    expect([answer.status, answer.body]).toEqual([status, expect.anything()]);
    expect([await stateOf(victim), await stateOf(stranger)]).toEqual(['good', 'good']);
  });

  it('approves nothing of its own, in any role', async () => {
    for (const [who, path] of [
      ['clerk', '/card-orders'],
      ['reader', '/exports'],
      ['administrator', '/clients'],
    ] as const) {
      const { client } = player(who);
      const { body } = await client.get<{ proposals: { proposalId: string; planHash: string }[] }>(
        '/proposals',
      );
      expect([path, body.proposals.length > 0]).toEqual([path, true]);
      for (const { proposalId, planHash } of body.proposals)
        expect((await client.post(`/proposals/${proposalId}/approval`, { planHash })).status).toBe(403);
      const { body: all } = await client.post<{ approved: string[] }>('/proposal-approvals', {
        proposals: body.proposals.map(({ proposalId, planHash }) => ({ proposalId, planHash })),
      });
      expect(all.approved).toEqual([]);
    }
  });

  it('does nothing with another’s certificate, whose key it has not', async () => {
    const own = await ownKey();
    await expect(test.through(own.key, player('clerk').certificate).get('/health')).rejects.toThrow();
  });
});

/** Waits until the log says it, and expects the document to name it. */
async function seen(said: string, named = said): Promise<void> {
  expect(operations).toContain(named);
  await expect.poll(() => test.log(), { timeout: 60_000, interval: 250 }).toContain(said);
}

describe('what one who is alone can do is seen', { timeout: 90_000 }, () => {
  it('a revoker who ends many: what is beyond its number is held, and warned of', async () => {
    const { client } = player('revoker');
    const cards = [];
    for (const holderId of ['many-1', 'many-2']) {
      const body = await cardOf(holderId, desk('SHIBUYA01', shibuya));
      cards.push((await player('clerk').client.post<Issued>('/card-certificates', body)).body);
      const ended = await client.post('/events', { event: 'card-returned', cardId: `card-of-${holderId}` });
      expect(ended.status).toBe(cards.length === 1 ? 200 : 202);
    }
    expect(await stateOf(cards[1] as Issued)).toBe('held');
    await test.service.reload();
    await seen('"kind":"revocations-wait"', '`revocations-wait`');
    await seen(
      'ALARM: what one person has held waits for another',
      'what one person has held waits for another',
    );
  });

  it('a revoker of the nation who holds all phones in an emergency: warned of, until another approves', async () => {
    const body = { match: { platform: 'android' }, emergency: true };
    expect((await player('nation’s revoker').client.post('/restrictions', body)).status).toBe(201);
    await test.service.reload();
    await seen('"kind":"hold-unconfirmed"', '`hold-unconfirmed`');
  });

  it('an administrator who shuts the others out: warned of as soon as too few are left, and never the last', async () => {
    const { client } = player('administrator');
    const { body } = await client.get<{ clients: { fingerprint: string; roles: string[]; name: string }[] }>(
      '/clients',
    );
    const others = body.clients.filter(
      ({ roles, name }) => roles.includes('administrator') && name !== 'third administrator',
    );
    const end = (fingerprint: string) => client.post(`/clients/${fingerprint}/revocation`, undefined);
    for (const { fingerprint } of others) expect((await end(fingerprint)).status).toBe(200);
    expect((await end(player('administrator').fingerprint)).status).toBe(409);
    await test.service.reload();
    await seen('"kind":"too-few-approvers"', '`too-few-approvers`');
  });

  it('an OCSP node that asks for more delegations than it needs', async () => {
    const ask = async () =>
      player('OCSP node').client.post('/responder-certificates', {
        ...{ authority: 'signing-1', request: (await ownKey()).request },
      });
    const answers = [await ask(), await ask(), await ask()].map(({ status }) => status);
    expect(answers.some((status) => status >= 400)).toBe(true);
    await seen('ALARM: this client has had', 'this client has had');
  });

  it('a database administrator who makes a certificate good, gives a client a role, or takes look-ups out', async () => {
    const record = new DatabaseSync(join(test.folder, 'record.db'));
    record.exec(`UPDATE client SET roles = '["administrator"]' WHERE name = 'clerk'`);
    record.exec(
      "UPDATE certificate SET state = 'good', reason = NULL, revokedMs = NULL, heldBy = NULL WHERE state = 'held'",
    );
    record.close();
    await seen(
      'ALARM: the record was altered outside the service',
      'the record was altered outside the service',
    );
    const accesses = new DatabaseSync(join(test.folder, 'accesses.db'));
    accesses.exec('DELETE FROM access WHERE sequence = 2');
    accesses.close();
    await seen(
      'ALARM: the log of who looked holders up was altered',
      'the log of who looked holders up was altered',
    );
  });
});

describe('a backup operator', () => {
  it('neither copies the record elsewhere, nor restores, alone; and what it altered is refused', async () => {
    const folder = scratch();
    const copy = (file: string) =>
      withNode(test.folder, 'backup', 'everything', async (node) => void (await makeBackup(node, file, [])));
    await expect(copy(join(folder, 'stolen.db'))).rejects.toMatchObject({ code: 'approval-needed' });
    mkdirSync(join(folder, 'own'));
    const stolen = join(folder, 'own', 'record.db');
    copyFileSync(join(test.folder, 'record.db'), stolen);
    // What holders are called is sealed, under keys that the token wraps.
    expect(readFileSync(stolen).includes(Buffer.from('番号　花子'))).toBe(false);
    await test.service.close();
    await expect(restore(stolen, { data: test.folder, acceptLoss: true })).rejects.toMatchObject({
      code: expect.stringMatching(/^(approval-needed|bad-request|record-unavailable)$/),
    });
    writeFileSync(stolen, 'not a record');
    await expect(restore(stolen, { data: test.folder, acceptLoss: true })).rejects.toThrow();
    rmSync(folder, { recursive: true });
  });
});
