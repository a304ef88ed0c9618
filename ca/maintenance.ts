import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { suites, verifySignature } from '../core/algorithms.ts';
import { hex } from '../core/bytes.ts';
import { type Clock, systemClock } from '../core/clock.ts';
import { PkiError } from '../core/errors.ts';
import type { FeedEvent } from '../core/feed.ts';
import { journalContent } from '../core/feed-journal.ts';
import type { Signer, TokenMemory } from '../core/signer.ts';
import { eraseDataKey, incarnationMemory, incarnationOf } from '../store/administration.ts';
import { type ReconcileReport, reconcile } from '../store/reconcile.ts';
import type { RecordDatabase } from '../store/record.ts';
import { openSqlite } from '../store/sqlite.ts';
import { type AuditHead, type AuditReport, verifyAudit } from '../store/verify-audit.ts';
import { openTokens } from './keys.ts';
import { auditSuite, keyLabel, type Layout, type Node, nodeActor, signerFor } from './wiring.ts';

/** A head of the audit chain, signed by a key in the CA token. */
interface Checkpoint extends AuditHead {
  /** Of the record: a restored one has another, and a chain that goes on from its backup. */
  readonly incarnation: string;
  readonly at: string;
  /** Over `checkpointText`, base64. */
  readonly signature: string;
}

const checkpointText = ({ incarnation, writer, sequence, hash, at }: Omit<Checkpoint, 'signature'>): Buffer =>
  Buffer.from(`warifu audit checkpoint\n${incarnation}\n${writer}\n${sequence}\n${hash}\n${at}\n`);

export const auditSigner = (node: Node): Promise<Signer<'audit'>> =>
  signerFor(node, keyLabel.audit, auditSuite, 'audit');

/** Signs where this writer's chain has come to. Ship it elsewhere: what lies before it can then not be cut off. */
export async function signCheckpoint(node: Node, signer: Signer<'audit'>): Promise<Checkpoint | undefined> {
  const { writer } = node.database;
  const [last] = await node.database.read((reader) =>
    reader.find('audit', { writer }, { descending: true, limit: 1 }),
  );
  if (!last) return undefined;
  const at = new Date(node.clock.wallMs()).toISOString();
  const incarnation = await incarnationOf(node.database);
  const head = { incarnation, writer, sequence: last.sequence, hash: hex(last.hash), at };
  const signature = Buffer.from(await signer.sign(checkpointText(head))).toString('base64');
  const checkpoint = { ...head, signature };
  mkdirSync(dirname(node.layout.checkpoints), { recursive: true, mode: 0o700 });
  appendFileSync(node.layout.checkpoints, `${JSON.stringify(checkpoint)}\n`);
  return checkpoint;
}

/** Checks the whole record against its audit chain, and the chain against signed checkpoints. */
export async function auditRecord(
  node: Node,
  named?: string,
): Promise<AuditReport & { readonly checkpoints: number }> {
  if (named !== undefined && !existsSync(named))
    throw new PkiError('bad-request', `there is no file ${named}`);
  const checkpointFile = named ?? node.layout.checkpoints;
  const { publicKey } = await node.caToken.findKeyPair(keyLabel.audit, suites[auditSuite]);
  const checkpoints = readCheckpoints(checkpointFile);
  for (const checkpoint of checkpoints) {
    const signature = Buffer.from(checkpoint.signature, 'base64');
    if (!verifySignature(suites[auditSuite], publicKey, checkpointText(checkpoint), signature)) {
      throw new PkiError(
        'bad-request',
        `${checkpointFile}: the checkpoint of ${checkpoint.at} is not signed by this CA`,
      );
    }
  }
  const incarnation = await incarnationOf(node.database);
  // Of this record: the token has been asked at opening whether the incarnation is one it knows.
  const own = checkpoints.filter((checkpoint) => checkpoint.incarnation === incarnation);
  return { ...(await verifyAudit(node.database, own)), checkpoints: own.length };
}

function readCheckpoints(file: string): Checkpoint[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Checkpoint);
}

/**
 * Erases the personal data of certificates that ended in a year that is over. Status, audit and the uniqueness of
 * keys stay. A service that runs forgets the key when it is started again; backups from before still hold it.
 */
export async function eraseYear(node: Node, year: number): Promise<void> {
  if (!Number.isInteger(year) || year >= new Date(node.clock.wallMs()).getUTCFullYear()) {
    throw new PkiError('bad-request', `${year} is not a year that is over`);
  }
  await eraseDataKey(node.database, nodeActor(node.config), `year:${year}`);
}

/**
 * Makes the record of a data folder out of a backup and of what followers have heard since. Nothing is replaced
 * until all of it has succeeded; the record there was is kept beside.
 */
export async function restoreRecord(options: {
  readonly layout: Layout;
  readonly backup: string;
  readonly journals: readonly string[];
  /** Restore also where certificates were issued under epochs that the backup does not have. */
  readonly acceptLoss?: boolean;
  readonly clock?: Clock;
}): Promise<ReconcileReport> {
  const { layout: paths, backup, journals, clock = systemClock } = options;
  for (const file of [backup, ...journals]) {
    if (!existsSync(file)) throw new PkiError('bad-request', `there is no file ${file}`);
  }
  const working = `${paths.record}.restoring`;
  removeDatabase(working);
  copyFileSync(backup, working);
  const { config, caToken, close } = openTokens(paths, 'open');
  try {
    const database = openSqlite({ file: working, writer: config.node, clock });
    let report: ReconcileReport;
    try {
      await refuseAltered(database);
      report = await reconcile({
        database,
        actor: nodeActor(config),
        memory: caToken.memory(),
        keyWrapper: caToken.keyWrapper(keyLabel.wrapping),
        events: await readJournals(journals, caToken.memory()),
        acceptLoss: options.acceptLoss === true,
        nowMs: clock.wallMs(),
      });
    } finally {
      await database.close();
    }
    replaceDatabase(paths.record, working, clock.wallMs());
    return report;
  } finally {
    close();
  }
}

/** Events of journals of this CA: another's would revoke what is good here. */
async function readJournals(files: readonly string[], memory: TokenMemory): Promise<FeedEvent[]> {
  const journals = await Promise.all(files.map(journalContent));
  for (const incarnation of new Set(journals.flatMap(({ incarnations }) => incarnations))) {
    if ((await memory.recall(incarnationMemory(incarnation))) === 0) {
      throw new PkiError(
        'bad-request',
        `a journal is of record ${incarnation}, which the token does not know`,
      );
    }
  }
  return journals.flatMap(({ events }) => events);
}

async function refuseAltered(database: RecordDatabase): Promise<void> {
  const { finding } = await verifyAudit(database, []);
  if (finding) throw new PkiError('bad-request', `the backup was altered: ${finding.where}: ${finding.what}`);
}

const databaseFiles = (file: string): string[] => ['', '-wal', '-shm'].map((suffix) => `${file}${suffix}`);

function removeDatabase(file: string): void {
  for (const part of databaseFiles(file)) rmSync(part, { force: true });
}

function replaceDatabase(file: string, by: string, nowMs: number): void {
  for (const part of databaseFiles(file)) {
    if (existsSync(part)) renameSync(part, part.replace(file, `${file}.replaced-${nowMs}`));
  }
  renameSync(by, file);
}
