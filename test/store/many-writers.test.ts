import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { leasePlaces } from '../../ca/issue/shards.ts';
import type { FeedEvent } from '../../core/feed/feed.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import { type DeskFunction, functionsOfKind, type Mandate } from '../../core/model/desk.ts';
import { deviceClassName, deviceClassText } from '../../core/model/device.ts';
import { digest } from '../../core/runtime/bytes.ts';
import type { PkiError } from '../../core/runtime/errors.ts';
import type { Medium, ReserveCommand } from '../../store/api/certificate-store.ts';
import type { Desk } from '../../store/api/desk-store.ts';
import type { OperatorCommand } from '../../store/api/outcome.ts';
import type { RecordedVerifier, Verifier } from '../../store/api/verifier-store.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';
import { byKey, type Lock } from '../../store/engine/rule.ts';
import { openPostgres } from '../../store/postgres/postgres.ts';
import {
  addRecordKey,
  eraseDataKey,
  openRecord,
  recordLink,
  reserveOwnCertificate,
} from '../../store/rules/ceremony-rules.ts';
import { RecordClients } from '../../store/rules/client-store.ts';
import { allowFirstConfiguration, noteDigests } from '../../store/rules/configuration-rules.ts';
import { RecordConsents } from '../../store/rules/consent-store.ts';
import { recordBackup, recordConsoleAct } from '../../store/rules/console-acts.ts';
import { breakGlass, enrolAdministrators, recordFirstClient } from '../../store/rules/console-rules.ts';
import { RecordDesks } from '../../store/rules/desk-store.ts';
import { RecordHolders } from '../../store/rules/holder-store.ts';
import { RecordIntakes } from '../../store/rules/intake-store.ts';
import { RecordOperations } from '../../store/rules/operations-store.ts';
import { founderRole } from '../../store/rules/operators.ts';
import { RecordOutbox } from '../../store/rules/outbox-store.ts';
import { RecordProposals } from '../../store/rules/proposal-store.ts';
import { endSupersededResponders } from '../../store/rules/responders.ts';
import { RecordRetention } from '../../store/rules/retention-store.ts';
import { eraseIdentities } from '../../store/rules/same-person.ts';
import { takeOverVerifiers } from '../../store/rules/verifier-rules.ts';
import { RecordVerifiers } from '../../store/rules/verifier-store.ts';
import { noteExpiry, purgeUses } from '../../store/rules/watch-rules.ts';
import { RecordWatches } from '../../store/rules/watch-store.ts';
import { ManualClock } from '../support/harness.ts';
import { dropDatabases, newDatabase } from '../support/postgres.ts';
import { ServerRecord } from '../support/server-record.ts';
import {
  actor,
  day,
  keyOf,
  openAuthority,
  StoreCommands,
  shardSeries,
  signed,
  writeRows,
} from '../support/store-commands.ts';

// Several nodes write one record at once, on a database that lets them: whatever comes in between, the rules hold. The order of
// all steps is fast-check's; a failure prints the seed that repeats it.

afterAll(dropDatabases);

/** One node on a record. */
class TestNode extends StoreCommands {
  readonly database: RecordDatabase;
  readonly operations: RecordOperations;
  readonly outbox: RecordOutbox;
  readonly holders: RecordHolders;
  readonly clients: RecordClients;

  constructor(database: RecordDatabase, clock: ManualClock) {
    super(database, clock);
    this.database = database;
    this.operations = new RecordOperations({ database, feed: this.feed, clock });
    this.outbox = new RecordOutbox({ database, clock });
    this.holders = new RecordHolders({ database, clock });
    this.clients = new RecordClients({ database, clock });
  }

  /** A phone's request, whose certificates rest on those of a card. */
  async phoneCommand(card: ReserveCommand, n: number, overrides: Partial<ReserveCommand> = {}) {
    const [signing = null, authentication = null] = card.certificates.map(keyOf);
    const medium: Medium = {
      ...card.medium,
      mediumId: `phone:${n}`,
      type: 'phone',
      restsOn: card.medium.mediumId,
      platform: 'android',
    };
    const certificates = [
      await this.draft('phone-signing', { restsOn: signing }),
      await this.draft('phone-authentication', { restsOn: authentication }),
    ];
    return this.command({ medium, certificates, function: 'phone-enrolment', ...overrides });
  }

  complete(command: ReserveCommand) {
    const { issuanceId } = command;
    return this.store.complete({ issuanceId, actor, certificates: signed(command) });
  }

  async issue(command: ReserveCommand): Promise<ReserveCommand> {
    await this.store.reserve(command);
    await this.complete(command);
    return command;
  }

  async challenge(): Promise<Uint8Array> {
    const challenge = randomBytes(32);
    const expiresMs = this.clock.wallMs() + 600_000;
    await this.store.putChallenge({ scope: this.scope(), actor, challenge, expiresMs });
    return digest('sha256', challenge);
  }

  /** Revokes all that a holder has. */
  revokeAll(holderId: string) {
    return this.store.change({
      scope: this.scope(),
      actor,
      target: { type: 'holder', holderId },
      plan: { type: 'event', event: 'died', target: { type: 'holder', holderId } },
      knownAfterMs: 0,
    });
  }

  async statesOf(holderId: string): Promise<string[]> {
    return ((await this.store.holder(holderId))?.certificates ?? []).map(({ state }) => state);
  }
}

interface World {
  readonly clock: ManualClock;
  readonly one: TestNode;
  readonly two: TestNode;
}

/** Two nodes on a record with one authority; until `begin` is called nothing comes in between. */
async function world(
  schedule: () => Promise<void> = () => Promise.resolve(),
  isLeftOut?: (action: string, lock: Lock) => boolean,
): Promise<World> {
  const clock = new ManualClock();
  const record = new ServerRecord(schedule, isLeftOut);
  const [first, second] = ['n1', 'n2'].map((writer) => record.connect({ writer, clock }));
  if (!first || !second) throw new Error('no connections');
  await openAuthority(first, clock);
  await openRecord(second, actor);
  return { clock, one: new TestNode(first, clock), two: new TestNode(second, clock) };
}

/** The same on a PostgreSQL server, over a connection for each. */
async function worldOnServer(): Promise<World & AsyncDisposable> {
  const clock = new ManualClock();
  const server = await newDatabase();
  const [first, second] = await Promise.all(
    ['n1', 'n2'].map((writer) => openPostgres({ server, writer, clock })),
  );
  if (!first || !second) throw new Error('no connections');
  await openAuthority(first, clock);
  await openRecord(second, actor);
  return {
    ...{ clock, one: new TestNode(first, clock), two: new TestNode(second, clock) },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([first.close(), second.close()]);
    },
  };
}

type Act = () => Promise<unknown>;

