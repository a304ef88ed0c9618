import { copyFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { suites } from '../../core/asn1/algorithms.ts';
import { SerialCipher } from '../../core/crypto/serial.ts';
import type { KeyWrapper, TokenMemory } from '../../core/crypto/signer.ts';
import type { FeedCursor } from '../../core/feed/feed.ts';
import {
  type JournalContent,
  type JournalTrust,
  journalContent,
  mergeJournals,
  reachOf,
} from '../../core/feed/journal-content.ts';
import { segmentsOf } from '../../core/feed/journal-files.ts';
import { JournalSeal } from '../../core/feed/journal-seal.ts';
import { hex } from '../../core/runtime/bytes.ts';
import { type Clock, systemClock } from '../../core/runtime/clock.ts';
import { replaceDurably } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Progress } from '../../core/runtime/progress.ts';
import type { Actor } from '../../store/api/certificate-store.ts';
import { migrateAction, writersOf } from '../../store/audit/chains.ts';
import { auditSuite, type Checkpoint, readCheckpoints } from '../../store/audit/checkpoints.ts';
import { type VerifiableRecord, verifyAudit } from '../../store/audit/verify-audit.ts';
import { AuditKey } from '../../store/engine/audit-key.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';
import { epochContext } from '../../store/feed/event-feed.ts';
import { migrateRecord } from '../../store/migrations/migrate.ts';
import { notLocked } from '../../store/migrations/migration.ts';
import { type AdoptedCertificate, type ReconcileReport, reconcile } from '../../store/restore/reconcile.ts';
import { eraseDataKey } from '../../store/rules/ceremony-rules.ts';
import { allowedConfiguration } from '../../store/rules/configuration-rules.ts';
import { findRecordKey } from '../../store/rules/record-keys.ts';
import { eraseIdentities } from '../../store/rules/same-person.ts';
import {
  eventHead,
  headMemory,
  incarnationMemory,
  incarnationOf,
  incarnationsMemory,
  startMemory,
} from '../../store/rules/token-memory.ts';
import { openSqlite } from '../../store/sqlite/sqlite.ts';
import { type Config, readGiven } from '../config/config.ts';
import { meaningOf } from '../config/meaning.ts';
import { lastOf, tellingOf } from './audit.ts';
import { type Approved, noteConsoleAct } from './console-approval.ts';
import { erasedMemory } from './erase-year.ts';
import {
  isUnfinished,
  placeRestored,
  refuseInterrupted,
  removeDatabase,
  workingRecord,
} from './finish-restore.ts';
import { openTokens } from './keys.ts';
import { keyLabel, type Layout } from './layout.ts';
import { nodeActor } from './node.ts';

/** What a restore has worked out, before anything takes its place. */
interface WorkedOut {
  readonly config: Config;
  readonly memory: TokenMemory;
  readonly report: ReconcileReport;
  /** Whether two persons have allowed what the configuration file says, as the backup has it. */
  readonly isAllowed: boolean;
}

/**
 * Makes the record of a data folder out of a backup and of what followers have received since. Nothing is replaced
 * until all of it has succeeded; the record there was is kept next to it. Throws `bad-request` where something would be lost and
 * that was not accepted, naming all of it.
 */
