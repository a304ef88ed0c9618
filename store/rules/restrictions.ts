import { actorOfNode } from '../../core/model/act.ts';
import {
  changeStatus,
  type HoldSource,
  type RevocationReason,
  type StatusChange,
} from '../../core/model/revocation.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Actor, Cause, Medium } from '../api/certificate-store.ts';
import { type DeviceMatch, matchesDevice, unknownModel } from '../api/device-match.ts';
import type { BulkOperation, Restriction } from '../api/operations-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { writeStatus } from './change.ts';
import { orderDeletion } from './outbox.ts';
import { mediumView, statusOf } from './views.ts';

export function actView({ cursor: _, ...row }: Row<'massAct'>): BulkOperation {
  return {
    ...row,
    action: row.action as BulkOperation['action'],
    state: row.state as BulkOperation['state'],
    reason: row.reason as RevocationReason | null,
  };
}

export function restrictionView(reader: RecordReader, row: Row<'restriction'>): Restriction {
  const acts = reader.find('massAct', { restrictionId: row.restrictionId });
  return {
    ...row,
    match: JSON.parse(row.match) as DeviceMatch,
    state: row.state as Restriction['state'],
    acts: acts.sort((a, b) => a.proposedMs - b.proposedMs).map(actView),
  };
}

/**
 * Refuses with `device-restricted` a phone that a restriction in force matches, by what it says of itself now, or by what it
 * said before, as long as it carries a certificate: what is held, or about to be, keeps the facts it is found by.
 */
export function refuseRestricted(reader: RecordReader, medium: Medium, nowMs: number): void {
  if (medium.type !== 'phone') return;
  const inForce = reader.find('restriction', { state: 'in-force' });
  if (inForce.length === 0) return;
  const found = reader.get('medium', { mediumId: medium.mediumId });
  // Of a phone that changes hands nothing is said that its former holder's record knows.
  const before = found?.holderId === medium.holderId ? found : undefined;
  const carries = before && certificatesOn(reader, before).some((row) => isOccupying(row, nowMs));
  const known = before && carries ? [medium, phoneFacts(reader, before)] : [medium];
  for (const { match, note } of inForce) {
    if (known.some((facts) => matchesDevice(JSON.parse(match) as DeviceMatch, facts)))
      throw new PkiError('device-restricted', `phones of this kind are restricted${note && `: ${note}`}`);
  }
}

/** What is known of a phone on record. */
function phoneFacts(reader: RecordReader, row: Row<'medium'>): Medium {
  const isModelUnknown = reader.get('unknownModel', { mediumId: row.mediumId }) !== undefined;
  return { ...mediumView(row), isModelUnknown };
}

/** Whether a match is about a phone on record. */
export function isMatched(reader: RecordReader, match: DeviceMatch, row: Row<'medium'>): boolean {
  const facts = namesUnknown(match) ? phoneFacts(reader, row) : mediumView(row);
  return matchesDevice(match, facts);
}

const namesUnknown = ({ models }: DeviceMatch): boolean => models?.includes(unknownModel) ?? false;

const isOccupying = ({ state, notAfterMs }: Row<'certificate'>, nowMs: number): boolean =>
  (state === 'reserved' || state === 'good' || state === 'held') && notAfterMs > nowMs;

/** Where a pass over the phones of a platform stands. */
type Cursor = readonly [model: string, mediumId: string];

/**
 * Phones of a match's platform and models, from behind a cursor on: as many as are asked for, or the last there are. Those whose
 * model is unknown may say any.
 */
export function phonesAfter(
  reader: RecordReader,
  match: DeviceMatch,
  cursor: Cursor | undefined,
  limit: number,
): { phones: Row<'medium'>[]; cursor: Cursor; isLast: boolean } {
  const { platform } = match;
  const start = cursor ?? ['', ''];
  const phones: Row<'medium'>[] = [];
  if (match.models === null || namesUnknown(match)) {
    const after = start;
    phones.push(
      ...reader.scan('medium', { where: { platform }, order: ['model', 'mediumId'], after, limit }),
    );
  } else {
    for (const model of [...match.models].sort()) {
      const left = limit - phones.length;
      if (model < start[0] || left === 0) continue;
      const after = [model === start[0] ? start[1] : ''];
      const where = { platform, model };
      phones.push(...reader.scan('medium', { where, order: ['mediumId'], after, limit: left }));
    }
  }
  const last = phones.at(-1);
  return {
    phones,
    cursor: last ? [last.model ?? '', last.mediumId] : start,
    isLast: phones.length < limit,
  };
}

