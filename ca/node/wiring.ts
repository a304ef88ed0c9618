import { X509Certificate } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import { type SuiteName, suiteOfKey, suites } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { durationMs } from '../../core/config/duration.ts';
import type { DigestSigner, KeyWrapper, SigningPurpose, TokenMemory } from '../../core/crypto/signer.ts';
import { JournalSeal } from '../../core/feed/journal-seal.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { type Clock, systemClock } from '../../core/runtime/clock.ts';
import { lockData } from '../../core/runtime/data-lock.ts';
import { invariant, PkiError } from '../../core/runtime/errors.ts';
import { SteadyClock } from '../../core/runtime/steady-clock.ts';
import type { Actor } from '../../store/api/certificate-store.ts';
import { onlyNode } from '../../store/api/nodes.ts';
import { auditSuite, readCheckpoints } from '../../store/audit/checkpoints.ts';
import { AuditKey } from '../../store/engine/audit-key.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';
import { Elsewhere } from '../../store/feed/elsewhere.ts';
import { RecordFeed } from '../../store/feed/event-feed.ts';
import { migrateRecord } from '../../store/migrations/migrate.ts';
import { notLocked } from '../../store/migrations/migration.ts';
import { openRecord } from '../../store/rules/ceremony-rules.ts';
import { RecordStore } from '../../store/rules/certificate-store.ts';
import { RecordClients } from '../../store/rules/client-store.ts';
import { RecordConsents } from '../../store/rules/consent-store.ts';
import { RecordDesks } from '../../store/rules/desk-store.ts';
import { RecordHolders } from '../../store/rules/holder-store.ts';
import { RecordIntakes } from '../../store/rules/intake-store.ts';
import { RecordOperations } from '../../store/rules/operations-store.ts';
import { RecordOutbox } from '../../store/rules/outbox-store.ts';
import { RecordPreferences } from '../../store/rules/preference-store.ts';
import { RecordProposals } from '../../store/rules/proposal-store.ts';
import { findRecordKey, makeRecordKey, openJournalKey } from '../../store/rules/record-keys.ts';
import { RecordTime } from '../../store/rules/time-store.ts';
import {
  highestTimeMs,
  incarnationMemory,
  incarnationOf,
  incarnationsMemory,
  type RecordedAuthority,
  recordedAuthorities,
  refuseOlderRecord,
  schemaMemory,
  schemaVersion,
} from '../../store/rules/token-memory.ts';
import { RecordVerifiers } from '../../store/rules/verifier-store.ts';
import { RecordWatches } from '../../store/rules/watch-store.ts';
import { Authorities, Authority } from '../issue/authority.ts';
import { Encodings } from '../sealing/encoding.ts';
import { Sealer } from '../sealing/sealer.ts';
import { finishRestore } from './finish-restore.ts';
import { refuseOtherName } from './joined-name.ts';
import { type Keys, openOperatorKeys, openServiceKeys } from './keys.ts';
import { keyLabel, type Layout, layout, operationsSuite } from './layout.ts';
import { refuseOtherMode, rememberMode } from './mode.ts';
import { refuseUnfinishedMove } from './move-note.ts';
import { type Node, nodeActor, type OperatorNode } from './node.ts';
import type { OperationsAuthority } from './operations.ts';
import { openRecordAt, recordPlace, refuseMissing } from './record-place.ts';

/** Opens what a data folder holds, for an operator; with `create`, makes the tokens and the record first. */
export async function openNode(options: {
  readonly folder: string;
  readonly clock: Clock;
  readonly mode: 'create' | 'open';
  /** Whether the caller has the folder to itself; otherwise that is made sure of before a record is migrated. */
  readonly isOwner?: boolean;
}): Promise<OperatorNode> {
  const { clock, mode } = options;
  const paths = layout(options.folder);
  mkdirSync(options.folder, { recursive: true, mode: 0o700 });
  const keys = openOperatorKeys(paths, clock, mode);
  if (mode === 'create') keys.ownToken.generateWrappingKey(keyLabel.wrapping);
  return openRecordOf(paths, keys, { clock, mode, shared: true, isOwner: options.isOwner ?? false });
}

/** The same for the service. `ended` is called for signing processes that ended. */
export function openServiceNode(options: {
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly ended: (what: { why: string }) => void;
}): Promise<Node> {
  const paths = layout(options.folder);
  const keys = openServiceKeys(paths, options.clock, options.ended);
  const { clock, logger } = options;
  return openRecordOf(paths, keys, { clock, logger, mode: 'open', shared: false, isOwner: true });
}