/**
 * Prepares a world, lets acts run at once in every order that fast-check finds, and looks at what came of them; then once on a PostgreSQL
 * server, or more often, where the machine chooses the order.
 */
async function inEveryOrder(
  prepare: (world: World) => Promise<{
    readonly acts: readonly Act[];
    readonly check: (results: readonly PromiseSettledResult<unknown>[]) => Promise<void> | void;
  }>,
  onServer = 1,
): Promise<void> {
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), async (scheduler) => {
      let isScheduled = false;
      const schedule = async (): Promise<void> => {
        if (isScheduled) await scheduler.schedule(Promise.resolve());
      };
      const nodes = await world(schedule);
      const { acts, check } = await prepare(nodes);
      isScheduled = true;
      const results = await scheduler.waitFor(Promise.allSettled(acts.map((act) => act())));
      isScheduled = false;
      await check(results);
    }),
    { numRuns: 40 },
  );
  for (let run = 0; run < onServer; run++) {
    await using nodes = await worldOnServer();
    const { acts, check } = await prepare(nodes);
    await check(await Promise.allSettled(acts.map((act) => act())));
  }
}

const codes = (results: readonly PromiseSettledResult<unknown>[]): string[] =>
  results
    .map((result) => (result.status === 'fulfilled' ? 'ok' : (result.reason as PkiError).code))
    .map((code) => code ?? 'defect')
    .sort();