export async function restoreRecord(options: {
  readonly layout: Layout;
  readonly backup: string;
  readonly journals: readonly string[];
  /** Restore also where something that is known to have been on record is lost. */
  readonly acceptLoss?: boolean;
  /** Believe journals, or lines of them, that have no proof of this CA. */
  readonly acceptUnproven?: boolean;
  readonly clock?: Clock;
  readonly bar?: Progress | undefined;
  /** Allows what was worked out to take the record's place; throws where it may not. */
  readonly approve?: (worked: WorkedOut) => Promise<Approved | undefined>;
}): Promise<ReconcileReport> {
  const { layout: paths, backup, journals, clock = systemClock } = options;
  for (const file of [backup, ...journals])
    if (!existsSync(file) && segmentsOf(file).length === 0)
      throw new PkiError('bad-request', `there is no file ${file}`);
  const working = workingRecord(paths);
  const { config, caToken, close } = openTokens(paths, 'open');
  try {
    await refuseInterrupted(paths, caToken.memory());
    removeDatabase(working);
    copyFileSync(backup, working);
    const keyWrapper = caToken.keyWrapper(keyLabel.wrapping);
    // Of any schema: what signed checkpoints do not cover is listed as lost.
    await migrateRecord(working, {
      keyWrapper,
      actor: nodeActor(config),
      nowMs: clock.wallMs(),
      lock: () => notLocked,
      checkpoints: async () => [],
      schemaSeen: 0,
    });
    const database = openSqlite({ file: working, writer: config.node, clock });
    let restored: Awaited<ReturnType<typeof reconcile>>;
    let isAllowed: boolean;
    let adopted: string;
    try {
      const memory = caToken.memory();
      const { publicKey } = caToken.findKeyPair(keyLabel.audit, suites[auditSuite]);
      const auditKey = await findAuditKey(database, keyWrapper);
      database.authenticateWith(auditKey);
      const journalKey = await findRecordKey(database, keyWrapper, 'journal');
      const seal = journalKey ? new JournalSeal(journalKey) : null;
      const trust = { seal, acceptUnproven: options.acceptUnproven === true };
      const received = await readJournals(journals, memory, { trust, isNews: await newsOf(database) });
      if (seal) database.sealWith(seal);
      const uncovered = await refuseAltered(database, {
        checkpoints: [paths.checkpoints, join(`${backup}.files`, 'audit', 'checkpoints.ndjson')].flatMap(
          (file) => readCheckpoints(file, publicKey),
        ),
        auditKey,
        bar: options.bar,
      });
      const ordinals = await ordinalsOf(await incarnationOf(database), received, memory);
      const missing = await lostEvents(database, memory, received, ordinals);
      restored = await reconcile({
        database,
        actor: nodeActor(config),
        memory,
        keyWrapper,
        received,
        ordinals,
        seal,
        lost: [...uncovered, ...missing],
        acceptLoss: options.acceptLoss === true,
        nowMs: clock.wallMs(),
      });
      await eraseAgain(database, nodeActor(config), memory);
      isAllowed = (await allowedConfiguration(database)) === meaningOf(readGiven(paths.config));
      adopted = await listOfAdopted(database, keyWrapper, restored.report.adopted);
    } finally {
      await database.close();
    }
    const { report } = restored;
    const approved = await options.approve?.({ config, memory: caToken.memory(), report, isAllowed });
    if (approved) noteConsoleAct(paths, approved.act);
    if (adopted !== '') replaceDurably(paths.adopted, adopted);
    await placeRestored(paths, caToken.memory(), { remember: restored.remember, atMs: clock.wallMs() });
    await approved?.done();
    return restored.report;
  } finally {
    // There still where something was refused.
    if (!isUnfinished(paths)) removeDatabase(working);
    close();
  }
}

/** A backup's own. Throws `bad-request` for one that has none. */
async function findAuditKey(database: RecordDatabase, keyWrapper: KeyWrapper): Promise<AuditKey> {
  const key = await findRecordKey(database, keyWrapper, 'audit');
  if (!key) throw new PkiError('bad-request', 'the backup was altered: it has no key of its audit chain');
  return new AuditKey(key);
}

/** The list of adopted certificates, for the administrator who binds them. Mode 0600: it shows which belong together. */
async function listOfAdopted(
  database: RecordDatabase,
  keyWrapper: KeyWrapper,
  adopted: readonly AdoptedCertificate[],
): Promise<string> {
  if (adopted.length === 0) return '';
  const ciphers = new Map<string, SerialCipher>();
  for (const { authority, epoch, wrappedKey } of await database.read((reader) => reader.find('epoch', {}))) {
    const key = await keyWrapper.unwrap(epochContext(authority, epoch), wrappedKey);
    ciphers.set(`${authority} ${epoch}`, new SerialCipher(epoch, key));
  }
  const lines = adopted.map(({ authority, epoch, position, notAfterMs, ...others }) => {
    const serial = ciphers.get(`${authority} ${epoch}`)?.encrypt(position);
    const notAfter = new Date(notAfterMs).toISOString();
    return JSON.stringify({ authority, serialNumber: serial ? hex(serial) : null, notAfter, ...others });
  });
  return `${lines.join('\n')}\n`;
}

/** Journals of this CA: another's would revoke what is good here. */
async function readJournals(
  files: readonly string[],
  memory: TokenMemory,
  { trust, isNews }: { readonly trust: JournalTrust; readonly isNews: (cursor: FeedCursor) => boolean },
): Promise<JournalContent> {
  const content = mergeJournals(await Promise.all(files.map((file) => journalContent(file, trust, isNews))));
  for (const incarnation of content.heads.keys()) {
    if ((await memory.recall(incarnationMemory(incarnation))) === 0) {
      throw new PkiError(
        'bad-request',
        `a journal is of record ${incarnation}, which the token does not know`,
      );
    }
  }
  return content;
}

/** Tells lines of a journal that a backup does not have already: of it, all that came before is on record. */
async function newsOf(database: RecordDatabase): Promise<(cursor: FeedCursor) => boolean> {
  const own = await incarnationOf(database);
  const heads = await database.read((reader) =>
    Object.fromEntries(
      writersOf(reader).map((writer) => [
        writer,
        reader.find('event', { writer }, { descending: true, limit: 1 })[0]?.position ?? 0,
      ]),
    ),
  );
  return ({ incarnation, positions }) =>
    incarnation !== own ||
    Object.entries(positions).some(([writer, position]) => position > (heads[writer] ?? 0));
}