async function openRecordOf<K extends Keys>(
  paths: Layout,
  keys: K,
  options: {
    readonly clock: Clock;
    readonly mode: 'create' | 'open';
    readonly shared: boolean;
    readonly isOwner: boolean;
    /** Of the service, which alone takes part as one of the record's nodes. */
    readonly logger?: Logger;
  },
): Promise<K & Node> {
  const { clock: machineClock, mode, shared, isOwner } = options;
  const { config, caToken } = keys;
  const clock = new SteadyClock(machineClock);
  const keyWrapper = caToken.keyWrapper(keyLabel.wrapping);
  let database: RecordDatabase | undefined;
  let nodes = onlyNode;
  const elsewhere = new Elsewhere({
    ...{ clock, file: options.logger ? paths.followers : null },
    failed: ({ message }) => options.logger?.error({ reason: message }, 'followers.json cannot be written'),
  });
  const close = async (): Promise<void> => {
    await nodes.close(elsewhere.mayAnswer);
    await database?.close();
    await keys.close();
  };
  try {
    const memory = caToken.memory();
    if (mode === 'open') await refuseOtherMode(memory, config);
    if (isOwner) await finishRestore(paths, memory);
    refuseUnfinishedMove(paths);
    refuseOtherName(config, paths);
    if (mode === 'open') await refuseMissing(config, paths);
    await migrateLive(paths, keys, { nowMs: machineClock.wallMs(), isOwner });
    database = await openRecordAt(config, paths, {
      ...{ clock, shared, isOwner: isOwner || mode === 'create' },
      // Of a clock that a test moves the server knows nothing.
      timedByServer: machineClock === systemClock,
    });
    const auditKey = await openAudited(database, keyWrapper, nodeActor(config), machineClock.wallMs());
    if ((await memory.recall(schemaMemory)) < Number(schemaVersion))
      await memory.remember(schemaMemory, Number(schemaVersion));
    if (mode === 'create') {
      await rememberMode(memory, config);
      await memory.remember(incarnationMemory(await incarnationOf(database)), 1);
      await memory.remember(incarnationsMemory, 1);
    } else await refuseOlderRecord(database, memory);
    const startStepMaxMs =
      config.clock.startStepMax === undefined
        ? Number.POSITIVE_INFINITY
        : durationMs(config.clock.startStepMax);
    const clockNews = clock.begin(await highestTimeMs(database, memory), startStepMaxMs);
    const journalKey = await openJournalKey(database, nodeActor(config), {
      keyWrapper,
      nowMs: clock.wallMs(),
    });
    const seal = new JournalSeal(journalKey);
    database.sealWith(seal);
    database.decideBy(config.policy);
    const answersForMs = durationMs(config.ocsp.feedLagMax);
    if (options.logger && database.openNodes)
      nodes = await database.openNodes({ answersForMs, logger: options.logger });
    const feed = new RecordFeed({ database, keyWrapper, clock, seal, nodes, elsewhere });
    const stores = storesOn({ database, feed, memory, clock });
    const sealer = new Sealer(stores.store, keyWrapper);
    const encodings = new Encodings(stores.store, sealer);
    return {
      ...keys,
      layout: paths,
      place: () => recordPlace(config, paths),
      clock,
      clockNews,
      database,
      auditKey,
      nodes,
      feed,
      ...stores,
      sealer,
      encodings,
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The rules of the record, by what they are about. */
function storesOn({
  database,
  feed,
  memory,
  clock,
}: {
  readonly database: RecordDatabase;
  readonly feed: RecordFeed;
  readonly memory: TokenMemory;
  readonly clock: SteadyClock;
}) {
  const on = { database, clock };
  return {
    store: new RecordStore({ ...on, feed, tokenMemory: memory }),
    operations: new RecordOperations({ ...on, feed }),
    outbox: new RecordOutbox(on),
    preferences: new RecordPreferences(on),
    holders: new RecordHolders(on),
    clients: new RecordClients({ database, clock: clock.machine }),
    desks: new RecordDesks(on),
    verifiers: new RecordVerifiers(on),
    proposals: new RecordProposals(on),
    time: new RecordTime(on),
    consents: new RecordConsents(on),
    watches: new RecordWatches(on),
    intakes: new RecordIntakes(on),
  };
}

/** Brings the record of a folder to this version's schema, while no service of an earlier version uses it. */
async function migrateLive(
  paths: Layout,
  { config, caToken }: Keys,
  { nowMs, isOwner }: { readonly nowMs: number; readonly isOwner: boolean },
): Promise<void> {
  // No earlier version kept its record in a database server.
  if (config.record.postgres) return;
  await migrateRecord(paths.record, {
    keyWrapper: caToken.keyWrapper(keyLabel.wrapping),
    actor: nodeActor(config),
    nowMs,
    lock: () => (isOwner ? notLocked : lockData(paths.folder, ['owner'], 'migrating the record')),
    checkpoints: async () => {
      const { publicKey } = await caToken.findKeyPair(keyLabel.audit, suites[auditSuite]);
      return readCheckpoints(paths.checkpoints, publicKey);
    },
    schemaSeen: await caToken.memory().recall(schemaMemory),
  });
}

/** Opens the record so that its audit chain is authenticated from its first entry on. Gives the key. */
async function openAudited(
  database: RecordDatabase,
  keyWrapper: KeyWrapper,
  actor: Actor,
  nowMs: number,
): Promise<Bytes> {
  const known = await findRecordKey(database, keyWrapper, 'audit');
  const made = known ? undefined : await makeRecordKey(keyWrapper, 'audit', nowMs);
  const key = known ?? made?.key;
  invariant(key, 'a key is known or made');
  database.authenticateWith(new AuditKey(key));
  await openRecord(database, actor, made ? [made.row] : []);
  return key;
}

/** A signer for one key of the CA token and its copies, bound to a purpose. */
export async function signerFor<Purpose extends SigningPurpose>(
  { pool, caToken, config }: Pick<Node, 'pool' | 'caToken' | 'config'>,
  label: string,
  suite: SuiteName,
  purpose: Purpose,
  mass = false,
): Promise<DigestSigner<Purpose>> {
  const key = await caToken.findKeyPair(label, suites[suite]);
  const copies = config.pkcs11.caToken.copies.map((copy) => copy.label);
  return pool.signer({ purpose, suite: suites[suite], tokenLabel: caToken.label, copies, key, mass });
}

/** Every authority on record of an opened node. */
export async function openAuthorities(node: Node): Promise<Authorities> {
  const recorded = await recordedAuthorities(node.database);
  return new Authorities(await Promise.all(recorded.map((row) => openAuthority(node, row))));
}

/** One authority on record, ready to issue. */
export async function openAuthority(
  node: Node,
  { authority: name, slot, generation, suite, certificate }: RecordedAuthority,
): Promise<Authority> {
  const { store, config } = node;
  const signer = await signerFor(node, name, suite as SuiteName, 'certificate');
  const massSigner = await signerFor(node, name, suite as SuiteName, 'certificate', true);
  return new Authority({ name, slot, generation, certificate, signer, massSigner, store, config }).load();
}

/**
 * A signer of an authority's CRLs, whose key is looked up in the token with its first signature: an authority that was added
 * while the service runs reaches the publisher like any other.
 */
export function crlSignerFor(
  node: Pick<Node, 'pool' | 'caToken' | 'config'>,
  name: string,
  certificate: Bytes,
): DigestSigner<'crl'> {
  const { publicKey } = parseCertificate(certificate);
  const suite = suiteOfKey(publicKey);
  if (!suite) throw new PkiError('invalid-key', `${name} has a key of a type that is not known here`);
  let opening: Promise<DigestSigner<'crl'>> | undefined;
  const signer = (): Promise<DigestSigner<'crl'>> => {
    opening ??= signerFor(node, name, suite.name, 'crl').catch((error: unknown) => {
      opening = undefined;
      throw error;
    });
    return opening;
  };
  return {
    purpose: 'crl',
    suite,
    publicKey,
    form: node.pool.crlForm,
    sign: async (message, signal) => (await signer()).sign(message, signal),
    signDigest: async (digest, signal) => (await signer()).signDigest(digest, signal),
  };
}

/** The operations CA’s certificate, PEM. */
export const operationsCa = ({ layout: paths }: Pick<Node, 'layout'>): string =>
  readFileSync(paths.operationsCa, 'utf8');

/** The operations CA of an opened node. */
export async function openOperations(node: Node): Promise<OperationsAuthority> {
  const signer = await signerFor(node, keyLabel.operations, operationsSuite, 'certificate');
  const certificate = new X509Certificate(operationsCa(node)).raw;
  return { signer, certificate, record: node.clients, clock: node.clock.machine, config: node.config };
}
