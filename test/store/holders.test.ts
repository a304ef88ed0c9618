import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { ChangeCommand, ReserveCommand } from '../../store/api/certificate-store.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';
import type { RecordStore } from '../../store/rules/certificate-store.ts';
import { RecordHolders } from '../../store/rules/holder-store.ts';
import { ManualClock, removeScratch } from '../support/harness.ts';
import { dropDatabases } from '../support/postgres.ts';
import {
  actor,
  day,
  implementations,
  keyOf,
  openAuthority,
  StoreCommands,
  signed,
} from '../support/store-commands.ts';

// What the record keeps of holders: reports, standing, what awaits its delivery. One contract, every implementation.

afterAll(removeScratch);
afterAll(dropDatabases);

describe.each(implementations)('holders in %s', (_name, open) => {
  const clock = new ManualClock();
  let database: RecordDatabase;
  let store: RecordStore;
  let holders: RecordHolders;
  let commands: StoreCommands;

  beforeEach(async () => {
    database = await open({ writer: 'n1', clock });
    await openAuthority(database, clock);
    commands = new StoreCommands(database, clock);
    store = commands.store;
    holders = new RecordHolders({ database, clock });
    return () => database.close();
  });

  const scope = (client?: string) => commands.scope(client);
  const report = (eventId: string | null, content = 'a') => ({
    event: 'moved',
    mediumId: null,
    eventId,
    contentHash: Buffer.from(content.padEnd(32)),
    occurredMs: clock.wallMs() - 1000,
  });

  const tell = (holderId: string, overrides: Partial<ChangeCommand> = {}) =>
    store.change({
      scope: scope(),
      actor,
      target: { type: 'holder', holderId },
      plan: { type: 'event', event: 'moved', target: { type: 'holder', holderId } },
      knownAfterMs: 0,
      ...overrides,
    });

  const complete = (command: ReserveCommand) =>
    store.complete({
      issuanceId: command.issuanceId,
      actor,
      certificates: signed(command),
    });
  const issue = async (overrides: Partial<ReserveCommand> = {}): Promise<ReserveCommand> => {
    const command = await commands.command(overrides);
    await store.reserve(command);
    await complete(command);
    return command;
  };
  /** A card that takes the place of another. */
  const successor = async (
    of: ReserveCommand,
    succession: object,
    waitMs?: number,
  ): Promise<ReserveCommand> => {
    const command = await commands.command();
    const { holderId, mediumId } = of.medium;
    const target = { type: 'medium', mediumId } as const;
    return {
      ...command,
      medium: { ...command.medium, holderId },
      succession: {
        event: 'card-exchanged',
        target,
        overlapMs: 0,
        slots: ['signing', 'authentication'],
        occurredMs: null,
        ...succession,
      },
      arrival: {
        waits: waitMs === undefined ? 'nothing' : 'successors',
        waitMs: waitMs ?? 0,
        handedOver: null,
      },
    };
  };
  const states = async (holderId: string): Promise<string[]> =>
    ((await store.holder(holderId))?.certificates ?? []).map(({ state }) => state).sort();

  it('keep a report under its caller’s id, with its answer, for ever; other content under it is refused', async () => {
    const { medium } = await issue();
    const { holderId } = medium;
    await tell(holderId, { report: report('e-1') });
    expect(await store.reported(actor.client, 'e-1')).toMatchObject({
      answer: { type: 'outcome' },
      issuanceId: null,
    });
    expect(await store.reported('d'.repeat(64), 'e-1')).toBeUndefined();
    await expect(tell(holderId, { report: report('e-1', 'b') })).rejects.toMatchObject({
      code: 'event-id-reused',
    });
    await expect(tell(holderId, { report: report('e-1') })).rejects.toMatchObject({
      code: 'request-in-progress',
    });
    await tell(holderId, { report: report('e-1'), scope: scope('d'.repeat(64)) });
    await tell(holderId, { report: report(null) });
    await tell(holderId, { report: report(null) });
    const { facts } = (await store.holder(holderId)) ?? {};
    expect(facts?.events.map(({ eventId }) => eventId).sort()).toEqual(['e-1', 'e-1', null, null]);
  });

  it('forget the report of an issuance that was revoked while it was being issued', async () => {
    const first = await issue();
    const next = await successor(first, { report: report('e-2') });
    await store.reserve(next);
    expect(await store.reported(actor.client, 'e-2')).toMatchObject({ issuanceId: next.issuanceId });
    const [certificate] = next.certificates;
    const key = keyOf(certificate as CertificateId);
    await store.change({
      scope: scope(),
      actor,
      target: { type: 'certificate', key },
      knownAfterMs: 0,
      plan: {
        type: 'certificate',
        key,
        change: { action: 'revoke', reason: 'cessationOfOperation', invalidityMs: null },
      },
    });
    await expect(complete(next)).rejects.toMatchObject({ code: 'revoked-while-issuing' });
    expect(await store.reported(actor.client, 'e-2')).toBeUndefined();
    expect(await states(first.medium.holderId)).toEqual(['good', 'good', 'revoked', 'revoked']);
  });

  it('refuse issuing to a closed holder until what closed it is undone by what may', async () => {
    const { medium } = await issue();
    const { holderId } = medium;
    const stand = (event: string) =>
      tell(holderId, {
        plan: { type: 'event', event, target: { type: 'holder', holderId } },
        knownAfterMs: 0,
        report: { ...report(null), event },
      });
    const again = async () =>
      store.reserve(await commands.command({ medium: commands.card(undefined, holderId) }));
    await stand('left-register');
    await expect(again()).rejects.toMatchObject({ code: 'holder-closed', message: /left-register/ });
    await stand('returned-to-register');
    await again();
    await stand('died');
    await stand('left-register');
    await expect(stand('returned-to-register')).rejects.toMatchObject({ code: 'holder-closed' });
    expect((await store.holder(holderId))?.standing).toMatchObject({
      closedBy: 'died',
      reopens: 'correction',
    });
    const by = (client: string) => ({ scope: scope(client), actor });
    const correctionId = crypto.randomUUID();
    await holders.proposeCorrection({ ...by('a'), correctionId, holderId, note: 'x' });
    await expect(holders.approveCorrection({ ...by('a'), correctionId })).rejects.toMatchObject({
      code: 'forbidden',
    });
    await holders.approveCorrection({ ...by('b'), correctionId });
    await expect(holders.withdrawCorrection({ ...by('a'), correctionId })).rejects.toMatchObject({
      code: 'illegal-transition',
    });
    expect((await store.holder(holderId))?.standing).toMatchObject({ closedBy: null });
    expect(await holders.corrections(holderId)).toMatchObject([
      { state: 'approved', proposedBy: 'a', approvedBy: 'b' },
    ]);
  });

  it('hold a successor until it is confirmed, and settle in the end what is not', async () => {
    const first = await issue();
    const { holderId } = first.medium;
    const next = await successor(first, {}, day);
    await store.reserve(next);
    expect(await complete(next)).toMatchObject({ isAwaited: true, replaced: [{}, {}] });
    expect(await states(holderId)).toEqual(['good', 'good', 'held', 'held']);
    expect((await store.holder(holderId))?.facts.awaited).toMatchObject([{ issuanceId: next.issuanceId }]);
    await store.endWaits('revoke');
    expect(await states(holderId)).toEqual(['good', 'good', 'held', 'held']);
    clock.advance(day + 1000);
    await store.endWaits('revoke');
    await store.endWaits('revoke');
    expect(await states(holderId)).toEqual(['good', 'good', 'revoked', 'revoked']);
    expect((await store.holder(holderId))?.facts.awaited).toEqual([]);
  });

  it('settle each of what is due by itself: one that cannot be keeps no other from it', async () => {
    const issued = await Promise.all([issue(), issue()]);
    const next: ReserveCommand[] = [];
    for (const first of issued) {
      const command = await successor(first, {}, 1000);
      await store.reserve(command);
      await complete(command);
      next.push(command);
    }
    clock.advance(2000);
    const [broken, fine] = next.map(({ issuanceId }) => issuanceId);
    const { run } = database;
    database.run = (rule, input, nowMs) =>
      (input as { issuanceId?: string }).issuanceId === broken
        ? Promise.reject(new Error('cannot be settled'))
        : (run.call(database, rule, input, nowMs) as never);
    await expect(store.endWaits('revoke')).rejects.toThrow('cannot be settled');
    const awaited = await Promise.all(
      issued.map(async ({ medium }) => (await store.holder(medium.holderId))?.facts.awaited.length),
    );
    expect(awaited).toEqual([1, 0]);
    expect(fine).toBeDefined();
  });
});