/** Numbers of incarnations, in their order, as the token remembers: of the backup's own, and of those that journals are of. */
async function ordinalsOf(
  own: string,
  received: JournalContent,
  memory: TokenMemory,
): Promise<ReadonlyMap<string, number>> {
  const ordinals = new Map<string, number>();
  for (const incarnation of new Set([own, ...received.heads.keys()]))
    ordinals.set(incarnation, await memory.recall(incarnationMemory(incarnation)));
  return ordinals;
}

/** Events that were on record, as the token remembers or a journal shows, and stand neither in the backup nor in a journal; in words. */
async function lostEvents(
  database: RecordDatabase,
  memory: TokenMemory,
  received: JournalContent,
  ordinals: ReadonlyMap<string, number>,
): Promise<string[]> {
  const own = await incarnationOf(database);
  const ownOrdinal = ordinals.get(own) ?? 0;
  const ownHead = await eventHead(database);
  const lost = await lostIncarnations(memory, ordinals, ownOrdinal);
  for (const [incarnation, ordinal] of ordinals) {
    // What is before the backup is in it.
    if (incarnation !== own && ordinal <= ownOrdinal) continue;
    const writers = new Set([database.writer, ...(received.heads.get(incarnation)?.keys() ?? [])]);
    for (const writer of writers) {
      // The token may come out of the same backup: then it remembers no more than that.
      const seen = received.heads.get(incarnation)?.get(writer) ?? 0;
      const last = Math.max(seen, await memory.recall(headMemory(incarnation, writer)));
      const ownStart = writer === database.writer ? ownHead : 0;
      const start = incarnation === own ? ownStart : await memory.recall(startMemory(incarnation, writer));
      const known = reachOf(received.spans, { incarnation, writer, start });
      if (known < last)
        lost.push(
          `events ${known + 1} to ${last} of ${writer}, revocations maybe among them: no journal has them`,
        );
    }
  }
  return lost;
}

/** Incarnations of the record since the backup's of which no journal was given. */
async function lostIncarnations(
  memory: TokenMemory,
  ordinals: ReadonlyMap<string, number>,
  ownOrdinal: number,
): Promise<string[]> {
  const received = new Set(ordinals.values());
  const newest = await memory.recall(incarnationsMemory);
  const lost: string[] = [];
  for (let ordinal = ownOrdinal + 1; ordinal <= newest; ordinal++)
    if (!received.has(ordinal))
      lost.push(
        `everything that was done after restore number ${ordinal - 1}: no journal of it was given (also those set aside: journal.ndjson.previous)`,
      );
  return lost;
}

/** Refuses a backup that is not as it was written. Gives what of its audit chain no signed checkpoint covers, in words. */
async function refuseAltered(
  database: RecordDatabase & VerifiableRecord,
  {
    checkpoints,
    auditKey,
    bar,
  }: {
    readonly checkpoints: readonly Checkpoint[];
    readonly auditKey: AuditKey;
    readonly bar: Progress | undefined;
  },
): Promise<string[]> {
  const incarnation = await incarnationOf(database);
  const { writer } = database;
  const head = await writtenHead(database);
  const own = checkpoints.filter((each) => each.incarnation === incarnation && each.writer === writer);
  // Those behind its end are of what came after the backup.
  const { finding } = await verifyAudit(
    database,
    own.filter(({ sequence }) => sequence <= head),
    auditKey,
    tellingOf(bar),
  );
  if (finding)
    throw new PkiError('record-unavailable', `the backup was altered: ${finding.where}: ${finding.what}`);
  const covered = lastOf(own.filter(({ sequence }) => sequence <= head));
  if (covered >= head) return [];
  return [
    `proof of the audit entries ${covered + 1} to ${head} of the backup: no signed checkpoint covers them`,
  ];
}

/** Where the chain of a backup ended as it was made: entries of migrations, if it was migrated just now, came later. */
async function writtenHead(database: RecordDatabase): Promise<number> {
  const { writer } = database;
  const last = await database.read((reader) =>
    reader.find('audit', { writer }, { descending: true, limit: migrationsMax }),
  );
  const isWritten = last.findIndex(({ acts }) => !acts.includes(migrateAction));
  const migrated = isWritten < 0 ? last : last.slice(0, isWritten);
  return (migrated.at(-1)?.sequence ?? (last[0]?.sequence ?? 0) + 1) - 1;
}

/** More than there are. */
const migrationsMax = 16;

/** Personal data of a year that was erased stays erased, whatever a backup holds. */
async function eraseAgain(database: RecordDatabase, actor: Actor, memory: TokenMemory): Promise<void> {
  const keys = await database.read((reader) => reader.find('dataKey', {}));
  for (const { name } of keys) {
    const year = Number(/^year:(\d{4})$/.exec(name)?.[1]);
    if (!(year > 0) || (await memory.recall(erasedMemory(year))) === 0) continue;
    await eraseIdentities(database, actor, year);
    await eraseDataKey(database, actor, name);
  }
}
