import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { suites } from '../../core/asn1/algorithms.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { replaceDurably, syncFolder } from '../../core/runtime/durable-file.ts';
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
import { parseConfig } from '../config/config.ts';
import { postgresAt } from '../config/record.ts';
import { tellingOf } from './audit.ts';
import { actAtConsole } from './console-approval.ts';
import { keyLabel, type Layout, layout } from './layout.ts';
import type { Node } from './node.ts';
import { withLock } from './operator.ts';
import { postgresOf } from './record-place.ts';
import { openNode } from './wiring.ts';

// A record moved into another database, while the service is stopped: copied, compared table by table, its audit chain verified where it is
// then, and the one before put aside, so that no service finds both.

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

/** Where an unfinished copy is noted: to go on, and to know that what is there was begun by it. */
const noteOf = ({ folder }: Layout): string => join(folder, 'record.moving.json');

/** What was moved. */
interface Moved {
  readonly rows: readonly (readonly [table: string, rows: number])[];
  readonly auditEntries: number;
}

/** Moves the record of a data folder. Gives what was moved, and what is to be done next, a line each. */
export async function moveRecord(
  data: string,
  target: MoveTarget,
  approvedBy: readonly string[],
): Promise<readonly string[]> {
  const folder = resolve(data);
  const lines: string[] = [];
  await withLock(folder, 'migrate', 'nothing', async () => {
    const paths = layout(folder);
    if (!existsSync(paths.ceremony))
      throw new PkiError('bad-request', `${folder} has had no ceremony: there is no record to move`);
    const node = await openNode({ folder, clock: systemClock, mode: 'open', isOwner: true });
    let moved: Moved;
    try {
      moved = await copyTo(node, target, approvedBy);
    } finally {
      await node.close();
    }
    const aside = await putAside(paths, node.place, systemClock.wallMs());
    lines.push(
      ...moved.rows.map(([table, rows]) => `${table}: ${rows} rows, the same sum`),
      `${moved.auditEntries} entries of the audit chain verified in ${target.text}`,
      `the record that was used is now ${aside}: remove it when you need it no more`,
      `before the service is started, put into ${paths.config}: "record": ${JSON.stringify(target.record)}`,
    );
  });
  return lines;
}

/** Copies the record of an opened node, and verifies the copy. Run again it goes on where it was interrupted. */
async function copyTo(node: Node, target: MoveTarget, approvedBy: readonly string[]): Promise<Moved> {
  const isServer = 'postgres' in target.record;
  if (isServer === 'server' in node.place)
    throw new PkiError('bad-request', `the record is ${isServer ? 'in PostgreSQL' : 'a file'} already`);
  const does = [`copies the whole record to ${target.text}, and puts the one that is used now aside`];
  const intent = { act: 'migrate', arguments: [target.text], does } as const;
  return actAtConsole(node, intent, { files: approvedBy }, () => copyAndVerify(node, target));
}

async function copyAndVerify(node: Node, target: MoveTarget): Promise<Moved> {
  const { layout: paths, place, clock } = node;
  const server = postgresOf(parseConfig({ record: target.record }), paths);
  const file = `${paths.record}.moving`;
  const copy = server ? await openCopyTarget(server) : openCopyFile(file);
  const bar = new Progress(process.stderr, clock);
  using from = closing(openReader(place, () => undefined));
  try {
    await refuseForeign(paths, target, await copy.isEmpty());
    await copyRecord(from, copy, bar.of('rows copied'));
  } finally {
    await copy.close();
  }
  const made: RecordPlace = server ? { server: plainServer(server) } : { file };
  using reader = closing(openReader(made, () => undefined));
  const key = new AuditKey(node.auditKey);
  const sums = sumsOf(reader, key, bar.of('rows of the copy read'));
  const other = differingTable(sumsOf(from, key, bar.of('rows compared')), sums);
  if (other !== undefined)
    throw new PkiError(
      'record-unavailable',
      `${other} is not the same in the copy: the record was written since the copy began; empty ${target.text}, remove ${noteOf(paths)}, and begin again`,
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
  const note = noteOf(paths);
  const noted = existsSync(note) ? readFileSync(note, 'utf8') : undefined;
  if (!isEmpty && noted !== target.text)
    throw new PkiError('bad-request', `${target.text} is not empty: a record is copied into an empty one`);
  replaceDurably(note, target.text);
}

/** Puts the record that was copied aside, once nothing has it open. Gives where it is. */
async function putAside(paths: Layout, place: RecordPlace, atMs: number): Promise<string> {
  if ('server' in place) {
    const { password, ...server } = place.server;
    const schema = await setAside({ ...server, password: () => password ?? '' }, atMs);
    renameSync(`${paths.record}.moving`, paths.record);
    for (const end of ['-wal', '-shm']) rmSync(`${paths.record}.moving${end}`, { force: true });
    finish(paths);
    return `the schema ${schema} of the database`;
  }
  const aside = `${paths.record}.moved-${new Date(atMs).toISOString().replaceAll(':', '')}`;
  renameSync(paths.record, aside);
  finish(paths);
  return aside;
}

function finish(paths: Layout): void {
  rmSync(noteOf(paths), { force: true });
  syncFolder(paths.folder);
}

function closing<T extends { close(): void }>(what: T): T & Disposable {
  return Object.assign(what, { [Symbol.dispose]: () => what.close() });
}