describe('two nodes at once', () => {
  it('give a holder no more cards than the limit', () =>
    inEveryOrder(async ({ one, two }) => {
      const [a, b] = [
        await one.command({ medium: one.card(1, 'h') }),
        await two.command({ medium: two.card(2, 'h') }),
      ];
      return {
        acts: [() => one.issue(a), () => two.issue(b)],
        check: async (results) => {
          expect(codes(results)).toEqual(['ok', 'quota-exceeded']);
          expect(await one.statesOf('h')).toEqual(['good', 'good']);
        },
      };
    }));

  it('use a challenge once', () =>
    inEveryOrder(async ({ one, two }) => {
      const cards = [
        await one.issue(await one.command({ medium: one.card(1, 'h') })),
        await one.issue(await one.command({ medium: one.card(2, 'i') })),
      ] as const;
      const challengeHash = await one.challenge();
      const a = await one.phoneCommand(cards[0], 1, { challengeHash });
      const b = await two.phoneCommand(cards[1], 2, { challengeHash });
      return {
        acts: [() => one.store.reserve(a), () => two.store.reserve(b)],
        check: (results) => expect(codes(results)).toEqual(['challenge-not-usable', 'ok']),
      };
    }));

  it('keep once what their encodings have in common', () =>
    inEveryOrder(async ({ one, two }) => {
      const [baseId, octets] = [randomBytes(16), randomBytes(40)];
      const keep = (node: TestNode) => () => node.store.keepEncodingBase(baseId, octets);
      return {
        acts: [keep(one), keep(two)],
        check: async (results) => {
          expect(codes(results)).toEqual(['ok', 'ok']);
          expect(Buffer.from((await two.store.encodingBase(baseId)) ?? []).equals(octets)).toBe(true);
        },
      };
    }));

  it('lease no position twice', () =>
    inEveryOrder(async ({ one, two }) => {
      const leases: { first: number; end: number }[] = [];
      const lease = (node: TestNode, count: number) => async () => {
        leases.push(await node.store.leasePositions('signing-1', count));
      };
      return {
        acts: [lease(one, 3), lease(two, 5), lease(one, 2), lease(two, 1)],
        check: () => {
          const sorted = leases.sort((a, b) => a.first - b.first);
          expect(sorted).toHaveLength(4);
          for (const [i, { first }] of sorted.entries()) expect(first).toBe(sorted[i - 1]?.end ?? 0);
        },
      };
    }));

  it('name a shard no more often than it has places', () =>
    inEveryOrder(async ({ one, two }) => {
      const series = shardSeries('card-signing', 3);
      const taken = new Map<number, number>();
      const take = (node: TestNode) => async () => {
        const { shard, places } = await leasePlaces(node.store, series, 2);
        taken.set(shard.number, (taken.get(shard.number) ?? 0) + places);
      };
      return {
        acts: [take(one), take(two), take(one), take(two)],
        check: () => {
          expect([...taken.values()].every((places) => places <= 3)).toBe(true);
          expect([...taken.keys()].sort()).toEqual([...taken.keys()].map((_, i) => i));
        },
      };
    }));

  it('leave no phone good whose card was revoked as it enrolled', () =>
    inEveryOrder(async ({ one, two }) => {
      const card = await one.issue(await one.command({ medium: one.card(1, 'h') }));
      const phone = await two.phoneCommand(card, 1);
      return {
        acts: [() => one.revokeAll('h'), () => two.issue(phone)],
        check: async (results) => {
          const states = await one.statesOf('h');
          expect(states.every((state) => state === 'revoked')).toBe(true);
          expect(['ok', 'card-certificate-not-good', 'holder-closed', 'revoked-while-issuing']).toEqual(
            expect.arrayContaining(codes(results)),
          );
        },
      };
    }));

  it('certify a public key once', () =>
    inEveryOrder(async ({ one, two }) => {
      const keyHash = randomBytes(32);
      const commands = await Promise.all(
        [one, two].map(async (node, i) =>
          node.command({
            medium: node.card(i, `h${i}`),
            certificates: [
              await node.draft('card-signing', { keyHash }),
              await node.draft('card-authentication'),
            ],
          }),
        ),
      );
      return {
        acts: [one, two].map((node, i) => () => node.store.reserve(commands[i] as ReserveCommand)),
        check: (results) => expect(codes(results)).toEqual(['already-certified', 'ok']),
      };
    }));

  it('carry a request out once', () =>
    inEveryOrder(async ({ one, two }) => {
      const scope = one.scope(undefined, 'the-same');
      const a = await one.command({ medium: one.card(1, 'h'), scope });
      const b = await two.command({ medium: two.card(1, 'h'), scope });
      return {
        acts: [() => one.issue(a), () => two.issue(b)],
        check: async (results) => {
          expect(codes(results)).toContain('ok');
          expect(await one.statesOf('h')).toEqual(['good', 'good']);
        },
      };
    }));

  it('complete an issuance once, with the signatures of one of them', () =>
    inEveryOrder(async ({ one, two }) => {
      const command = await one.command({ medium: one.card(1, 'h') });
      await one.store.reserve(command);
      return {
        acts: [() => one.complete(command), () => two.complete(command)],
        check: (results) => {
          const outcomes = results.map((result) =>
            result.status === 'fulfilled' ? (result.value as { outcome: string }).outcome : 'failed',
          );
          expect(outcomes.sort()).toEqual(['completed', 'completed-before']);
        },
      };
    }));

  it('both enrol the first phones of a kind', () =>
    inEveryOrder(async ({ one, two }) => {
      const cards = [
        await one.issue(await one.command({ medium: one.card(1, 'h') })),
        await one.issue(await one.command({ medium: one.card(2, 'g') })),
      ] as [ReserveCommand, ReserveCommand];
      const [first, second] = [await one.phoneCommand(cards[0], 1), await two.phoneCommand(cards[1], 2)];
      return {
        acts: [() => one.issue(first), () => two.issue(second)],
        check: (results) => expect(codes(results)).toEqual(['ok', 'ok']),
      };
    }));

  it('give a phone that was left to one of two holders', () =>
    inEveryOrder(async ({ one, two, clock }) => {
      const [a, b, c] = [
        await one.issue(await one.command({ medium: one.card(1, 'h') })),
        await one.issue(await one.command({ medium: one.card(2, 'i') })),
        await one.issue(await one.command({ medium: one.card(3, 'j') })),
      ];
      await one.issue(await one.phoneCommand(a, 9));
      await one.revokeAll('h');
      clock.advance(1000);
      const limits = { cards: 1, phonesPerPlatform: 1, handOverAfterMs: 0 };
      const [first, second] = [
        await one.phoneCommand(b, 9, { limits }),
        await two.phoneCommand(c, 9, { limits }),
      ];
      return {
        acts: [() => one.issue(first), () => two.issue(second)],
        check: (results) => expect(codes(results)).toEqual(['medium-belongs-to-another-holder', 'ok']),
      };
      // Whose it is may change between two statements that locate it.
    }, 12));

  it('leave nothing good under a key that was blocked as it was certified', () =>
    inEveryOrder(async ({ one, two }) => {
      const keyHash = randomBytes(32);
      const certificates = [
        await one.draft('card-signing', { keyHash }),
        await one.draft('card-authentication'),
      ];
      const command = await one.command({ medium: one.card(1, 'h'), certificates });
      const block = {
        scope: two.scope(),
        actor,
        keyHash,
        knownAfterMs: 0,
      };
      return {
        acts: [() => one.issue(command), () => two.store.blockKey(block)],
        check: async (results) => {
          expect(codes(results)).toContain('ok');
          const { certificates = [] } = (await one.store.holder('h')) ?? {};
          const [signing] = certificates.filter(({ kind }) => kind === 'card-signing');
          expect(signing?.state).not.toBe('good');
        },
      };
    }));

  it('record an event that a client reports twice once', () =>
    inEveryOrder(async ({ one, two }) => {
      await one.issue(await one.command({ medium: one.card(1, 'h') }));
      const tell = (node: TestNode) => () =>
        node.store.change({
          scope: node.scope(),
          actor,
          target: { type: 'holder', holderId: 'h' },
          plan: { type: 'event', event: 'moved', target: { type: 'holder', holderId: 'h' } },
          knownAfterMs: 0,
          report: {
            event: 'moved',
            mediumId: null,
            eventId: 'e-1',
            contentHash: new Uint8Array(32),
            occurredMs: 1,
          },
        });
      return {
        acts: [tell(one), tell(two)],
        check: async (results) => {
          expect(codes(results)).toEqual(['ok', 'request-in-progress']);
          expect((await one.store.holder('h'))?.facts.events).toHaveLength(1);
        },
      };
    }));

  it('enrol no phone that a restriction in force matches', () =>
    inEveryOrder(async ({ one, two }) => {
      const card = await one.issue(await one.command({ medium: one.card(1, 'h') }));
      const phone = await two.phoneCommand(card, 1);
      const match = {
        platform: 'android',
        models: null,
        secureElements: null,
        osVersionFrom: null,
        osVersionTo: null,
        patchLevelBefore: null,
      };
      const restrictionId = crypto.randomUUID();
      await one.operations.proposeRestriction({
        ...{ scope: one.scope(), actor, restrictionId, match, note: '' },
      });
      const [act] = (await one.operations.restriction(restrictionId))?.acts ?? [];
      const other = { ...actor, client: 'd'.repeat(64) };
      const approve = { scope: one.scope(), actor: other, actId: act?.actId ?? '' };
      return {
        acts: [() => one.operations.approve(approve), () => two.store.reserve(phone)],
        check: async (results) => {
          const isRefused = codes(results).includes('device-restricted');
          // What was there before the approval is found by the act, which comes after it.
          expect((await one.store.medium('phone:1')) === undefined).toBe(isRefused);
        },
      };
    }));

  it('renew a client certificate once', () =>
    inEveryOrder(async ({ one, two, clock }) => {
      const [fingerprint, nowMs] = ['a'.repeat(64), clock.wallMs()];
      const client = {
        fingerprint,
        name: 'counter',
        kind: 'system',
        roles: ['issuer'],
        desks: ['*'],
      } as const;
      await one.clients.add({ scope: one.scope(), actor, client, bindingEndsMs: nowMs + day });
      const renew = (node: TestNode) => () =>
        node.clients.renew({
          ...{ scope: node.scope(), actor, fingerprint, certificate: randomBytes(8) },
          oldEndsMs: nowMs + day,
          bindingEndsMs: nowMs + day,
        });
      return {
        acts: [renew(one), renew(two)],
        check: (results) => expect(codes(results)).toEqual(['illegal-transition', 'ok']),
      };
    }));

  it('enrol one person of a name', () =>
    inEveryOrder(async ({ one, two, clock }) => {
      const enrol = (node: TestNode, name: string) => () =>
        node.clients.enrol({
          ...{ scope: node.scope(), actor, certificate: randomBytes(8) },
          client: { name, kind: 'person', roles: ['administrator'], desks: [] },
          bindingEndsMs: clock.wallMs() + day,
        });
      return {
        acts: [enrol(one, 'Sato Hanako'), enrol(two, 'SATO hanako')],
        check: (results) => expect(codes(results)).toEqual(['in-use', 'ok']),
      };
    }));

  it('count the acts of a desk for the service, not for a node', () =>
    inEveryOrder(async ({ one, two }) => {
      const by = () => ({ scope: one.scope(), actor });
      const { mandate, municipality } = await exerciseDesks({ one, by, actsPerDay: 1 });
      const issue = async (node: TestNode, n: number) => {
        const command = await node.command({ medium: node.card(n, `h${n}`) });
        return () => node.store.reserve({ ...command, mandate: mandate('issue'), municipality });
      };
      return {
        acts: [await issue(one, 1), await issue(two, 2)],
        check: (results) => expect(codes(results)).toEqual(['ok', 'quota-exceeded']),
      };
    }));

  it('revoke no more of one client in a day than it may alone, whatever a clock says', () =>
    inEveryOrder(async ({ one, two, clock }) => {
      const by = () => ({ scope: one.scope(), actor });
      const { mandate } = await exerciseDesks({ one, by });
      const revoke = async (node: TestNode, n: number) => {
        const holderId = `h${n}`;
        await one.issue(await one.command({ medium: one.card(n, holderId) }));
        const target = { type: 'holder', holderId } as const;
        const inNameOf = { ...mandate('revoke'), desk: null, municipalities: null, revocationsMax: 1 };
        return () =>
          node.store.change({
            ...{ scope: node.scope(), actor, target, knownAfterMs: 0, mandate: inNameOf },
            plan: { type: 'event', event: 'died', target },
          });
      };
      const acts = [await revoke(one, 1), await revoke(two, 2)];
      const later = await revoke(one, 3);
      return {
        acts,
        check: async (results) => {
          expect(codes(results)).toEqual(['approval-needed', 'ok']);
          clock.advance(-2 * day);
          await expect(later()).rejects.toMatchObject({ code: 'approval-needed' });
          clock.advance(3 * day);
        },
      };
    }));

  it('issue to one of two new holders who look the same, and have the other wait', () =>
    inEveryOrder(async ({ one, two }) => {
      const by = () => ({ scope: one.scope(), actor });
      const { mandate, municipality } = await exerciseDesks({ one, by });
      const [inNameOf, identity] = [
        { ...mandate('issue'), approvalsWanted: ['same-person'] } as const,
        { hash: randomBytes(32), year: 2031 },
      ];
      const issue = async (node: TestNode, n: number) => {
        const command = await node.command({ medium: node.card(n, `h${n}`) });
        return () => node.store.reserve({ ...command, mandate: inNameOf, municipality, identity });
      };
      return {
        acts: [await issue(one, 1), await issue(two, 2)],
        check: (results) => expect(codes(results)).toEqual(['approval-needed', 'ok']),
      };
    }));

  it('let no holder be settled in two towns', () =>
    inEveryOrder(async ({ one, two }) => {
      const by = () => ({ scope: one.scope(), actor });
      const { mandate } = await exerciseDesks({ one, by });
      const issue = async (node: TestNode, n: number, municipality: string) => {
        const command = await node.command({ medium: node.card(n, 'h') });
        const inNameOf = { ...mandate('issue'), municipalities: [municipality] };
        return () => node.store.reserve({ ...command, mandate: inNameOf, municipality });
      };
      return {
        acts: [await issue(one, 1, '13113'), await issue(two, 2, '13114')],
        check: (results) => expect(codes(results)).toEqual(['desk-not-allowed', 'ok']),
      };
    }));

  it('give a credential to one verifier', () =>
    inEveryOrder(async ({ one, two }) => {
      const ids = ['bank', 'clinic'];
      for (const verifierId of ids) await recordVerifier(one, { verifierId });
      return {
        acts: [one, two].map((node, i) => () => {
          const credential = { ...tokenCredential('00'), credentialId: `credential-${i}` };
          const command = { scope: node.scope(), actor, verifierId: ids[i] ?? '', credential };
          return new RecordVerifiers(node).addCredential(command);
        }),
        check: (results) => expect(codes(results)).toEqual(['in-use', 'ok']),
      };
    }));

  it('keep a verifier suspended that another changes meanwhile, and announce each change', () =>
    inEveryOrder(async ({ one, two }) => {
      const { verifierId } = await recordVerifier(one);
      return {
        acts: [
          () =>
            new RecordVerifiers(one).suspend({ scope: one.scope(), actor, verifierId, isSuspended: true }),
          () => recordVerifier(two, { requestsPerSecond: 5 }),
        ],
        check: async (results) => {
          expect(codes(results)).toEqual(['ok', 'ok']);
          const known = await new RecordVerifiers(two).verifier(verifierId);
          expect(known).toMatchObject({ requestsPerSecond: 5, version: 3, suspendedMs: expect.any(Number) });
          const events = await one.database.read((reader) => reader.find('event', {}));
          const announced = events
            .flatMap(({ body }) => JSON.parse(body) as FeedEvent[])
            .filter((event) => event.type === 'verifier');
          const last = announced.toSorted((a, b) => a.version - b.version).at(-1);
          expect(last).toMatchObject({ version: 3, requestsPerSecond: 5, suspendedMs: known?.suspendedMs });
        },
      };
    }));

  it('approve a proposal once, or withdraw it', async () => {
    for (const end of ['approve', 'withdraw'] as const)
      await inEveryOrder(async ({ one, two, clock }) => {
        const proposalId = crypto.randomUUID();
        const nodes = [one, two].map((node) => new RecordProposals({ database: node.database, clock }));
        const [first, other] = nodes as [RecordProposals, RecordProposals];
        await first.propose(proposal(one, proposalId, clock.wallMs()));
        const by = (node: TestNode, client: string) => ({
          ...{ scope: node.scope(client), actor: { ...actor, client }, proposalId, planHash: 'h' },
        });
        return {
          acts: [
            () => first.approve(by(one, '8'.repeat(64))),
            () => other[end](by(two, end === 'approve' ? '9'.repeat(64) : one.scope().client)),
          ],
          check: (results) => expect(codes(results)).toEqual(['illegal-transition', 'ok']),
        };
      });
  });

  it('leave no more proposals of one client open than may be', () =>
    inEveryOrder(async ({ one, two, clock }) => {
      const acts = [one, two].map((node) => async () => {
        const proposals = new RecordProposals({ database: node.database, clock });
        await proposals.propose({ ...proposal(node, crypto.randomUUID(), clock.wallMs()), openMax: 1 });
      });
      return { acts, check: (results) => expect(codes(results)).toEqual(['ok', 'quota-exceeded']) };
    }));

  it('confirm no administrator by one who is not confirmed, while another is', () =>
    inEveryOrder(async ({ one, two, clock }) => {
      const [nowMs, bindingMs] = [clock.wallMs(), day];
      const client = (name: string) => ({
        ...({ fingerprint: name.repeat(64), name, kind: 'person', desks: [] } as const),
        roles: ['administrator'],
      });
      const bindingEndsMs = nowMs + bindingMs;
      await one.clients.add({ scope: one.scope(), actor, client: client('a'), bindingEndsMs });
      for (const name of ['b', 'c'])
        await breakGlass(one.database, client(name), { nowMs, bindingMs, personsWanted: 9 });
      const confirm = (node: TestNode, by: string, name: string) => () =>
        node.clients.confirm({
          ...{ scope: node.scope(by.repeat(64)), actor, fingerprint: name.repeat(64), bindingMs },
        });
      return {
        acts: [confirm(one, 'b', 'c'), confirm(two, 'c', 'b')],
        check: (results) => expect(codes(results)).toEqual(['forbidden', 'forbidden']),
      };
    }));

  it('leave an administrator', () =>
    inEveryOrder(async ({ one, two, clock }) => {
      const bindingEndsMs = clock.wallMs() + day;
      const remaining = { personsMin: 1, bindingMs: day };
      for (const name of ['a', 'b']) {
        const client = { fingerprint: name.repeat(64), name, kind: 'person', desks: [] } as const;
        const roles = ['administrator'];
        await one.clients.add({ scope: one.scope(), actor, client: { ...client, roles }, bindingEndsMs });
      }
      const end = (node: TestNode, name: string) => () =>
        node.clients.revoke({ scope: node.scope(), actor, fingerprint: name.repeat(64), remaining });
      return {
        acts: [end(one, 'a'), end(two, 'b')],
        check: (results) => expect(codes(results)).toEqual(['in-use', 'ok']),
      };
    }));

  it('give a client no more certificates than it may have', () =>
    inEveryOrder(async ({ one, two, clock }) => {
      const [fingerprint, bindingEndsMs] = ['a'.repeat(64), clock.wallMs() + day];
      const client = { fingerprint, name: 'person', kind: 'person', roles: ['reader'], desks: [] } as const;
      await one.clients.add({ scope: one.scope(), actor, client, bindingEndsMs });
      const another = (node: TestNode) => () =>
        node.clients.addCertificate({
          ...{ scope: node.scope(), actor, fingerprint, certificate: randomBytes(8), bindingEndsMs },
          isAskedByItself: true,
        });
      await another(one)();
      await another(one)();
      return {
        acts: [another(one), another(two)],
        check: (results) => expect(codes(results)).toEqual(['ok', 'quota-exceeded']),
      };
    }));
});

