import { existsSync, renameSync, rmSync } from 'node:fs';
import { resolve } from 'node:path';
import { suites } from '../../core/asn1/algorithms.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { syncFolder } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { Progress } from '../../core/runtime/progress.ts';
import { auditSuite, readCheckpoints } from '../../store/audit/checkpoints.ts';
import { openReader, type RecordPlace } from '../../store/audit/open-reader.ts';
import { verifyAudit } from '../../store/audit/verify-audit.ts';
import { AuditKey } from '../../store/engine/audit-key.ts';
import { copyRecord, differingTable, rowsByTable, sumsOf } from '../../store/move/copy-record.ts';
import { openCopyTarget, setAside } from '../../store/move/postgres-target.ts';
import { openCopyFile } from '../../store/move/sqlite-target.ts';
import { plainServer } from '../../store/postgres/server.ts';
import { incarnationOf } from '../../store/rules/token-memory.ts';
import { parseConfig, readConfig } from '../config/config.ts';
import { postgresAt } from '../config/record.ts';
import { tellingOf } from './audit.ts';
import { actAtConsole } from './console-approval.ts';
import { isMade, keyLabel, type Layout, layout } from './layout.ts';
import { type MoveNote, readMoveNote, removeMoveNote, writeMoveNote } from './move-note.ts';
import type { Node } from './node.ts';
import { refuseOtherNodes, withLock } from './operator.ts';
import { postgresOf } from './record-place.ts';
import { openNode } from './wiring.ts';

// Moves a record into another database while the service is stopped: copies it, compares each table, verifies the audit chain of the copy, and
// puts the original aside, so that no service finds both.

/** Where a record is moved to, and what `record` in the configuration says then. */
export interface MoveTarget {
  readonly record: { readonly postgres?: object };
  /** Without secrets. */
  readonly text: string;
}

export interface MoveOptions {
  readonly passwordFile?: string;
  readonly ca?: string;
  readonly tls?: boolean;
}

/** Reads `sqlite` or `postgres://USER@HOST[:PORT][,HOST...]/DATABASE`. Throws `bad-request`. */
export function moveTargetOf(to: string, { passwordFile, ca, tls = true }: MoveOptions): MoveTarget {
  if (to === 'sqlite') return { record: {}, text: 'the file record.db' };
  const postgres = {
    ...postgresAt(to, '--to'),
    ...(passwordFile === undefined ? {} : { passwordFile }),
    ...(ca === undefined ? {} : { ca }),
    ...(tls ? {} : { tls: 'off' }),
  };
  parseConfig({ record: { postgres } });
  return { record: { postgres }, text: `the database ${postgres.database} at ${postgres.hosts.join()}` };
}

/** What was moved. */
interface Moved {
  readonly rows: readonly (readonly [table: string, rows: number])[];
  readonly auditEntries: number;
}

/** Moves the record of a data folder, or finishes that. Gives what was moved, and what is to be done next, a line each. */
export async function moveRecord(
  data: string,
  target: MoveTarget,
  approvedBy: readonly string[],
): Promise<readonly string[]> {
  const folder = resolve(data);
  const paths = layout(folder);
  await withLock(folder, 'migrate', 'nothing', async () => {
    if (!isMade(paths))
      throw new PkiError('bad-request', `${folder} has had no ceremony: there is no record to move`);
    if (readMoveNote(paths)?.state !== 'copied') await copyWhole(paths, target, approvedBy);
  });
  const note = readMoveNote(paths);
  if (note?.state !== 'copied') throw new PkiError('internal', 'a copy left no note');
  if (note.to !== target.text)
    throw new PkiError(
      'bad-request',
      `the record was copied to ${note.to}: finish that by the same warifu migrate first`,
    );
  const lines = [...note.lines];
  await withLock(folder, 'migrate', 'nothing', async () => {
    const aside = await putAside(paths, note);
    lines.push(`the record that was used is now ${aside}: remove it when you need it no more`);
    const said = `"record": ${JSON.stringify(target.record)}`;
    lines.push(
      existsSync(paths.config)
        ? `before the service is started, put into ${paths.config}: ${said}`
        : `before the service is started, write ${paths.config}: { ${said} }`,
    );
    removeMoveNote(paths);
  });
  return lines;
}

/** Leaves a note that the copy is whole. */
async function copyWhole(paths: Layout, target: MoveTarget, approvedBy: readonly string[]): Promise<void> {
  const node = await openNode({ folder: paths.folder, clock: systemClock, mode: 'open', isOwner: true });
  try {
    await refuseOtherNodes(node, 'migrate');
    const { rows, auditEntries } = await copyTo(node, target, approvedBy);
    writeMoveNote(paths, {
      ...{ state: 'copied', to: target.text, atMs: systemClock.wallMs() },
      from: 'server' in node.place() ? 'server' : 'file',
      lines: [
        ...rows.map(([table, count]) => `${table}: ${count} rows, the same sum`),
        `${auditEntries} entries of the audit chain verified in ${target.text}`,
      ],
    });
  } finally {
    await node.close();
  }
}