/** The certificates on a phone. */
export function certificatesOn(
  reader: RecordReader,
  { mediumId, holderId }: Pick<Row<'medium'>, 'mediumId' | 'holderId'>,
): Row<'certificate'>[] {
  const rows = reader.find('certificate', { holderId });
  return rows.filter((row) => row.mediumId === mediumId);
}

/** What an act does to one certificate; undefined where it does not concern it. */
function changeBy(act: Row<'massAct'>, row: Row<'certificate'>, nowMs: number): StatusChange | undefined {
  const by: HoldSource = `restriction:${act.restrictionId}`;
  if (row.notAfterMs <= nowMs) return undefined;
  if (act.action === 'hold') return row.state === 'revoked' ? undefined : { action: 'hold', by };
  if (!statusOf(row).heldBy.includes(by)) return undefined;
  if (act.action === 'release') return { action: 'release', by };
  const reason = (act.reason ?? 'cessationOfOperation') as RevocationReason;
  return { action: 'revoke', reason, invalidityMs: null };
}

/** How a thread for mass acts begins. */
export interface BulkStart {
  readonly file: string;
  /** The writer whose name it uses, exclusively during its turn. */
  readonly writer: string;
  readonly shift: SharedArrayBuffer | null;
  /** Key of `JournalSeal`; null where nothing is journalled. */
  readonly journalKey: Bytes | null;
  /** Key of `AuditKey`; null where entries are not authenticated. */
  readonly auditKey: Bytes | null;
}

export interface BulkStep {
  readonly type: 'step';
  readonly actId: string;
  /** Of one transaction. */
  readonly phones: number;
  /** See `RecordDatabase.exclusive`. */
  readonly wanted: SharedArrayBuffer;
}

/** Does the next bit of an act, if it is running, in a transaction of its own. */
export function advanceBulkOperation(
  database: RecordDatabase,
  { actId, phones }: Pick<BulkStep, 'actId' | 'phones'>,
  nowMs: number,
): Promise<Row<'massAct'>> {
  const actor = actorOfNode(database.writer, actId);
  return database.write({ actor, action: 'advance', subject: { actId } }, (tx) => {
    const act = tx.get('massAct', { actId });
    if (!act) throw new PkiError('not-found', 'no such act');
    return act.state === 'running' ? advanceAct(tx, act, { phones, actor, nowMs }) : act;
  });
}

/** Does the next bit of a running act, and writes down how far it has come. */
function advanceAct(
  tx: Transaction,
  act: Row<'massAct'>,
  by: { readonly phones: number; readonly actor: Actor; readonly nowMs: number },
): Row<'massAct'> {
  const row = tx.get('restriction', { restrictionId: act.restrictionId });
  if (!row) throw new Error('an act of no restriction');
  const match = JSON.parse(row.match) as DeviceMatch;
  const start = act.cursor === null ? undefined : (JSON.parse(act.cursor) as Cursor);
  const { phones, cursor, isLast } = phonesAfter(tx, match, start, by.phones);
  const { restrictionId } = act;
  const cause = {
    event: `restriction-${act.action}`,
    cascadedFrom: null,
    partOf: `restriction:${restrictionId}`,
  };
  let [seen, changed] = [0, 0];
  for (const phone of phones) {
    if (!isMatched(tx, match, phone)) continue;
    seen += 1;
    for (const certificate of certificatesOn(tx, phone)) {
      if (changeCertificate(tx, act, certificate, { ...by, cause })) changed += 1;
    }
  }
  const after = {
    ...act,
    cursor: JSON.stringify(cursor),
    phones: act.phones + seen,
    certificates: act.certificates + changed,
    ...(isLast ? { state: 'done', finishedMs: by.nowMs } : {}),
  };
  tx.update('massAct', after, act);
  // Only now: until the last is released phones keep the facts by which they are found.
  if (isLast && act.action === 'release') tx.update('restriction', { ...row, state: 'ended' }, row);
  return after;
}

function changeCertificate(
  tx: Transaction,
  act: Row<'massAct'>,
  row: Row<'certificate'>,
  { actor, cause, nowMs }: { readonly actor: Actor; readonly cause: Cause; readonly nowMs: number },
): boolean {
  const change = changeBy(act, row, nowMs);
  const from = statusOf(row);
  const to = change && changeStatus(from, change, nowMs);
  if (!to || to === from) return false;
  const name = to.state === 'held' ? 'held' : to.state === 'good' ? 'released' : 'revoked';
  writeStatus(tx, { row, to, change: name, cause, actor, nowMs });
  if (to.state === 'revoked') orderDeletion(tx, row, nowMs);
  return true;
}