/** Has every rule decide something, on the straight path. */
async function exerciseAll({ one, clock }: World): Promise<void> {
  const nowMs = clock.wallMs();
  const by = () => ({ scope: one.scope(), actor });
  const second = () => ({
    ...by(),
    scope: one.scope('d'.repeat(64)),
    actor: { ...actor, client: 'd'.repeat(64) },
  });
  await one.store.dataKey('year:2031', Uint8Array.of(1));
  await leasePlaces(one.store, shardSeries('card-signing', 2), 1);
  await one.operations.allowConfiguration({ ...by(), edited: 'e' });
  await one.operations.setSwitch({
    ...by(),
    name: 'phone-enrolment',
    state: 'limited',
    perMinute: 60,
    note: '',
  });
  const { mandate, municipality } = await exerciseDesks({ one, by });
  await exerciseVerifiers(one, by);
  const card = await one.issue({
    ...(await one.command({ medium: one.card(1, 'h') })),
    ...{ mandate: mandate('issue'), municipality, identity: { hash: randomBytes(32), year: 2031 } },
  });
  await exerciseConsents(one, { by, card, mandate: mandate('consent') });
  const challengeHash = await one.challenge();
  const arrival = { waits: 'all', waitMs: day, handedOver: null } as const;
  const phone = await one.issue(await one.phoneCommand(card, 1, { challengeHash, arrival }));
  const left = await one.command({ medium: one.card(7, 'k') });
  await one.store.reserve(left);
  await one.store.releaseReservation(left.issuanceId, actor);
  const [key] = phone.certificates.map(keyOf) as [CertificateId];
  await exerciseWatches(one, { by, key });
  const facts = { osVersion: '17', patchLevel: '2026-11', appletVersion: '2', appVersion: null };
  await one.holders.reportDevice({
    ...{ ...by(), holderId: 'h', mediumId: 'phone:1', signedWith: key, facts },
    challengeHash: await one.challenge(),
  });
  const report = {
    event: 'died',
    mediumId: null,
    eventId: 'e-1',
    contentHash: new Uint8Array(32),
    occurredMs: 1,
  };
  await one.store.change({
    ...by(),
    target: { type: 'medium', mediumId: 'phone:1' },
    plan: { type: 'event', event: 'phone-given-up', target: { type: 'medium', mediumId: 'phone:1' } },
    knownAfterMs: 0,
    mandate: { ...mandate('report'), revocationsMax: 9 },
    municipality: '13114',
    report: { ...report, event: 'lost', mediumId: 'phone:1' },
    applet: { issuanceId: phone.issuanceId, mediumId: 'phone:1', instanceId: 'a0', version: '1' },
  });
  const [order] = (await one.outbox.messages('waiting', null, 100)).filter(
    ({ type }) => type === 'remote-deletion',
  );
  const messageId = order?.messageId ?? '';
  await one.outbox.settle({ messageId, state: 'dead', error: 'refused', dueMs: null });
  await one.outbox.replay({ ...by(), messageId });
  await one.outbox.confirm({ ...by(), messageId });
  await one.store.blockKey({
    ...{ ...by(), keyHash: card.certificates[0]?.keyHash ?? new Uint8Array(), knownAfterMs: 0 },
    revocationsMax: 9,
  });
  await one.revokeAll('h');
  const correctionId = crypto.randomUUID();
  const inNameOf = { mandate: { ...mandate('report'), municipalities: ['13114'] } };
  await one.holders.proposeCorrection({ ...by(), ...inNameOf, correctionId, holderId: 'h', note: '' });
  await one.holders.approveCorrection({ ...second(), ...inNameOf, correctionId });
  const match = {
    ...{ platform: 'android', models: null, secureElements: null },
    ...{ osVersionFrom: null, osVersionTo: null, patchLevelBefore: null },
  };
  const restrictionId = crypto.randomUUID();
  await one.operations.proposeRestriction({ ...by(), restrictionId, match, note: '' });
  const [act] = (await one.operations.restriction(restrictionId))?.acts ?? [];
  await one.operations.approve({ ...second(), actId: act?.actId ?? '' });
  await one.operations.advance(act?.actId ?? '');
  await one.operations.proposeEnd({ ...by(), restrictionId, action: 'release', reason: null });
  const acts = (await one.operations.restriction(restrictionId))?.acts ?? [];
  await one.operations.withdraw({
    ...by(),
    actId: acts.find(({ state }) => state === 'proposed')?.actId ?? '',
  });
  const first = 'a'.repeat(64);
  const ends = { bindingEndsMs: nowMs + day };
  const client = {
    fingerprint: first,
    name: 'counter',
    kind: 'system',
    roles: ['issuer'],
    desks: ['*'],
  } as const;
  await one.clients.add({ ...by(), client, ...ends });
  await one.clients.rebind({
    ...by(),
    fingerprint: first,
    named: { roles: ['reader'], desks: ['*'] },
    known: [],
    municipalitiesOtherwise: ['*'],
    remaining: { personsMin: 0, bindingMs: day },
    ...ends,
  });
  await one.clients.renew({
    ...by(),
    fingerprint: first,
    certificate: randomBytes(8),
    oldEndsMs: nowMs + day,
    ...ends,
  });
  const enrolled = await one.clients.enrol({
    ...{ ...by(), certificate: randomBytes(8), ...ends },
    client: { name: 'person', kind: 'person', roles: ['reader'], desks: [] },
  });
  const added = {
    ...{ ...by(), fingerprint: enrolled.fingerprint, certificate: randomBytes(8), ...ends },
    isAskedByItself: true,
  };
  const { fingerprint: another } = await one.clients.addCertificate(added);
  await one.clients.endCertificate({ ...by(), fingerprint: another, of: enrolled.fingerprint });
  await one.clients.noteUses(new Map([[first, nowMs]]));
  await one.clients.revoke({ ...by(), fingerprint: first });
  const draft = { serialNumber: '1', kind: 'tls-client', commonName: 'x', keyHash: randomBytes(32) };
  await one.clients.reserve({
    ...draft,
    ...{ notBeforeMs: 1, notAfterMs: nowMs + day, toBeSigned: Uint8Array.of(1) },
  } as never);
  await one.clients.complete('1', Uint8Array.of(1), 'f'.repeat(64));
  // Asked for again, before it is bound.
  await one.clients.reserve({
    ...draft,
    ...{ notBeforeMs: 1, notAfterMs: nowMs + day, toBeSigned: Uint8Array.of(1) },
  } as never);
  await exerciseCeremonies({ one, nowMs });
}

