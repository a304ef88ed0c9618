import { randomBytes } from 'node:crypto';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { leasePlaces } from '../../ca/issue/shards.ts';
import type { TokenMemory } from '../../core/crypto/signer.ts';
import type { FeedBatch, FeedFollower, StatusEvent } from '../../core/feed/feed.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { StatusChange } from '../../core/model/revocation.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import type { Medium, Phone, ReserveCommand } from '../../store/api/certificate-store.ts';
import { clientIdOf, type KnownClient } from '../../store/api/client-store.ts';
import { actsOfEntry, entryFault, rowsOfEntry } from '../../store/engine/audit-entry.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';
import type { RecordStore } from '../../store/rules/certificate-store.ts';
import { RecordClients } from '../../store/rules/client-store.ts';
import { RecordOutbox } from '../../store/rules/outbox-store.ts';
import { RecordRetention } from '../../store/rules/retention-store.ts';
import {
  incarnationMemory,
  incarnationOf,
  leaseMark,
  leaseMemory,
  refuseOlderRecord,
} from '../../store/rules/token-memory.ts';
import { ManualClock, memoryTokenMemory, removeScratch } from '../support/harness.ts';
import { dropDatabases } from '../support/postgres.ts';
import {
  actor,
  day,
  implementations,
  keyOf,
  openAuthority,
  StoreCommands,
  shardSeries,
  signed,
  writeRows,
} from '../support/store-commands.ts';

// One contract, every implementation of the record.

afterAll(removeScratch);
afterAll(dropDatabases);

class Recorder implements FeedFollower {
  readonly batches: FeedBatch[] = [];

  apply(batch: FeedBatch): void {
    this.batches.push(batch);
  }

  statuses(): StatusEvent[] {
    return this.batches.flatMap(({ events }) => events).filter((event) => event.type === 'status');
  }
}