/** Copies the record of an opened node, and verifies the copy. Run again it goes on where it was interrupted. */
async function copyTo(node: Node, target: MoveTarget, approvedBy: readonly string[]): Promise<Moved> {
  const isServer = 'postgres' in target.record;
  if (isServer === 'server' in node.place())
    throw new PkiError(
      'bad-request',
      `the record is ${isServer ? 'in PostgreSQL already: from one database to another it goes by --to sqlite' : 'a file already'}`,
    );
  const does = [`copies the whole record to ${target.text}, and puts the one that is used now aside`];
  const intent = { act: 'migrate', arguments: [target.text], does } as const;
  return actAtConsole(node, intent, { files: approvedBy }, () => copyAndVerify(node, target));
}

async function copyAndVerify(node: Node, target: MoveTarget): Promise<Moved> {
  const { layout: paths, clock } = node;
  const server = postgresOf(parseConfig({ record: target.record }), paths);
  const file = `${paths.record}.moving`;
  const copy = server ? await openCopyTarget(server) : openCopyFile(file);
  const copied: RecordPlace = server ? { server: plainServer(server) } : { file };
  const bar = new Progress(process.stderr, clock);
  using from = closing(openReader(node.place(), () => undefined));
  try {
    await refuseForeign(paths, target, await copy.isEmpty());
    const made = openReader(copied, () => undefined);
    const damage = made.damage();
    made.close();
    if (damage !== undefined) throw new PkiError('bad-request', `${target.text}: ${damage}`);
    await copyRecord(from, copy, bar.of('rows copied'));
  } finally {
    await copy.close();
  }
  using reader = closing(openReader(copied, () => undefined));
  const key = new AuditKey(node.auditKey);
  const sums = sumsOf(reader, key, bar.of('rows of the copy read'));
  const other = differingTable(sumsOf(from, key, bar.of('rows compared')), sums);
  if (other !== undefined)
    throw new PkiError(
      'record-unavailable',
      `${other} is not the same in the copy: the record was written since the copy began; empty ${target.text}, and begin again`,
    );
  const { publicKey } = await node.caToken.findKeyPair(keyLabel.audit, suites[auditSuite]);
  const incarnation = await incarnationOf(node.database);
  const checkpoints = readCheckpoints(paths.checkpoints, publicKey).filter(
    (checkpoint) => checkpoint.incarnation === incarnation,
  );
  const verifiable = {
    readOnce: reader.readOnce.bind(reader),
    integrity: async () => reader.damage(),
  };
  const { finding, entries } = await verifyAudit(verifiable, checkpoints, key, tellingOf(bar));
  bar.end();
  if (finding)
    throw new PkiError('record-unavailable', `the copy is not right: ${finding.where}: ${finding.what}`);
  return { rows: rowsByTable(sums), auditEntries: entries };
}

/** What is there already is a copy that this command had begun, or nothing. */
async function refuseForeign(paths: Layout, target: MoveTarget, isEmpty: boolean): Promise<void> {
  const noted = readMoveNote(paths);
  if (!isEmpty && noted?.to !== target.text)
    throw new PkiError('bad-request', `${target.text} is not empty: a record is copied into an empty one`);
  writeMoveNote(paths, { state: 'copying', to: target.text });
}

/** A file of SQLite, and what belongs to it. */
const ends = ['', '-wal', '-shm'];

/** Puts the record that was copied aside, once nothing has it open. Done again it changes nothing. Gives where it is. */
async function putAside(paths: Layout, { from, atMs }: MoveNote & { state: 'copied' }): Promise<string> {
  const at = new Date(atMs).toISOString().replaceAll(':', '');
  const rename = (end: string, to: string): void => {
    if (existsSync(`${paths.record}${end}`)) renameSync(`${paths.record}${end}`, `${to}${end}`);
  };
  if (from === 'file') {
    const aside = `${paths.record}.moved-${at}`;
    for (const end of ends) rename(end, aside);
    return aside;
  }
  const server = postgresOf(readConfig(paths.config), paths);
  if (!server)
    throw new PkiError('bad-request', `put record.postgres back into ${paths.config} until this is finished`);
  if (existsSync(`${paths.record}.moving`)) {
    // What an earlier service left is no part of this record.
    for (const end of ends) rename(end, `${paths.record}.replaced-${at}`);
    renameSync(`${paths.record}.moving`, paths.record);
    for (const end of ['-wal', '-shm']) rmSync(`${paths.record}.moving${end}`, { force: true });
    syncFolder(paths.folder);
  }
  return `the schema ${await setAside(server, atMs)} of the database`;
}

function closing<T extends { close(): void }>(what: T): T & Disposable {
  return Object.assign(what, { [Symbol.dispose]: () => what.close() });
}