/** What waits for a second person. */
function proposal(node: TestNode, proposalId: string, nowMs: number) {
  return {
    ...{ proposalId, actor, scope: node.scope(), url: '/v1/desks', plan: '{}', planHash: 'h' },
    act: 'desk-rights',
    ...{ role: 'administrator', desk: null, municipalities: [] },
    ...{ sealed: { key: 'replies', octets: Uint8Array.of(1) }, expiresMs: nowMs + day, openMax: 99 },
  } as const;
}

const tokenCredential = (n: string) =>
  ({ credentialId: 'c', type: 'token', value: n.repeat(32), fromMs: 0, toMs: null }) as const;

/** Records a verifier, or what it is from now on. */
function recordVerifier(node: TestNode, facts: Partial<Verifier> = {}): Promise<RecordedVerifier> {
  const verifier: Verifier = {
    ...{
      verifierId: 'bank',
      name: 'Bank',
      type: 'private',
      kinds: ['signing'],
      purposes: [],
      platformId: null,
    },
    ...{ url: null, requestsPerSecond: null, questionsPerDay: null, watchesMax: null, fromMs: 0, toMs: null },
    ...facts,
  };
  return new RecordVerifiers(node).record({ scope: node.scope(), actor, verifier, credentials: [] });
}

/** The rules of the register of verifiers. */
async function exerciseVerifiers(one: TestNode, by: () => OperatorCommand): Promise<void> {
  const verifiers = new RecordVerifiers(one);
  await one.database.run(takeOverVerifiers, { actor, configured: [] }, one.clock.wallMs());
  await recordVerifier(one, { verifierId: 'platform', type: 'platform' });
  const { verifierId } = await recordVerifier(one, {
    ...{ verifierId: 'provider', type: 'provider', platformId: 'platform' },
  });
  await verifiers.suspend({ ...by(), verifierId, isSuspended: true });
  const credential = tokenCredential('ab');
  await verifiers.addCredential({ ...by(), verifierId: 'platform', credential });
  await verifiers.endCredential({ ...by(), verifierId: 'platform', credentialId: 'c', toMs: 1 });
}