describe.each(implementations)('the record in %s', (_name, open) => {
  const clock = new ManualClock();
  let database: RecordDatabase;
  let store: RecordStore;
  let tokenMemory: TokenMemory;
  let commands: StoreCommands;

  beforeEach(async () => {
    database = await open({ writer: 'n1', clock });
    await openAuthority(database, clock);
    commands = new StoreCommands(database, clock);
    ({ store, tokenMemory } = commands);
    return () => database.close();
  });

  const scope: StoreCommands['scope'] = (...given) => commands.scope(...given);
  const card: StoreCommands['card'] = (...given) => commands.card(...given);
  const draft: StoreCommands['draft'] = (...given) => commands.draft(...given);
  const command: StoreCommands['command'] = (...given) => commands.command(...given);

  const complete = (reserved: ReserveCommand) =>
    store.complete({
      issuanceId: reserved.issuanceId,
      actor,
      certificates: signed(reserved),
    });

  const issue = async (overrides: Partial<ReserveCommand> = {}): Promise<ReserveCommand> => {
    const reserved = await command(overrides);
    await store.reserve(reserved);
    await complete(reserved);
    return reserved;
  };

  const change = (key: CertificateId, what: StatusChange) =>
    store.change({
      scope: scope(),
      actor,
      target: { type: 'certificate', key },
      plan: { type: 'certificate', key, change: what },
      knownAfterMs: 0,
    });

  const first = (reserved: ReserveCommand): CertificateId => {
    const [certificate] = reserved.certificates;
    if (!certificate) throw new Error('an issuance without certificates');
    return keyOf(certificate);
  };
  const revoke: StatusChange = { action: 'revoke', reason: 'superseded', invalidityMs: null };

  describe('transactions', () => {
    it('keep nothing of a body that throws, and everything of its neighbours in the same commit', async () => {
      const holder = (holderId: string) => ({ holderId, createdMs: 1 });
      const results = await Promise.allSettled([
        writeRows(database, (tx) => tx.insert('holder', holder('a'))),
        writeRows(database, (tx) => {
          tx.insert('holder', holder('b'));
          throw new Error('changed my mind');
        }),
        writeRows(database, (tx) => tx.insert('holder', holder('c'))),
      ]);
      expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
      const holders = await database.read((reader) => reader.find('holder', {}));
      expect(holders.map(({ holderId }) => holderId)).toEqual(['a', 'c']);
    });

    it('refuse a second row of the same key, and an update of none', async () => {
      const row = { holderId: 'a', createdMs: 1 };
      await writeRows(database, (tx) => tx.insert('holder', row));
      await expect(writeRows(database, (tx) => tx.insert('holder', row))).rejects.toThrow();
      await expect(
        writeRows(database, (tx) =>
          tx.update('holder', { ...row, holderId: 'z', createdMs: 2 }, { ...row, holderId: 'z' }),
        ),
      ).rejects.toThrow();
    });

    it('write the others of a commit of which one cannot be written, and need no probe that writes', async () => {
      const holder = (holderId: string) => ({ holderId, createdMs: 1 });
      await writeRows(database, (tx) => tx.insert('holder', holder('a')));
      const results = await Promise.allSettled([
        writeRows(database, (tx) => tx.insert('holder', holder('b'))),
        writeRows(database, (tx) => tx.insert('holder', { holderId: 'x\0', createdMs: 1 })),
        writeRows(database, (tx) => tx.insert('holder', holder('a'))),
        writeRows(database, (tx) => tx.insert('holder', holder('c'))),
      ]);
      expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled']);
      await database.probe();
      const rows = await database.read((reader) => reader.find('holder', {}));
      expect(rows.map(({ holderId }) => holderId)).toEqual(['a', 'b', 'c']);
      expect(await database.read((reader) => reader.get('meta', { name: 'probe' }))).toBeUndefined();
    });

    it('find rows by key prefix, in order, after a point, descending, limited', async () => {
      await writeRows(database, (tx) => {
        for (let position = 10; position > 0; position--)
          tx.insert('event', { writer: 'w', position, body: '{}' });
      });
      const positions = (options: object) =>
        database.read(async (reader) =>
          (await reader.find('event', { writer: 'w' }, options)).map((row) => row.position),
        );
      expect(await positions({ after: 7 })).toEqual([8, 9, 10]);
      expect(await positions({ limit: 2 })).toEqual([1, 2]);
      expect(await positions({ descending: true, limit: 2 })).toEqual([10, 9]);
      expect(await positions({ descending: true, after: 3 })).toEqual([2, 1]);
    });

    it('show readers nothing that is not committed', async () => {
      let reading: Promise<unknown[]> | undefined;
      await writeRows(database, (tx) => {
        tx.insert('holder', { holderId: 'a', createdMs: 1 });
        // Asked now, answered from what is committed by then: never from within this transaction.
        reading = database.read((reader) => reader.find('holder', {}));
        throw new Error('rolled back');
      }).catch(() => undefined);
      expect(await reading).toEqual([]);
    });
  });

  describe('issuing', () => {
    it('reserves, completes, and answers the same request with the issuance', async () => {
      const reserved = await issue();
      expect(await store.replay(reserved.scope)).toEqual({
        type: 'issuance',
        issuanceId: reserved.issuanceId,
      });
      const { certificates: views } = await store.issuance(reserved.issuanceId);
      expect(views.map(({ kind, state }) => [kind, state])).toEqual([
        ['card-signing', 'good'],
        ['card-authentication', 'good'],
      ]);
      expect(await store.encoding(first(reserved))).toMatchObject({
        toBeSigned: { key: 'year:2031' },
        signature: Uint8Array.of(9),
      });
    });

    it('keeps signatures of a pair, and that it was issued, in one row, and gives each its own', async () => {
      const reserved = await command();
      await store.reserve(reserved);
      const signatures = [Uint8Array.of(1, 2, 3), Uint8Array.of(4, 5)];
      const certificates = reserved.certificates.map((each, n) => ({
        ...keyOf(each),
        signature: signatures[n] ?? new Uint8Array(),
      }));
      // In whatever order they are named.
      await store.complete({
        issuanceId: reserved.issuanceId,
        actor,
        certificates: certificates.toReversed(),
      });
      for (const { signature, ...key } of certificates) {
        expect(Buffer.from((await store.encoding(key))?.signature ?? []).equals(signature)).toBe(true);
        expect(await store.history(key)).toEqual([
          expect.objectContaining({ ...key, change: 'issued', reason: null, actor }),
        ]);
      }
      const rows = await database.read((reader) => ({
        signatures: reader.find('signature', {}),
        history: reader.find('history', keyOf(first(reserved))),
        holder: reader.get('holder', { holderId: reserved.medium.holderId }),
      }));
      expect(rows).toEqual({ signatures: [], history: [], holder: undefined });
      expect(await store.holder(reserved.medium.holderId)).toMatchObject({ media: [reserved.medium] });
    });

    it('lists what ends before a time in the order of ends, page by page, and neither what has ended nor what was revoked', async () => {
      const nowMs = Math.floor(clock.wallMs());
      const ends = [40, 20, -1, 30, 10, -2].map((days) => nowMs + days * day);
      const issued: ReserveCommand[] = [];
      for (const notAfterMs of ends) {
        const { certificates, ...rest } = await command();
        issued.push(
          await issue({ ...rest, certificates: certificates.map((each) => ({ ...each, notAfterMs })) }),
        );
      }
      const [, , , revoked] = issued;
      if (revoked) await change(first(revoked), revoke);
      const found: number[] = [];
      let pages = 0;
      for (let next: CertificateId | undefined, more = true; more; pages += 1) {
        const page = await store.endingBefore(nowMs + 35 * day, next, 3);
        found.push(...page.ending.map(({ notAfterMs }) => (notAfterMs - nowMs) / day));
        next = page.next;
        more = next !== undefined;
      }
      // Of a pair that was revoked in part one is in force.
      expect(found).toEqual([10, 10, 20, 20, 30]);
      expect(pages).toBe(3);
      await expect(
        store.endingBefore(nowMs, { ...first(issued[0] as ReserveCommand), position: 10 ** 9 }, 3),
      ).rejects.toMatchObject({ code: 'not-found' });
    });

    it('says of what is held until it arrives that it was issued held', async () => {
      const issued = await issue({ arrival: { waits: 'all', waitMs: day, handedOver: null } });
      expect(await store.history(first(issued))).toEqual([
        expect.objectContaining({ change: 'issued', reason: 'certificateHold' }),
      ]);
    });

    it('fails no request that came by the key of one that had expired', async () => {
      const reserved = await command();
      await store.reserve(reserved);
      clock.advance(2 * day);
      const next = await command({ scope: { ...reserved.scope, expiresMs: clock.wallMs() + day } });
      await issue(next);
      await change(first(reserved), revoke);
      await expect(complete(reserved)).rejects.toMatchObject({ code: 'revoked-while-issuing' });
      expect(await store.replay(next.scope)).toMatchObject({ issuanceId: next.issuanceId });
      clock.step(-2 * day);
    });

    it('says nothing of an issue where a certificate was revoked before it was signed', async () => {
      const reserved = await command();
      await store.reserve(reserved);
      await change(first(reserved), revoke);
      await expect(complete(reserved)).rejects.toMatchObject({ code: 'revoked-while-issuing' });
      const history = await store.history({ holderId: reserved.medium.holderId });
      expect(history.map(({ change: what, cause }) => [what, cause.event])).toEqual([
        ['revoked', 'certificate'],
        ['revoked', 'sibling-revoked-while-issuing'],
      ]);
    });

    it('shows no encoding of what is only reserved, and answers its request with request-in-progress', async () => {
      const reserved = await command();
      await store.reserve(reserved);
      expect(await store.encoding(first(reserved))).toBeUndefined();
      await expect(store.replay(reserved.scope)).rejects.toMatchObject({ code: 'request-in-progress' });
      const pending = await store.pendingReservations('own-and-expired');
      expect(pending).toEqual([reserved.issuanceId]);
      expect((await store.reservation(reserved.issuanceId)).certificates).toHaveLength(2);
      expect(await store.pendingReservations('expired')).toEqual([]);
    });

    it('lets another node take a reservation over when its lease has run out', async () => {
      await store.reserve(await command());
      clock.advance(61_000);
      expect(await store.pendingReservations('expired')).toHaveLength(1);
      clock.step(-61_000);
    });

    it('refuses another body under the same idempotency key, on replay and on reserve', async () => {
      const reserved = await issue();
      const other = { ...reserved.scope, bodyHash: Buffer.alloc(32, 1) };
      await expect(store.replay(other)).rejects.toMatchObject({ code: 'idempotency-key-reused' });
      await expect(store.reserve(await command({ scope: other }))).rejects.toMatchObject({
        code: 'idempotency-key-reused',
      });
    });

    it('forgets an answer when its retention is over', async () => {
      const reserved = await issue();
      clock.advance(2 * day);
      expect(await store.replay(reserved.scope)).toBeUndefined();
      clock.step(-2 * day);
    });

    it('certifies a public key once, ever, and keeps nothing of a request it refuses', async () => {
      const used = (await issue()).certificates[0]?.keyHash ?? randomBytes(32);
      const sibling = randomBytes(32);
      const pair = async (signingKey: Uint8Array) => [
        await draft('card-signing', { keyHash: signingKey }),
        await draft('card-authentication', { keyHash: sibling }),
      ];
      const refused = await command({ certificates: await pair(used) });
      await expect(store.reserve(refused)).rejects.toMatchObject({ code: 'already-certified' });
      await issue({ certificates: await pair(randomBytes(32)) });
    });

    it('refuses a second key in the same request that is the first', async () => {
      const keyHash = randomBytes(32);
      const certificates = [
        await draft('card-signing', { keyHash }),
        await draft('card-authentication', { keyHash }),
      ];
      await expect(store.reserve(await command({ certificates }))).rejects.toMatchObject({
        code: 'already-certified',
      });
    });

    it('fills a slot once at a time, also while it is only reserved', async () => {
      const reserved = await command();
      await store.reserve(reserved);
      const again = await command({ medium: reserved.medium });
      await expect(store.reserve(again)).rejects.toMatchObject({ code: 'slot-occupied' });
    });

    it('issues signing alone where the old one is revoked and the authentication certificate is good', async () => {
      const reserved = await issue();
      const alone = async () =>
        command({ medium: reserved.medium, certificates: [await draft('card-signing')] });
      await expect(store.reserve(await alone())).rejects.toMatchObject({ code: 'slot-occupied' });
      await change(first(reserved), revoke);
      await store.reserve(await alone());
    });

    it('refuses signing alone on a card of which nothing is good', async () => {
      await expect(
        store.reserve(await command({ certificates: [await draft('card-signing')] })),
      ).rejects.toMatchObject({
        code: 'slot-occupied',
      });
    });

    it('refuses a card of another holder, and a second card in force', async () => {
      const reserved = await issue();
      const { mediumId, holderId } = reserved.medium;
      await expect(store.reserve(await command({ medium: { ...card(99), mediumId } }))).rejects.toMatchObject(
        {
          code: 'medium-belongs-to-another-holder',
        },
      );
      await expect(store.reserve(await command({ medium: card(98, holderId) }))).rejects.toMatchObject({
        code: 'quota-exceeded',
      });
    });

    it('gives each place on a CRL shard once, and opens the next shard where one is full', async () => {
      const recorder = new Recorder();
      await store.feed.follow(recorder, undefined, new AbortController().signal);
      const lease = (places: number) => leasePlaces(store, shardSeries('card-signing', 5), places);
      const leases = await Promise.all([lease(2), lease(2), lease(2), lease(9)]);
      expect(leases.map(({ shard: { shard }, places }) => [shard, places])).toEqual([
        ['card-signing/1/13113/0', 2],
        ['card-signing/1/13113/0', 2],
        ['card-signing/1/13113/0', 1],
        ['card-signing/1/13113/1', 5],
      ]);
      expect(
        recorder.batches.flatMap(({ events }) => events).filter(({ type }) => type === 'shard'),
      ).toHaveLength(2);
    });

    it('completes once, however often it is asked to', async () => {
      const reserved = await issue();
      const recorder = new Recorder();
      await store.feed.follow(recorder, undefined, new AbortController().signal);
      const before = recorder.statuses().length;
      await complete(reserved);
      expect(recorder.statuses().length).toBe(before);
    });

    it('revokes the whole issuance where one certificate was revoked while being signed', async () => {
      const reserved = await command();
      await store.reserve(reserved);
      await change(first(reserved), revoke);
      await expect(complete(reserved)).rejects.toMatchObject({ code: 'revoked-while-issuing' });
      const { certificates: views } = await store.issuance(reserved.issuanceId);
      expect(views.map(({ state }) => state)).toEqual(['revoked', 'revoked']);
      await expect(store.replay(reserved.scope)).rejects.toMatchObject({ code: 'revoked-while-issuing' });
    });
  });

  describe('phones', () => {
    const phone = (holder: Medium, n: number): Medium => ({
      ...card(n, holder.holderId),
      mediumId: `phone:${n}`,
      type: 'phone',
      restsOn: holder.mediumId,
      platform: 'android',
    });

    const phoneCommand = async (
      issued: ReserveCommand,
      challengeHash: Uint8Array,
      n = 1,
    ): Promise<ReserveCommand> => {
      const [signing, authentication] = issued.certificates.map(keyOf);
      return command({
        medium: phone(issued.medium, n),
        certificates: [
          await draft('phone-signing', { restsOn: signing ?? null }),
          await draft('phone-authentication', { restsOn: authentication ?? null }),
        ],
        challengeHash,
        evidence: { key: 'year:2031', octets: Uint8Array.of(1) },
      });
    };

    const challenge = async (expiresMs = clock.wallMs() + 600_000): Promise<Uint8Array> => {
      const challenge = randomBytes(32);
      await store.putChallenge({ scope: scope(), actor, challenge, expiresMs });
      return digest('sha256', challenge);
    };

    it('use a challenge once', async () => {
      const [one, two] = [await issue(), await issue()];
      const given = await challenge();
      await store.reserve(await phoneCommand(one, given, 1));
      await expect(store.reserve(await phoneCommand(two, given, 2))).rejects.toMatchObject({
        code: 'challenge-not-usable',
      });
    });

    it('cannot use a challenge that was never given, has expired, or is another client’s', async () => {
      const issued = await issue();
      const unusable = { code: 'challenge-not-usable' };
      await expect(store.reserve(await phoneCommand(issued, randomBytes(32)))).rejects.toMatchObject(
        unusable,
      );
      const late = await challenge(clock.wallMs() - 1);
      await expect(store.reserve(await phoneCommand(issued, late))).rejects.toMatchObject(unusable);
      const given = await challenge();
      const foreign = await phoneCommand(issued, given);
      await expect(
        store.reserve({ ...foreign, scope: { ...foreign.scope, client: 'x' } }),
      ).rejects.toMatchObject(unusable);
    });

    it('rest on a card certificate that is good at the moment of reserving', async () => {
      const issued = await issue();
      await change(first(issued), { action: 'hold', by: 'event' });
      const late = await phoneCommand(issued, await challenge());
      await expect(store.reserve(late)).rejects.toMatchObject({ code: 'card-certificate-not-good' });
    });

    it('are limited for each platform', async () => {
      const issued = await issue();
      await store.reserve(await phoneCommand(issued, await challenge(), 1));
      const second = await phoneCommand(issued, await challenge(), 2);
      await expect(store.reserve(second)).rejects.toMatchObject({ code: 'quota-exceeded' });
      const other = { ...second, medium: { ...(second.medium as Phone), platform: 'ios' } };
      await store.reserve(other);
    });
  });

  describe('changes', () => {
    it('write status, event, history and answer together', async () => {
      const issued = await issue();
      const recorder = new Recorder();
      await store.feed.follow(recorder, undefined, new AbortController().signal);
      await change(first(issued), revoke);
      expect(await store.certificate(first(issued))).toMatchObject({
        state: 'revoked',
        reason: 'superseded',
        version: 2,
      });
      expect(recorder.statuses().at(-1)).toMatchObject({ change: 'revoked', version: 2, state: 'revoked' });
      const history = await store.history({ holderId: issued.medium.holderId });
      expect(history.map(({ change: what }) => what)).toEqual(['issued', 'issued', 'revoked']);
      expect(history.at(-1)).toMatchObject({ actor, cause: { event: 'certificate' } });
    });

    it('do nothing, and say nothing, where nothing changes', async () => {
      const issued = await issue();
      await change(first(issued), revoke);
      const recorder = new Recorder();
      await store.feed.follow(recorder, undefined, new AbortController().signal);
      const before = recorder.statuses().length;
      await change(first(issued), revoke);
      expect(recorder.statuses().length).toBe(before);
    });

    it('are all refused where one is illegal', async () => {
      const issued = await issue();
      await change(first(issued), revoke);
      await expect(change(first(issued), { action: 'release', by: 'event' })).rejects.toMatchObject({
        code: 'illegal-transition',
      });
      await expect(change(first(issued), { action: 'hold', by: 'event' })).rejects.toMatchObject({
        code: 'illegal-transition',
      });
    });

    it('are only planned by a preview', async () => {
      const issued = await issue();
      const key = first(issued);
      const plan = { type: 'certificate', key, change: revoke } as const;
      const preview = await store.preview({ target: { type: 'certificate', key }, plan });
      expect(preview.changes).toHaveLength(1);
      expect(await store.certificate(key)).toMatchObject({ state: 'good' });
    });

    it('reach no holder who does not exist', async () => {
      for (const target of [
        { type: 'holder', holderId: 'nobody' },
        { type: 'medium', mediumId: 'card:none' },
        { type: 'certificate', key: { authority: 'signing-1', epoch: 1, position: 10 ** 9 } },
      ] as const) {
        const plan = { type: 'event', event: 'moved', target } as const;
        await expect(store.preview({ target, plan })).rejects.toMatchObject({ code: 'not-found' });
      }
    });
  });

  describe('the feed', () => {
    it('gives each follower every event once and in order, from the start or from its cursor', async () => {
      await issue();
      const early = new Recorder();
      const stop = new AbortController();
      await store.feed.follow(early, undefined, stop.signal);
      const cursor = early.batches.at(-1)?.cursor;
      await issue();
      const late = new Recorder();
      await store.feed.follow(late, cursor, stop.signal);
      const all = early.batches.flatMap(({ events }) => events);
      expect(early.statuses()).toHaveLength(4);
      expect(all.slice(-late.statuses().length)).toEqual(late.statuses());
      expect(all[0]).toMatchObject({ type: 'epoch' });
    });

    it('moves its watermark on without events', async () => {
      const recorder = new Recorder();
      await store.feed.follow(recorder, undefined, new AbortController().signal);
      clock.advance(5000);
      await store.feed.deliver();
      expect(recorder.batches.at(-1)?.events).toEqual([]);
      expect(recorder.batches.at(-1)?.watermarkMs).toBeGreaterThanOrEqual(clock.wallMs() - 1000);
    });

    it('refuses a cursor of another record, or beyond this one', async () => {
      const recorder = new Recorder();
      const { signal } = new AbortController();
      await store.feed.follow(recorder, undefined, signal);
      const incarnation = recorder.batches.at(-1)?.cursor.incarnation ?? '';
      const follow = (cursor: { incarnation: string; positions: Record<string, number> }) =>
        store.feed.follow(new Recorder(), cursor, signal);
      await expect(follow({ incarnation: 'other', positions: {} })).rejects.toMatchObject({
        code: 'not-found',
      });
      await expect(follow({ incarnation, positions: { n1: 10 ** 6 } })).rejects.toMatchObject({
        code: 'not-found',
      });
    });

    it('stops with its signal', async () => {
      const recorder = new Recorder();
      const stop = new AbortController();
      await store.feed.follow(recorder, undefined, stop.signal);
      stop.abort();
      const before = recorder.batches.length;
      await issue();
      expect(recorder.batches.length).toBe(before);
    });
  });

  describe('positions', () => {
    it('are leased to one caller only', async () => {
      const leases = await Promise.all(
        Array.from({ length: 20 }, () => store.leasePositions('signing-1', 8)),
      );
      const firsts = leases.map(({ first: from }) => from).sort((a, b) => a - b);
      expect(firsts).toEqual(Array.from({ length: 20 }, (_, i) => i * 8));
    });

    it('are remembered by the token before they are used', async () => {
      const { epoch, end } = await store.leasePositions('signing-1', 8);
      expect(await tokenMemory.recall(leaseMemory('signing-1'))).toBe(leaseMark(epoch, end));
    });

    it('of an authority without an epoch do not exist', async () => {
      await expect(store.leasePositions('signing-9', 1)).rejects.toMatchObject({ code: 'not-found' });
    });

    it('refuse to start from a record that is older than the token remembers', async () => {
      const memory = memoryTokenMemory();
      const unknown = {
        code: 'record-unavailable',
        message: expect.stringContaining('does not know this record'),
      };
      await expect(refuseOlderRecord(database, memory)).rejects.toMatchObject(unknown);
      await memory.remember(incarnationMemory(await incarnationOf(database)), 1);
      await writeRows(database, (tx) =>
        tx.insert('authority', {
          authority: 'signing-1',
          slot: 'signing',
          generation: 1,
          suite: 'rsa2048-sha256',
          certificate: Uint8Array.of(0),
          createdMs: 0,
        }),
      );
      await store.leasePositions('signing-1', 8);
      await expect(refuseOlderRecord(database, memory)).resolves.toBeUndefined();
      await memory.remember('lease:signing-1', 2 ** 40 + 9);
      await expect(refuseOlderRecord(database, memory)).rejects.toMatchObject({ code: 'record-unavailable' });
    });
  });

  it('purges old messages of every state, also behind orders that are not confirmed', async () => {
    const outbox = new RecordOutbox({ database, clock });
    const retention = new RecordRetention({ database, clock });
    const row = (messageId: string, dueMs: number | null, state = 'delivered') => ({
      messageId,
      type: 'holder-notice',
      destination: 'holder',
      holderId: 'h',
      mediumId: null,
      authority: 'signing-1',
      epoch: 1,
      position: 1,
      kind: 'card-signing',
      occasion: 'revoked',
      reason: null,
      createdMs: 1,
      state,
      attempts: 0,
      dueMs,
      lastError: null,
      deliveredMs: 1,
      confirmedMs: null,
    });
    await writeRows(database, (tx) => {
      for (let n = 0; n < 1100; n += 1)
        tx.insert('message', row(`a${String(n).padStart(5, '0')}`, clock.wallMs() + day));
      tx.insert('message', row('b', null));
      tx.insert('message', row('c', null, 'confirmed'));
    });
    while (await retention.purgeMessages(clock.wallMs()));
    expect(await outbox.message('b')).toBeUndefined();
    expect(await outbox.message('c')).toBeUndefined();
    expect(await outbox.message('a01099')).toBeDefined();
  });

  describe('clients', () => {
    const client = {
      fingerprint: 'f'.repeat(64),
      name: 'counter',
      ...({ kind: 'system', roles: ['issuer'], desks: ['DESK00001'] } as const),
    };
    const bindingEndsMs = 10 ** 13;

    it('are bound once and shut out once', async () => {
      const clients = new RecordClients({ database, clock });
      const { fingerprint } = client;
      await clients.add({ scope: scope(), actor, client, bindingEndsMs });
      expect(await clients.client(fingerprint)).toMatchObject({ roles: ['issuer'], revokedMs: null });
      await expect(clients.add({ scope: scope(), actor, client, bindingEndsMs })).rejects.toMatchObject({
        code: 'bad-request',
      });
      await clients.revoke({ scope: scope(), actor, fingerprint });
      const { revokedMs } = (await clients.client(fingerprint)) ?? {};
      expect(revokedMs).toBeTypeOf('number');
      clock.advance(1000);
      await clients.revoke({ scope: scope(), actor, fingerprint });
      expect((await clients.client(fingerprint))?.revokedMs).toBe(revokedMs);
    });

    it('stay who they are when they renew, and are shut out with all their certificates', async () => {
      const clients = new RecordClients({ database, clock });
      const first = '1'.repeat(64);
      await clients.add({
        scope: scope(),
        actor,
        client: { ...client, fingerprint: first, name: 'counter 2' },
        bindingEndsMs,
      });
      const renew = async (fingerprint: string) => {
        const certificate = randomBytes(8);
        await clients.renew({ scope: scope(), actor, fingerprint, certificate, oldEndsMs: 1, bindingEndsMs });
        return hex(digest('sha256', certificate));
      };
      const second = await renew(first);
      const third = await renew(second);
      await expect(renew(second)).rejects.toMatchObject({ code: 'illegal-transition' });
      expect(clientIdOf((await clients.client(third)) as KnownClient)).toBe(first);
      await clients.revoke({ scope: scope(), actor, fingerprint: second });
      for (const each of [first, second, third])
        expect((await clients.client(each))?.revokedMs).not.toBeNull();
      await expect(renew(third)).rejects.toMatchObject({ code: 'unauthenticated' });
    });
  });

  it('chains its audit entries, one a commit, each with its acts and the digests of rows before and after', async () => {
    const issued = await issue();
    await change(first(issued), revoke);
    const entries = await database.read((reader) => reader.find('audit', { writer: 'n1' }));
    let previous = { sequence: 0, hash: new Uint8Array(32) as Uint8Array };
    for (const entry of entries) {
      expect(entryFault(entry, previous, null)).toBeUndefined();
      previous = entry;
    }
    const last = entries.at(-1);
    expect(actsOfEntry({ acts: last?.acts ?? '[]' })).toEqual([
      { actor, action: 'change', subject: expect.anything(), rows: 4 },
    ]);
    const rows = [...rowsOfEntry(last ?? { rows: '[]', digests: new Uint8Array() })];
    expect(rows.map(({ table }) => table)).toEqual(['request', 'certificate', 'history', 'event']);
    expect(rows.map(({ before, after }) => [before !== null, after !== null])).toEqual([
      [false, true],
      [true, true],
      [false, true],
      [false, true],
    ]);
  });

  it('keeps every one of many writers at once', async () => {
    const commands = await Promise.all(
      Array.from({ length: 50 }, async (_, n) => command({ medium: card(1000 + n) })),
    );
    await Promise.all(commands.map((one) => store.reserve(one).then(() => complete(one))));
    const reserved = await store.pendingReservations('own-and-expired');
    expect(reserved).toEqual([]);
  });
});
