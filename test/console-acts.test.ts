import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Issued } from '../ca/client/client.ts';
import { bindAdministrator, eraseYearOf, makeBackup, makeGeneration } from '../ca/node/guarded-acts.ts';
import { layout } from '../ca/node/layout.ts';
import type { OperatorNode } from '../ca/node/node.ts';
import { restore } from '../ca/node/restore-command.ts';
import { startService } from '../ca/node/service.ts';
import { openNode } from '../ca/node/wiring.ts';
import { PkiError } from '../core/runtime/errors.ts';
import { cardRequest, makeChipKey } from './support/actors.ts';
import { ManualClock, removeScratch, scratch } from './support/harness.ts';
import { dayMs } from './support/holder-rules.ts';
import { ownKey } from './support/own-key.ts';
import {
  basicFourOf,
  municipalities,
  type ProductionService,
  planOf,
  type Signatory,
  shibuya,
  signPlan,
  startProduction,
} from './support/production.ts';

// Acts with the service stopped, and others at the console: in production two administrators sign the plan of each, and it is on record.

const silent = pino({ level: 'silent' });

/** What a command says that is refused. */
async function refused(act: Promise<unknown>): Promise<PkiError> {
  try {
    await act;
  } catch (error) {
    if (error instanceof PkiError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

let test: ProductionService;
let folder: string;
let one: Signatory;
let two: Signatory;
let twin: Signatory;
let clerk: Signatory;
let robot: Signatory;
let year: number;
const clock = new ManualClock();

beforeAll(async () => {
  test = await startProduction({ municipalities });
  folder = test.folder;
  [one, two] = test.signatories;
  const [enrolledClerk, enrolledRobot] = [
    await test.enrol({ name: 'clerk', kind: 'person', roles: ['reader'] }),
    await test.enrol({ name: 'robot', kind: 'system', roles: ['administrator'] }),
  ];
  clerk = { key: enrolledClerk.own.key, certificate: enrolledClerk.certificate };
  robot = { key: enrolledRobot.own.key, certificate: enrolledRobot.certificate };
  const own = await ownKey();
  const { body } = await test.administrators[0].post<{ certificate: string }>('/client-certificates', {
    request: own.request,
    additional: true,
  });
  twin = { key: own.key, certificate: body.certificate };
  await test.approved('/desks', { deskCode: 'SHIBUYA01', kind: 'counter', municipalityCode: shibuya });
  const issuer = await test.enrol({
    name: 'issuer',
    kind: 'person',
    roles: ['issuer'],
    desks: ['SHIBUYA01'],
  });
  const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
  const at = { holderId: 'h-1', cardId: 'c-1', deskCode: 'SHIBUYA01', municipalityCode: shibuya };
  const { body: issued } = await issuer.client.post<Issued>(
    '/card-certificates',
    cardRequest(keys, { ...at, basicFour: basicFourOf('h-1') }),
  );
  year = new Date(issued.certificates[0]?.notAfter ?? '').getUTCFullYear();
  await test.close();
});
afterAll(() => removeScratch());

async function at<T>(by: ManualClock, act: (node: OperatorNode) => Promise<T>): Promise<T> {
  const node = await openNode({ folder, clock: by, mode: 'open' });
  try {
    return await act(node);
  } finally {
    await node.close();
  }
}

const suite = 'p384-sha384';
const generation = (files: readonly string[], by = clock) =>
  at(by, (node) => makeGeneration(node, suite, files));
const generationPlan = async () => planOf((await refused(generation([]))).message);
const metaOf = (prefix: string): { name: string; value: string }[] => {
  using database = new DatabaseSync(layout(folder).record, { readOnly: true });
  const found = database.prepare('SELECT name, value FROM meta WHERE name LIKE ?').all(`${prefix}%`);
  return found as { name: string; value: string }[];
};

describe('a new generation', () => {
  it('is not made by one person, nor by one twice, nor by who is no administrator', async () => {
    const plan = await generationPlan();
    expect(JSON.parse(readFileSync(plan, 'utf8'))).toMatchObject({
      act: 'new-generation',
      arguments: [suite],
      does: [expect.stringMatching(/generation 2 of the signing and the authentication CA/)],
    });
    const signed = signPlan(plan, one);
    for (const [files, code, what] of [
      [[signed], 'bad-request', /2 files are required/],
      [[signed, signed], 'forbidden', /one person has signed twice/],
      [[signed, signPlan(plan, twin)], 'forbidden', /one person has signed twice/],
      [[signed, signPlan(plan, clerk)], 'forbidden', /no administrator/],
      [[signed, signPlan(plan, robot)], 'forbidden', /is a system/],
      [[signed, signPlan(plan, two), signPlan(plan, two)], 'bad-request', /2 files are required/],
      [[signed, plan], 'invalid-signed-request', /not a CMS SignedData/],
      [[signed, join(folder, 'none.cms')], 'bad-request', /there is no file/],
      [[signed, signPlan(plan, two, '1.2.840.113549.1.7.1')], 'invalid-signed-request', /eContentType/],
    ] as const)
      expect(await refused(generation(files))).toMatchObject({ code, message: expect.stringMatching(what) });
    expect(metaOf('console-act:')).toEqual([]);
  });

  it('is not made by a plan of another act, of another suite, that was altered, or that has ended', async () => {
    const plan = await generationPlan();
    const altered = join(scratch(), 'altered.json');
    const parsed = JSON.parse(readFileSync(plan, 'utf8')) as Record<string, unknown>;
    const both = (file: string) => [signPlan(file, one), signPlan(file, two)];
    for (const [change, what] of [
      [{ arguments: ['rsa2048-sha256'] }, /arguments: is/],
      [{ act: 'backup' }, /act: is "backup"/],
      [{ record: 'another' }, /record: is/],
      [{ does: ['nothing'] }, /does: is/],
      [{ validUntil: undefined }, /is no plan/],
    ] as const) {
      writeFileSync(altered, JSON.stringify({ ...parsed, ...change }));
      expect((await refused(generation(both(altered)))).message).toMatch(what);
    }
    expect((await refused(generation([signPlan(plan, one), signPlan(altered, two)]))).message).toMatch(
      /of different plans/,
    );
    const files = both(plan);
    const later = new ManualClock();
    later.advance(dayMs + 1000);
    expect((await refused(generation(files, later))).message).toMatch(/ask for another/);
    // Nor where the machine's clock has stepped back to before it was made.
    const earlier = new ManualClock();
    earlier.advance(-dayMs);
    expect((await refused(generation(files, earlier))).message).toMatch(/ask for another/);
  });

  it('is made as two administrators have signed for it, once, and is on record with both', async () => {
    const plan = await generationPlan();
    const files = [signPlan(plan, one), signPlan(plan, two)];
    expect(await generation(files)).toEqual(
      expect.arrayContaining([expect.stringMatching(/^signing-2 p384-sha384/)]),
    );
    const [act] = metaOf('console-act:');
    expect(JSON.parse(act?.value ?? '{}')).toMatchObject({
      act: 'new-generation',
      approvedBy: [expect.stringMatching(/^[0-9a-f]{64}$/), expect.stringMatching(/^[0-9a-f]{64}$/)],
    });
    // What it would do now is another generation; the plan itself is used up all the same.
    expect((await refused(generation(files))).code).toBe('plan-changed');
  });
});

describe('an edited configuration', () => {
  it('turns no signing off that no two persons have allowed', async () => {
    const { config } = layout(folder);
    const before = readFileSync(config, 'utf8');
    const acts = { 'new-generation': 'off', backup: 'off', restore: 'off' };
    const edited = { ...(JSON.parse(before) as object), approvals: { acts } };
    const backup = join(scratch(), 'edited.db');
    writeFileSync(config, JSON.stringify(edited));
    expect((await refused(generation([]))).message).toMatch(/no two persons have allowed it/);
    expect((await refused(at(clock, (node) => makeBackup(node, backup, [])))).message).toMatch(
      /no two persons/,
    );
    writeFileSync(config, before);
    const plan = planOf((await refused(at(clock, (node) => makeBackup(node, backup, [])))).message);
    await at(clock, (node) => makeBackup(node, backup, [signPlan(plan, one), signPlan(plan, two)]));
    writeFileSync(config, JSON.stringify(edited));
    expect(await refused(restore(backup, { data: folder, acceptLoss: true }))).toMatchObject({
      code: 'approval-needed',
    });
    writeFileSync(config, before);
  });

  it('lasts no longer than such a plan may, whatever it says of itself', async () => {
    const plan = await generationPlan();
    const parsed = JSON.parse(readFileSync(plan, 'utf8')) as object;
    const longer = join(scratch(), 'longer.json');
    writeFileSync(longer, JSON.stringify({ ...parsed, validUntil: '2099-01-01T00:00:00.000Z' }));
    const files = [signPlan(longer, one), signPlan(longer, two)];
    expect((await refused(generation(files))).message).toMatch(/ask for another/);
  });
});

describe('a backup', () => {
  it('is made to the folder that two have signed for, any number of times for 90 days, and to no other', async () => {
    const target = scratch();
    const backUp = (name: string, files: readonly string[], by = clock) =>
      at(by, (node) => makeBackup(node, join(target, name), files));
    const plan = planOf((await refused(backUp('a.db', []))).message);
    const files = [signPlan(plan, one), signPlan(plan, two)];
    await backUp('a.db', files);
    await backUp('b.db', files);
    expect(existsSync(join(target, 'b.db'))).toBe(true);
    expect(
      metaOf('backup:')
        .map(({ value }) => value)
        .slice(-2),
    ).toEqual([join(target, 'a.db'), join(target, 'b.db')]);
    const other = at(clock, (node) => makeBackup(node, join(scratch(), 'stolen.db'), files));
    expect((await refused(other)).code).toBe('plan-changed');
    const later = new ManualClock();
    later.advance(91 * dayMs);
    expect((await refused(backUp('c.db', files, later))).message).toMatch(/ask for another/);
  });
});

describe('a restore', () => {
  it('is made as two have signed for what it would do, whom the token knows, and is on record at the next start', async () => {
    const target = scratch();
    const backup = join(target, 'record.db');
    const standing = planOf((await refused(at(clock, (node) => makeBackup(node, backup, [])))).message);
    await at(clock, (node) => makeBackup(node, backup, [signPlan(standing, one), signPlan(standing, two)]));
    const run = (approvedBy: string[]) => restore(backup, { data: folder, acceptLoss: true, approvedBy });
    const before = readFileSync(layout(folder).record);
    const plan = planOf((await refused(run([]))).message);
    expect(readFileSync(layout(folder).record).equals(before)).toBe(true);
    expect(JSON.parse(readFileSync(plan, 'utf8'))).toMatchObject({
      act: 'restore',
      arguments: expect.arrayContaining([backup, '--accept-loss']),
      does: [expect.stringMatching(/certificates changed since the backup/)],
    });
    for (const [who, what] of [
      [twin, /one person has signed twice/],
      [clerk, /the token knows its certificate as none of an administrator/],
      [robot, /the token knows its certificate as none of an administrator/],
    ] as const)
      expect((await refused(run([signPlan(plan, one), signPlan(plan, who)]))).message).toMatch(what);
    const files = [signPlan(plan, one), signPlan(plan, two)];
    await run(files);
    expect(metaOf('console-act:').some(({ value }) => value.includes('"restore"'))).toBe(false);
    const service = await startService({ folder, clock, logger: silent });
    expect(metaOf('console-act:').some(({ value }) => value.includes('"restore"'))).toBe(true);
    expect(existsSync(layout(folder).consoleActs)).toBe(false);
    await service.close();
    expect((await refused(run(files))).message).toMatch(/has been carried out|is .* in the plan/);
  });
});

describe('erasing a year', () => {
  it('says which backups and replaced records hold its key, and erases it from ours', async () => {
    const later = new ManualClock();
    later.advance((year + 1 - new Date(later.wallMs()).getUTCFullYear()) * 366 * dayMs);
    const erase = (files: readonly string[]) => at(later, (node) => eraseYearOf(node, year, files));
    const plan = planOf((await refused(erase([]))).message);
    const { does } = JSON.parse(readFileSync(plan, 'utf8')) as { does: string[] };
    expect(does).toEqual([
      `erases the key of all personal data of certificates that ended in ${year}`,
      expect.stringMatching(/^erases it from .*record\.db\.replaced-\d+$/),
      ...Array.from({ length: 4 }, () => expect.stringMatching(/^leaves it in the backup .* of 20/)),
    ]);
    expect((await refused(erase([signPlan(plan, one)]))).code).toBe('bad-request');
    const { replaced } = await erase([signPlan(plan, one), signPlan(plan, two)]);
    for (const file of [layout(folder).record, ...replaced]) {
      using database = new DatabaseSync(file, { readOnly: true });
      const row = database.prepare('SELECT 1 FROM dataKey WHERE name = ?').get(`year:${year}`);
      expect([file, row]).toEqual([file, undefined]);
    }
  });
});

describe('binding at the console', () => {
  it('takes two who were administrators and were not shut out, though their certificates have ended', async () => {
    const later = new ManualClock();
    later.advance(3700 * dayMs);
    const pin = readFileSync(join(folder, 'secrets', 'warifu-ca.pin'), 'utf8').trim();
    const bound = { fingerprint: 'a'.repeat(64), name: 'third', roles: ['administrator'], pin };
    const bind = (files: readonly string[]) => at(later, (node) => bindAdministrator(node, bound, files));
    const plan = planOf((await refused(bind([]))).message);
    expect((await refused(bind([signPlan(plan, one), signPlan(plan, clerk)]))).message).toMatch(
      /no administrator/,
    );
    const files = [signPlan(plan, one), signPlan(plan, two)];
    await bind(files);
    // What it would do is the same: but the plan is used up.
    expect((await refused(bind(files))).message).toMatch(/has been carried out/);
    expect(metaOf('console-act:').some(({ value }) => value.includes('console-binding'))).toBe(true);
  });
});