/** The rules of what verifiers watch and use; the certificate is watched afterwards. */
async function exerciseWatches(
  one: TestNode,
  { by, key }: { by: () => OperatorCommand; key: CertificateId },
): Promise<void> {
  const watches = new RecordWatches(one);
  const watched = { verifier: 'bank', key };
  await watches.watch({ ...by(), ...watched, reference: 'r', max: 9 });
  await watches.end({ ...by(), ...watched });
  await watches.watch({ ...by(), ...watched, reference: null, max: 9 });
  await one.database.run(noteExpiry, { verifier: 'bank', ...key }, one.clock.wallMs());
  await recordVerifier(one);
  const intakes = new RecordIntakes(one);
  for (const [intakeId, isAccepted] of [
    ['i-1', true],
    ['i-2', false],
  ] as const) {
    const of = { intakeId, verifierId: 'bank' };
    await intakes.begin({ ...by(), ...of, statement: 'A Bank' });
    await intakes.add({ ...by(), ...of, entries: [{ key, reference: 'r' }], max: 9 });
    await intakes.draw({ ...by(), ...of, size: 9 });
    await intakes.show({ ...by(), ...of, signatures: [{ key, sha256: 'ab' }] });
    if (isAccepted) await intakes.accept({ ...by(), intakeId });
    else await intakes.end({ ...by(), intakeId, verifierId: null });
    await intakes.proceed(9);
  }
  await watches.used({ ...by(), ...watched, max: 9 });
  const rows = await one.database.read((reader) => reader.scan('useCount', { limit: 9 }));
  await one.database.run(purgeUses, { rows }, one.clock.wallMs());
}

/** The rules of consents. */
async function exerciseConsents(
  one: TestNode,
  { by, card, mandate }: { by: () => OperatorCommand; card: ReserveCommand; mandate: Mandate },
): Promise<void> {
  const consents = new RecordConsents(one);
  const { verifierId } = await recordVerifier(one, { verifierId: 'shop' });
  const asked = await one.phoneCommand(card, 8, { challengeHash: await one.challenge() });
  const phone = await one.issue({ ...asked, medium: { ...asked.medium, platform: 'ios' } as Medium });
  const signers = [card, phone].map(({ certificates }) => keyOf(certificates[0] as CertificateId));
  for (const [i, consentId] of ['c-1', 'c-2'].entries()) {
    const signedWith = signers[i] as CertificateId;
    const terms = { givenMs: one.clock.wallMs(), endsMs: one.clock.wallMs() + day, purpose: 'p' };
    await consents.record({
      ...{ ...by(), challengeHash: await one.challenge(), keyHash: randomBytes(32) },
      consent: {
        consentId,
        holderId: 'h',
        verifierId,
        serviceId: verifierId,
        items: ['name'],
        signedWith,
        ...terms,
      },
      evidence: { key: 'year:2031', octets: Uint8Array.of(1) },
    });
  }
  const holder = { type: 'holder', holderId: 'h', challengeHash: await one.challenge() } as const;
  await consents.withdraw({ ...by(), consentId: 'c-1', by: holder });
  await consents.withdraw({ ...by(), consentId: 'c-2', by: { type: 'desk', mandate } });
  await consents.withhold({ ...by(), holderId: 'h', isWithheld: true, mandate });
}

