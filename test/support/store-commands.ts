import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { parseConfig } from '../../ca/config/config.ts';
import type { ShardSeries } from '../../ca/issue/shards.ts';
import type { TokenMemory } from '../../core/crypto/signer.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import type {
  Actor,
  CertificateDraft,
  CompleteCommand,
  Medium,
  ReserveCommand,
} from '../../store/api/certificate-store.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';
import type { Transaction } from '../../store/engine/record.ts';
import { type Load, type Rule, wholeRecord } from '../../store/engine/rule.ts';
import { epochContext, RecordFeed } from '../../store/feed/event-feed.ts';
import { openPostgres } from '../../store/postgres/postgres.ts';
import { openEpoch, openRecord } from '../../store/rules/ceremony-rules.ts';
import { RecordStore } from '../../store/rules/certificate-store.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import { type ManualClock, memoryTokenMemory, scratch } from './harness.ts';
import { memoryKeyWrapper } from './key-wrapper.ts';
import { newDatabase } from './postgres.ts';
import { ServerRecord } from './server-record.ts';

// Commands for the stores, with defaults that a test need not care about.

export const actor: Actor = { client: 'c'.repeat(64), role: 'issuer', requestId: 'r-1' };
export const day = 86_400_000;

/** The table of life events that is configured by default. */
const { policy } = parseConfig({});

/** How each implementation of the record is opened, empty. */
export const implementations: readonly [
  name: string,
  open: (options: { writer: string; clock: ManualClock }) => Promise<RecordDatabase>,
][] = [
  ['a server in memory', async (options) => new ServerRecord().connect(options)],
  ['SQLite', async ({ writer, clock }) => openSqlite({ file: join(scratch(), 'record.db'), writer, clock })],
  ['PostgreSQL', async (options) => openPostgres({ ...options, server: await newDatabase() })],
];

/** Opens a record with one authority, `signing-1`. */
export async function openAuthority(database: RecordDatabase, clock: ManualClock): Promise<void> {
  await openRecord(database, actor);
  const wrappedKey = await memoryKeyWrapper().wrap(epochContext('signing-1', 1), randomBytes(16));
  await openEpoch(database, actor, { authority: 'signing-1', epoch: 1, wrappedKey, nowMs: clock.wallMs() });
}

/** Writes rows as no rule of the store does. `loads`: what `body` reads. */
export function writeRows<R>(
  database: RecordDatabase,
  body: (tx: Transaction) => R,
  loads: readonly Load[] = [],
): Promise<R> {
  const rule: Rule<null, R> = {
    action: 'test',
    actor: () => actor,
    subject: () => ({}),
    locks: () => [wholeRecord],
    loads: () => loads,
    decide: (_input, tx) => body(tx),
  };
  return database.run(rule, null, 0);
}

/** Seals nothing: what it is given stays readable. */
export const openSeal = (context: string, octets: Uint8Array) => ({
  key: 'replies',
  octets: Buffer.concat([Buffer.from(`${context}\n`), octets]),
});

export const keyOf = ({ authority, epoch, position }: CertificateId): CertificateId => ({
  authority,
  epoch,
  position,
});

/** What completes an issuance, with a signature that is not verified. */
export const signed = ({ certificates }: ReserveCommand): CompleteCommand['certificates'] =>
  certificates.map((each) => ({ ...keyOf(each), signature: Uint8Array.of(9) }));

export function shardSeries(kind: string, capacity: number): ShardSeries {
  const series = `${kind}/1/13113`;
  const open = (number: number) => ({
    shard: `${series}/${number}`,
    series,
    number,
    authority: 'signing-1',
    distributionPointName: Uint8Array.of(1, 2, 3),
    path: `crl/${series}/${number}.crl`,
  });
  return { series, capacity, open };
}

/** The store of one node, and commands for it. */
export class StoreCommands {
  readonly store: RecordStore;
  readonly feed: RecordFeed;
  readonly tokenMemory: TokenMemory = memoryTokenMemory();
  readonly clock: ManualClock;
  readonly #writer: string;
  #requests = 0;

  constructor(database: RecordDatabase, clock: ManualClock) {
    this.clock = clock;
    this.#writer = database.writer;
    this.feed = new RecordFeed({ database, keyWrapper: memoryKeyWrapper(), clock });
    database.decideBy(policy);
    database.sealOutcomesWith(openSeal);
    this.store = new RecordStore({ database, feed: this.feed, tokenMemory: this.tokenMemory, clock });
  }

  scope(client = actor.client, idempotencyKey = `${this.#writer}-${++this.#requests}`) {
    return {
      client,
      route: 'POST /v1/x',
      idempotencyKey,
      bodyHash: new Uint8Array(32),
      expiresMs: this.clock.wallMs() + day,
    };
  }

  card(n: number = ++this.#requests, holderId = `holder-${n}`): Medium {
    return {
      mediumId: `card:${n}`,
      holderId,
      type: 'card',
      expiresMs: this.clock.wallMs() + 3000 * day,
      restsOn: null,
      platform: null,
      model: null,
      osVersion: null,
      secureElement: null,
      patchLevel: null,
    };
  }

  async draft(
    kind: CertificateDraft['kind'],
    overrides: Partial<CertificateDraft> = {},
  ): Promise<CertificateDraft> {
    const { epoch, first: position } = await this.store.leasePositions('signing-1', 1);
    return {
      authority: 'signing-1',
      epoch,
      position,
      kind,
      notBeforeMs: this.clock.wallMs(),
      notAfterMs: this.clock.wallMs() + 1000 * day,
      shard: shardSeries(kind, 1).open(0),
      restsOn: null,
      keyHash: randomBytes(32),
      toBeSigned: { key: 'year:2031', octets: randomBytes(16) },
      ...overrides,
    };
  }

  /** A card's issuance. */
  async command(overrides: Partial<ReserveCommand> = {}): Promise<ReserveCommand> {
    return {
      scope: this.scope(),
      actor,
      issuanceId: crypto.randomUUID(),
      medium: overrides.medium ?? this.card(),
      certificates: overrides.certificates ?? [
        await this.draft('card-signing'),
        await this.draft('card-authentication'),
      ],
      challengeHash: null,
      evidence: null,
      function: 'card-issuing',
      authenticationOnly: false,
      succession: null,
      limits: { cards: 1, phonesPerPlatform: 1 },
      ...overrides,
    };
  }
}
