import { chmodSync, cpSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { contentHashOf, firstAnswer } from '../../ca/api/event-report.ts';
import { certificatesToStore } from '../../ca/api/present.ts';
import { applyForCard, type CardRequest } from '../../ca/issue/card.ts';
import { issue } from '../../ca/issue.ts';
import { lockData } from '../../core/runtime/data-lock.ts';
import { askOcsp, cardRequest, derOf, fetchCrl, generateChipKey, ocspRequest } from '../support/actors.ts';
import {
  fixture,
  freePort,
  ManualClock,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
  warifu,
} from '../support/harness.ts';

// A data folder of an earlier version, killed at its work, is opened by this one. The clock goes on from when it was made:
// its certificates end like any others. For the same reason nothing here goes through the API, whose TLS the machine's clock
// judges.

interface Named {
  readonly holderId: string;
  readonly cardId: string;
  readonly issuanceId: string;
}
const facts = JSON.parse(readFileSync(fixture('record-3/facts.json'), 'utf8')) as {
  readonly madeAt: string;
  readonly good: Named;
  readonly revoked: Named;
  readonly held: Named;
  readonly renewed: Named;
  readonly phones: Readonly<Record<string, string>>;
  readonly restricted: readonly string[];
  readonly reserved: string;
};

let folder: string;
let test: TestService;
let closed: Promise<void> | undefined;
const close = (): Promise<void> => {
  closed ??= test.close();
  return closed;
};
let verifiedBefore: ReturnType<typeof warifu>;
let refused: ReturnType<typeof warifu>;

beforeAll(async () => {
  folder = join(scratch(), 'data');
  cpSync(fixture('record-3/node-1'), folder, { recursive: true });
  for (const entry of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const path = join(folder, entry);
    chmodSync(path, statSync(path).isDirectory() ? 0o700 : 0o600);
  }
  const file = join(folder, 'warifu.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as Record<'api' | 'ocsp' | 'crl', object>;
  for (const service of ['api', 'ocsp', 'crl'] as const)
    config[service] = { ...config[service], port: await freePort() };
  writeFileSync(file, JSON.stringify(config));
  // As a service of the earlier version holds it.
  const lock = lockData(folder, ['owner'], 'a service');
  refused = warifu('audit', 'verify', '--data', folder);
  lock.release();
  verifiedBefore = warifu('audit', 'verify', '--data', folder);
  const clock = new ManualClock();
  clock.step(Date.parse(facts.madeAt) + 60_000 - Date.now());
  test = await startTestService({ folder, clock });
}, 60_000);
afterAll(async () => {
  await close();
  removeScratch();
});

const statesOf = async (issuanceId: string): Promise<string[]> =>
  (await test.service.ca.store.issuance(issuanceId)).certificates.map(({ state }) => state);

describe('a record of schema 3', () => {
  it('is not touched by a command while a service has the folder', () => {
    expect(refused).toMatchObject({ code: 1, output: expect.stringMatching(/in-use/) });
  });

  it('is verified as it is migrated', () => {
    expect(verifiedBefore).toMatchObject({ code: 0 });
  });

  it('says of every certificate what it said before', async () => {
    const { good, revoked, held, renewed, phones } = facts;
    expect(await statesOf(good.issuanceId)).toEqual(['good', 'good']);
    expect(await statesOf(phones[good.holderId] ?? '')).toEqual(['good', 'good']);
    expect(await statesOf(revoked.issuanceId)).toEqual(['revoked', 'revoked']);
    expect(await statesOf(phones[revoked.holderId] ?? '')).toEqual(['revoked', 'revoked']);
    expect(await statesOf(held.issuanceId)).toEqual(['held', 'held']);
    expect(await statesOf(phones[held.holderId] ?? '')).toEqual(['held', 'held']);
    const { certificates } = (await test.service.ca.store.holder(renewed.holderId)) ?? { certificates: [] };
    expect(certificates.filter(({ state }) => state === 'good')).toHaveLength(2);
  });

  it('completes what was reserved, and goes on holding what a restriction had begun to', async () => {
    expect(await statesOf(facts.reserved)).toEqual(['good', 'good']);
    await expect
      .poll(async () => (await Promise.all(facts.restricted.map(statesOf))).flat())
      .toEqual(Array.from({ length: 6 }, () => 'held'));
  });

  it('answers an event that is reported again as it was answered by the earlier version', async () => {
    const { ca } = test.service;
    const body = { event: 'card-returned', cardId: facts.revoked.cardId, eventId: 'fixture-1' };
    const contentHash = await contentHashOf(ca, body);
    const found = await Promise.all(
      (await ca.clients.list(null, 10)).map(({ fingerprint }) =>
        firstAnswer(ca, fingerprint, { eventId: body.eventId, contentHash }),
      ),
    );
    expect(found.filter((answer) => answer !== undefined)).toEqual([
      {
        status: 200,
        body: expect.objectContaining({
          dryRun: false,
          changes: expect.arrayContaining([expect.objectContaining({ kind: 'phone-signing' })]),
        }),
      },
    ]);
  });

  it('opens what it sealed, answers by OCSP and CRL, and issues', async () => {
    const { ca, addresses } = test.service;
    const { certificates } = await ca.store.issuance(facts.revoked.issuanceId);
    const [signing] = certificates.filter(({ kind }) => kind === 'card-signing');
    if (!signing) throw new Error('no signing certificate');
    const [issuer, crl] = [
      await fetchCrl(`${addresses.crl}/ca/signing-1.cer`),
      await fetchCrl(`${addresses.crl}/crl/${signing.shard}.crl`),
    ];
    expect(crl.length).toBeGreaterThan(200);
    const stored = (await certificatesToStore(ca, facts.revoked.issuanceId)) as { certificate: string }[];
    expect(stored).toHaveLength(2);
    const leaf = derOf(stored[0]?.certificate ?? '');
    const says = Buffer.from(await askOcsp(addresses.ocsp, await ocspRequest(leaf, issuer)));
    // revoked [1] with its time.
    expect(says.toString('hex')).toMatch(/a1(11|16)180f/);
    // Not from the pool of keys, which the fixture was made with, too.
    const [one, two] = [await generateChipKey(), await generateChipKey()];
    const by = {
      scope: {
        client: 'x',
        route: 'card',
        idempotencyKey: 'k',
        bodyHash: new Uint8Array(32),
        expiresMs: ca.clock.wallMs() + 60_000,
      },
      actor: { client: 'x', role: 'counter', requestId: 'r' },
      mass: false,
    };
    const keys = { signing: one, authentication: two };
    const request = cardRequest(keys, { holderId: 'later', cardId: 'later' }) as CardRequest;
    const issued = await issue(ca, await applyForCard(ca, request, by));
    expect(issued?.certificates).toHaveLength(2);
  });

  it('is verified after this version has written in it', async () => {
    await close();
    expect(warifu('audit', 'verify', '--data', folder)).toMatchObject({ code: 0 });
  });
});