/** The rules of desks; in whose name others are exercised. */
async function exerciseDesks({
  one,
  by,
  actsPerDay = 9,
}: {
  one: TestNode;
  by: () => OperatorCommand;
  actsPerDay?: number;
}) {
  const desks = new RecordDesks(one);
  const desk = {
    deskCode: 'DESK00001',
    kind: 'counter',
    municipality: '13113',
    municipalities: ['*'],
    functions: functionsOfKind.counter,
    ...{ actsPerDay, validFromMs: 0, validToMs: null },
  } as const satisfies Desk;
  await desks.record({ ...by(), desk });
  await desks.suspend({ ...by(), deskCode: desk.deskCode, isSuspended: false });
  const order = { orderId: 'o', event: 'card-exchanged', expiresMs: one.clock.wallMs() + day };
  const cards = [{ holderId: 'h', cardId: '9', replacesCardId: '8' }];
  const ofDesk = { desk: null, municipalities: null, merged: {}, approvalsWanted: [] };
  await desks.orderCards({ ...by(), ...order, cards, mandate: ofDesk });
  const proposals = new RecordProposals(one);
  for (const end of ['settle', 'withdraw'] as const) {
    const proposalId = crypto.randomUUID();
    await proposals.propose(proposal(one, proposalId, one.clock.wallMs()));
    const client = 'b'.repeat(64);
    const second = { scope: one.scope(client), actor: { ...actor, client }, proposalId, planHash: 'h' };
    if (end === 'withdraw') await proposals.withdraw({ ...by(), proposalId });
    else await proposals.approve(second);
    await proposals.settle({ proposalId, status: 200, refusal: null });
  }
  const another = crypto.randomUUID();
  await proposals.propose(proposal(one, another, one.clock.wallMs()));
  const both = { scope: one.scope('b'.repeat(64)), actor: { ...actor, client: 'b'.repeat(64) } };
  const asked = [{ proposalId: another, planHash: 'h' }];
  await proposals.approveAll({ ...both, proposals: asked, unknown: [] });
  const late = { ...proposal(one, crypto.randomUUID(), one.clock.wallMs()), expiresMs: one.clock.wallMs() };
  await proposals.propose(late);
  await proposals.expire();
  const mandate = (wanted: DeskFunction): Mandate => ({
    desk: { code: desk.deskCode, function: wanted, otherwise: null },
    municipalities: ['13113', '13114'],
    merged: {},
    approvalsWanted: [],
  });
  return { mandate, municipality: '13113' };
}

/** The rules of ceremonies, of the console, and of what is removed with time. */
async function exerciseCeremonies({ one, nowMs }: { one: TestNode; nowMs: number }): Promise<void> {
  const { database } = one;
  const key = { wrappedKey: Uint8Array.of(1), createdMs: nowMs };
  await addRecordKey(database, actor, { name: 'journal', ...key });
  await eraseDataKey(database, actor, 'journal');
  await eraseIdentities(database, actor, 2031);
  const signed = { planHash: 'f'.repeat(64), approvedBy: ['a', 'b'], atMs: nowMs } as const;
  await recordConsoleAct(database, actor, { act: 'erase-year', ...signed });
  await recordBackup(database, actor, { file: '/b', atMs: nowMs });
  await allowFirstConfiguration(database, actor, 'f');
  await noteDigests(database, actor, { 'limits.cards': 'd' }, nowMs);
  await recordLink(database, actor, { link: '1-2', certificate: Uint8Array.of(1) }, nowMs);
  for (let n = 0; n < 3; n++) {
    const draft = await one.draft('ocsp-responder');
    const issuanceId = `responder-${n}`;
    const responsibility = { client: 'r', authority: 'signing-1', suite: 's', perDay: 9 };
    await reserveOwnCertificate(database, actor, {
      ...{ issuanceId, draft, responsibility, nowMs },
      scope: one.scope(),
    });
    const certificates = [{ ...keyOf(draft), signature: Uint8Array.of(9) }];
    await one.store.complete({ issuanceId, actor, certificates });
  }
  await endSupersededResponders(database, actor, nowMs);
  const bindingMs = day;
  const client = {
    fingerprint: 'e'.repeat(64),
    name: 'first',
    kind: 'person',
    roles: [founderRole],
  } as const;
  await recordFirstClient(database, actor, client, { nowMs, bindingMs });
  const person = { ...client, roles: ['administrator'], desks: ['*'], authorities: [] };
  const administrators = ['c', 'd'].map((name) => ({ ...person, name, fingerprint: name.repeat(64) }));
  await enrolAdministrators(
    database,
    { actor, founder: client.fingerprint, administrators, bindingMs },
    nowMs,
  );
  const last = { ...person, name: 'last', fingerprint: 'b'.repeat(64) };
  await breakGlass(database, last, { nowMs: nowMs + 400 * day, bindingMs, personsWanted: 1 });
  one.clock.advance(400 * day);
  const retention = new RecordRetention(one);
  await retention.purgeExpired();
  await retention.purgeMessages(one.clock.wallMs());
  one.clock.advance(4000 * day);
  await retention.purgeOctets(one.clock.wallMs());
}

