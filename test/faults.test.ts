import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import pkcs11 from 'pkcs11js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, Issued } from '../ca/client/client.ts';
import { layout } from '../ca/node/layout.ts';
import { findModule } from '../hsm/pkcs11/find-module.ts';
import { trimLabel } from '../hsm/pkcs11/habits.ts';
import {
  askOcsp,
  cardRequest,
  derOf,
  fetchCrl,
  makeChipKey,
  ocspRequest,
  pemOf,
  until,
} from './support/actors.ts';
import {
  dataFolder,
  issueCard,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
} from './support/harness.ts';

// What happens when the token, the disk, the database or the clock fails; and that it heals.

let test: TestService;
beforeAll(async () => {
  test = await startTestService({ folder: await dataFolder({ pkcs11: { signedLog: true } }) });
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

let names = 0;
const cardBody = async () => {
  names += 1;
  const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
  return cardRequest(keys, { holderId: `fault-${names}`, cardId: `fault-${names}` });
};
const health = async (): Promise<number> => (await test.api.get('/health')).status;
const issue = (body: object, key: string): Promise<Answer<Issued>> =>
  test.api.post('/card-certificates', body, key);
const problem = (answer: Answer<unknown>): [number, string] => [
  answer.status,
  (answer.body as { title: string }).title,
];

/** Another user of the same module in this process, who does harm. */
function vandal(): { library: pkcs11.PKCS11; slots: pkcs11.Handle[] } {
  const library = new pkcs11.PKCS11();
  library.load(findModule());
  const slots = library
    .C_GetSlotList(true)
    .filter((slot) => /^(ca|ocsp)-/.test(trimLabel(library.C_GetTokenInfo(slot).label)));
  return { library, slots };
}

/**
 * Closes every session under those who have them. Not while a signature is being made: SoftHSM frees the key it is made with
 * and crashes.
 */
async function closeSessions({ library, slots }: ReturnType<typeof vandal>): Promise<void> {
  await new Promise((done) => setTimeout(done, 300));
  for (const slot of slots) library.C_CloseAllSessions(slot);
}

/** Certificates in the signer's own log. */
const certificatesSigned = (): number =>
  readFileSync(layout(test.folder).signedLog, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('certificate')).length;

describe('a token', () => {
  it('whose sessions are closed under us, login and all, is logged in to again', async () => {
    const harm = vandal();
    expect(harm.slots).toHaveLength(2);
    await closeSessions(harm);
    expect((await issue(await cardBody(), 'closed')).status).toBe(201);
    await closeSessions(harm);
    expect(await health()).toBe(200);
    const ca = await fetchCrl(`${test.service.addresses.crl}/ca/signing-1.cer`);
    await closeSessions(harm);
    expect((await askOcsp(test.service.addresses.ocsp, await ocspRequest(ca, ca))).length).toBeGreaterThan(
      100,
    );
  });

  it('that is gone is 503, health is red, OCSP says tryLater; when it is back all of it heals', async () => {
    const holder = await issueCard(test.api);
    const ca = await fetchCrl(`${test.service.addresses.crl}/ca/signing-1.cer`);
    const query = await ocspRequest(derOf(pemOf(holder.card, 'card-signing')), ca);
    const tokens = join(layout(test.folder).softhsm, 'tokens');
    const harm = vandal();
    renameSync(tokens, `${tokens}.gone`);
    // Its keys are files: with them gone, and no session that has them open, the token answers nothing.
    await closeSessions(harm);
    const body = await cardBody();
    expect(problem(await issue(body, 'gone'))).toEqual([503, 'token-unavailable']);
    // Reserved, and held before it is signed: its event, reported again, is still being worked on.
    const { holderId, cardId } = holder;
    const moved = { holderId, cardId, event: 'moved', eventId: 'gone-1' };
    const moving = cardRequest({ signing: await makeChipKey() }, moved);
    expect(problem(await test.api.post('/card-certificates', moving))).toEqual([503, 'token-unavailable']);
    expect((await test.api.post('/events', { event: 'card-lost', cardId })).status).toBe(200);
    expect(problem(await test.api.post('/card-certificates', moving))).toEqual([409, 'request-in-progress']);
    expect(await health()).toBe(503);
    expect(Buffer.from(await askOcsp(test.service.addresses.ocsp, query)).toString('hex')).toBe('30030a0103');
    renameSync(`${tokens}.gone`, tokens);
    await until('health is green', async () => (await health()) === 200);
    await until('OCSP answers', async () => (await askOcsp(test.service.addresses.ocsp, query)).length > 100);
    // What was refused before it was reserved is simply issued; what was reserved is rolled forward.
    await until('the request is answered', async () => {
      test.clock.advance(10_000);
      return (await issue(body, 'gone')).status === 201;
    });
    const { body: record } = await test.api.get<{ certificates: object[] }>(`/holders/${body.holderId}`);
    expect(record.certificates).toHaveLength(2);
  });
});

describe('a database', () => {
  it('that is locked is 503, signs nothing, writes nothing, and heals', async () => {
    const other = new DatabaseSync(layout(test.folder).record);
    other.exec('BEGIN IMMEDIATE');
    const body = await cardBody();
    const before = certificatesSigned();
    expect(problem(await issue(body, 'locked'))).toEqual([503, 'record-unavailable']);
    expect(await health()).toBe(503);
    expect(certificatesSigned()).toBe(before);
    other.exec('ROLLBACK');
    other.close();
    expect((await test.api.get(`/holders/${body.holderId}`)).status).toBe(404);
    expect((await issue(body, 'locked')).status).toBe(201);
  });

  it.skipIf(process.getuid?.() !== 0)(
    'on a disk that is full is 503, signs nothing, writes nothing, and heals (a small disk wants root)',
    async () => {
      const disk = scratch();
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', disk]);
      try {
        const folder = join(disk, 'data');
        mkdirSync(folder);
        writeFileSync(
          join(folder, 'warifu.json'),
          readFileSync(join(await dataFolder({ pkcs11: { signedLog: false } }), 'warifu.json')),
        );
        const full = await startTestService({ folder });
        const ballast = join(disk, 'ballast');
        const { bavail, bsize } = statfsSync(disk);
        writeFileSync(ballast, Buffer.alloc(bavail * bsize));
        const body = await cardBody();
        expect(problem(await full.api.post('/card-certificates', body, 'full'))).toEqual([
          503,
          'record-unavailable',
        ]);
        rmSync(ballast);
        expect((await full.api.get('/health')).status).toBe(200);
        expect((await full.api.get(`/holders/${body.holderId}`)).status).toBe(404);
        expect((await full.api.post('/card-certificates', body, 'full')).status).toBe(201);
        await full.close();
      } finally {
        execFileSync('umount', [disk]);
      }
    },
  );
});

describe('a clock', () => {
  it('that steps back issues nothing until it is right again; OCSP and revocation go on', async () => {
    const holder = await issueCard(test.api);
    const ca = await fetchCrl(`${test.service.addresses.crl}/ca/signing-1.cer`);
    const query = await ocspRequest(derOf(pemOf(holder.card, 'card-signing')), ca);
    const body = await cardBody();
    test.clock.step(-3_600_000);
    const before = certificatesSigned();
    expect(problem(await issue(body, 'back'))).toEqual([503, 'clock-unreliable']);
    expect(certificatesSigned()).toBe(before);
    expect((await askOcsp(test.service.addresses.ocsp, query)).length).toBeGreaterThan(100);
    expect((await test.api.post('/events', { event: 'card-returned', cardId: holder.cardId })).status).toBe(
      200,
    );
    test.clock.step(3_600_000);
    expect((await issue(body, 'back')).status).toBe(201);
  });
});