describe('a restriction', () => {
  const noFacts = { osVersion: null, secureElement: null, patchLevel: null };
  const match = {
    ...{ platform: 'android', models: null, secureElements: null },
    ...{ osVersionFrom: null, osVersionTo: null, patchLevelBefore: null },
  };
  const by = (one: TestNode, client = actor.client) => ({
    scope: one.scope(client),
    actor: { ...actor, client },
  });
  const hold = (one: TestNode, restrictionId: string) =>
    one.operations.proposeRestriction({ ...by(one), restrictionId, match, note: '', isEmergency: true });
  const lastAct = async (one: TestNode, restrictionId: string) =>
    (await one.operations.restriction(restrictionId))?.acts.at(-1)?.actId ?? '';
  const pass = async (one: TestNode, restrictionId: string) =>
    one.operations.advance(await lastAct(one, restrictionId));
  const end = async (one: TestNode, restrictionId: string, action: 'release' | 'revoke') => {
    const reason = action === 'revoke' ? 'cessationOfOperation' : null;
    await one.operations.proposeEnd({ ...by(one), restrictionId, action, reason });
    await one.operations.approve({ ...by(one, 'd'.repeat(64)), actId: await lastAct(one, restrictionId) });
  };
  const eventsOf = async (one: TestNode): Promise<FeedEvent[]> => {
    const rows = await one.database.read((reader) => reader.find('event', {}));
    return rows.flatMap(({ body }) => JSON.parse(body) as FeedEvent[]);
  };
  const phoneOf = async (one: TestNode) => {
    const card = await one.issue(await one.command({ medium: one.card(1, 'h') }));
    const command = await one.phoneCommand(card, 1);
    return { command, keys: command.certificates.map(keyOf) };
  };
  const isOf =
    (key: CertificateId) =>
    (event: FeedEvent): boolean =>
      'position' in event && event.position === key.position && event.authority === key.authority;

  it('is about a certificate that something else held while it was issued: followers know its class', async () => {
    const { one } = await world();
    const { command, keys } = await phoneOf(one);
    await one.store.reserve(command);
    for (const key of keys)
      await one.store.change({
        ...{ ...by(one), target: { type: 'certificate', key }, knownAfterMs: 0 },
        plan: { type: 'certificate', key, change: { action: 'hold', by: 'operator:0123456789abcdef' } },
      });
    await one.complete(command);
    await hold(one, 'r1');
    const events = await eventsOf(one);
    for (const key of keys) {
      const types = events.filter(isOf(key)).map(({ type }) => type);
      expect(types[0]).toBe('device');
      expect(types).toContain('status');
    }
  });

  it('that revokes what is being issued is written of it, and followers receive it', async () => {
    const { one } = await world();
    const { command, keys } = await phoneOf(one);
    await one.store.reserve(command);
    await hold(one, 'r1');
    await pass(one, 'r1');
    await end(one, 'r1', 'revoke');
    await one.complete(command).catch(() => undefined);
    const states = await one.statesOf('h');
    expect(states.slice(-2)).toEqual(['revoked', 'revoked']);
    const events = await eventsOf(one);
    for (const key of keys)
      expect(events.findLast(isOf(key))).toMatchObject({ type: 'status', state: 'revoked' });
  });

  it('notifies once of each hold, release and revocation, however many overlap before their passes come', async () => {
    const { one, clock } = await world();
    const { command, keys } = await phoneOf(one);
    await one.issue(command);
    const [key] = keys as [CertificateId];
    await writeRows(
      one.database,
      (tx) => {
        const row = tx.get('certificate', key);
        if (!row) throw new Error('no certificate');
        tx.update('certificate', { ...row, notify: 2 }, row);
        tx.insert('watch', { ...key, verifier: 'v', createdMs: 0 });
      },
      [byKey('certificate', key)],
    );
    const notices = async () => {
      const rows = await one.database.read((reader) => reader.find('message', {}));
      return rows.filter(({ type }) => type === 'verifier-notice').map(({ occasion }) => occasion);
    };
    for (const id of ['r1', 'r2']) await hold(one, id);
    for (const id of ['r1', 'r2']) await pass(one, id);
    expect(await notices()).toEqual(['held']);
    clock.advance(1000);
    await end(one, 'r1', 'release');
    await pass(one, 'r1');
    expect(await notices()).toEqual(['held']);
    clock.advance(1000);
    await end(one, 'r2', 'revoke');
    await hold(one, 'r3');
    for (const id of ['r3', 'r2']) await pass(one, id);
    expect(await notices()).toEqual(['held', 'revoked']);
    const lines = (await one.store.history(key)).map(({ change, cause }) => `${change} ${cause.partOf}`);
    expect(lines.slice(1)).toEqual(['held restriction:r1', 'revoked restriction:r2']);
  });

  it('says nothing of a certificate that had ended before', async () => {
    const { one, clock } = await world();
    const { command, keys } = await phoneOf(one);
    await one.issue(command);
    clock.advance(20 * 365 * day);
    await hold(one, 'r1');
    const [key] = keys as [CertificateId];
    expect(await one.store.certificate(key)).toMatchObject({ state: 'good', heldBy: [] });
    const counted = await pass(one, 'r1');
    expect(counted.operation).toMatchObject({ state: 'done', phones: 0, certificates: 0 });
  });

  it('finds the phones that match among many kinds that do not, page by page', async () => {
    const { one } = await world();
    const { command } = await phoneOf(one);
    await one.issue(command);
    await writeRows(
      one.database,
      (tx) => {
        for (let i = 0; i < 2500; i++) {
          const facts = deviceClassText({ ...noFacts, platform: 'ios', model: `M${i}` }, 0);
          tx.insert('deviceClass', { deviceClass: deviceClassName(facts), facts });
        }
      },
      [],
    );
    expect(await one.operations.countMatching(match)).toEqual({ phones: 1, certificates: 2 });
    expect(await one.operations.countMatching({ ...match, platform: 'ios' })).toEqual({
      phones: 0,
      certificates: 0,
    });
    await hold(one, 'r1');
    for (let steps = 0; steps < 3; steps++) await pass(one, 'r1');
    expect((await one.operations.restriction('r1'))?.acts[0]).toMatchObject({ state: 'done', phones: 1 });
  });

  it('whose effect is not on record begins nothing, and says so', async () => {
    const { one } = await world();
    const lose = (restrictionId: string) =>
      writeRows(one.database, (tx) => tx.remove('restrictionEffect', { restrictionId }), [
        byKey('restrictionEffect', { restrictionId }),
      ]);
    for (const id of ['r1', 'r2']) await hold(one, id);
    await pass(one, 'r1');
    await one.operations.proposeEnd({ ...by(one), restrictionId: 'r1', action: 'release', reason: null });
    for (const id of ['r1', 'r2']) await lose(id);
    const approval = { ...by(one, 'd'.repeat(64)), actId: await lastAct(one, 'r1') };
    await expect(one.operations.approve(approval)).rejects.toMatchObject({ code: 'record-unavailable' });
    await expect(pass(one, 'r2')).rejects.toMatchObject({ code: 'record-unavailable' });
  });
});

describe('every lock', () => {
  it('that a rule declares is needed: without it the record refuses what the rule does', async () => {
    const taken = new Map<string, readonly [action: string, prefix: string]>();
    const prefixOf = ({ name }: Lock): string => name.split(':')[0] ?? '';
    const whole = await world(undefined, (action, lock) => {
      taken.set(`${action} ${prefixOf(lock)}`, [action, prefixOf(lock)]);
      return false;
    });
    await exerciseAll(whole);
    const unneeded: string[] = [];
    for (const [action, prefix] of taken.values()) {
      const nodes = world(undefined, (of, lock) => of === action && prefixOf(lock) === prefix);
      const failure = await nodes.then(exerciseAll).then(
        () => undefined,
        (error: Error) => error.message,
      );
      if (!failure?.includes('without')) unneeded.push(`${action} ${prefix}`);
    }
    expect(unneeded).toEqual([]);
  });
});
