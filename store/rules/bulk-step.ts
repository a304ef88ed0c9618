import { actorOfNode } from '../../core/model/act.ts';
import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import {
  changeStatus,
  type HoldSource,
  type RecordedStatus,
  type RevocationReason,
  type StatusChange,
} from '../../core/model/revocation.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Actor, Cause } from '../api/certificate-store.ts';
import type { DeviceMatch } from '../api/device-match.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { Transaction } from '../engine/record.ts';
import { byKey, exclusive, type Rule } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { writeStatus } from './change.ts';
import { holderLoads, holderLocation, holderLocks } from './holder-loads.ts';
import { orderDeletion } from './outbox.ts';
import { type Cursor, certificatesOn, isMatched, isOccupying, phonesAfter } from './restrictions.ts';
import { statusOf } from './views.ts';

// A bulk operation goes over the phones of a restriction in steps. Each looks the next phones up, and has a rule change them,
// which looks at each phone again.

/** Takes steps of bulk operations outside the queue of an engine that supports it. */
export interface BulkStepper {
  /** As `advanceBulkOperation`, for a fraction of a second, or until another writer wants to write. */
  step(actId: string, phones: number): Promise<BulkStepped>;
  close(): Promise<void>;
}

/** The operation after a step, and certificates that it did not change, because their rows were altered. */
export interface BulkStepped {
  readonly act: Row<'massAct'>;
  readonly altered: readonly CertificateId[];
}

interface BulkPage {
  readonly actId: string;
  readonly actor: Actor;
  /** Where the operation stood as the phones were looked up. */
  readonly from: string | null;
  readonly phones: readonly Pick<Row<'medium'>, 'mediumId' | 'holderId'>[];
  readonly cursor: Cursor;
  readonly isLast: boolean;
}

const changePhones: Rule<BulkPage, BulkStepped> = {
  action: 'advance',
  actor: ({ actor }) => actor,
  subject: ({ actId }) => ({ actId }),
  locate: ({ phones }) => phones.flatMap(({ holderId }) => holderLocation(holderId)),
  locks: ({ phones }, located) => [
    exclusive('restrictions'),
    exclusive('mass-acts'),
    ...phones.flatMap(({ holderId, mediumId }) => [
      ...holderLocks(holderId, located),
      exclusive('medium', mediumId),
    ]),
  ],
  loads: ({ actId, phones }) => [
    byKey('massAct', { actId }, ({ restrictionId }) => [byKey('restriction', { restrictionId })]),
    ...phones.flatMap(({ holderId, mediumId }) => [...holderLoads(holderId), byKey('medium', { mediumId })]),
  ],
  decide: (page, tx, { nowMs }) => {
    const act = tx.get('massAct', { actId: page.actId });
    if (!act) throw new PkiError('not-found', 'no such bulk operation');
    // Withdrawn, or advanced by another node meanwhile.
    if (act.state !== 'running' || act.cursor !== page.from) return { act, altered: [] };
    return changePage(tx, act, { ...page, nowMs });
  },
};

/** Takes the next step of an operation, if it is running: so many phones, in a transaction of its own. */
export async function advanceBulkOperation(
  database: RecordDatabase,
  { actId, phones }: { readonly actId: string; readonly phones: number },
  nowMs: number,
): Promise<BulkStepped> {
  const found = await database.read((reader) => {
    const act = reader.get('massAct', { actId });
    const row = act && reader.get('restriction', { restrictionId: act.restrictionId });
    if (!act || !row) throw new PkiError('not-found', 'no such bulk operation');
    const start = act.cursor === null ? undefined : (JSON.parse(act.cursor) as Cursor);
    return { act, page: phonesAfter(reader, JSON.parse(row.match) as DeviceMatch, start, phones) };
  });
  const { act, page } = found;
  if (act.state !== 'running') return { act, altered: [] };
  const actor = actorOfNode(database.writer, actId);
  return database.run(changePhones, { actId, actor, from: act.cursor, ...page }, nowMs);
}

/** Changes the phones of one page, and writes down how far the operation has come. */
function changePage(
  tx: Transaction,
  act: Row<'massAct'>,
  by: BulkPage & { readonly nowMs: number },
): BulkStepped {
  const row = tx.get('restriction', { restrictionId: act.restrictionId });
  if (!row) throw new Error('the restriction of a bulk operation is missing');
  const match = JSON.parse(row.match) as DeviceMatch;
  const { phones, cursor, isLast } = by;
  const { restrictionId } = act;
  const cause = {
    event: `restriction-${act.action}`,
    cascadedFrom: null,
    partOf: `restriction:${restrictionId}`,
  };
  const altered: CertificateId[] = [];
  let [seen, changed] = [0, 0];
  for (const { mediumId, holderId } of phones) {
    const phone = tx.get('medium', { mediumId });
    // None that matches changes hands while the restriction is in force.
    if (!phone || phone.holderId !== holderId || !isMatched(tx, match, phone)) continue;
    const certificates = certificatesOn(tx, phone);
    // Counts phones with a certificate in force, before this operation changes it.
    if (certificates.some((certificate) => isOccupying(certificate, by.nowMs))) seen += 1;
    for (const certificate of certificates) {
      const from = readableStatus(certificate);
      // One that cannot be read keeps no other from being held.
      if (!from) altered.push(keyOf(certificate));
      else if (changeCertificate(tx, act, certificate, { ...by, cause, from })) changed += 1;
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
  return { act: after, altered };
}

/** undefined where the columns of a row are inconsistent. */
function readableStatus(row: Row<'certificate'>): RecordedStatus | undefined {
  try {
    return statusOf(row);
  } catch (error) {
    if (error instanceof PkiError && error.code === 'record-unavailable') return undefined;
    throw error;
  }
}

function changeCertificate(
  tx: Transaction,
  act: Row<'massAct'>,
  row: Row<'certificate'>,
  by: {
    readonly actor: Actor;
    readonly cause: Cause;
    readonly from: RecordedStatus;
    readonly nowMs: number;
  },
): boolean {
  const { actor, cause, from, nowMs } = by;
  const change = row.notAfterMs > nowMs ? changeBy(act, from) : undefined;
  const to = change && changeStatus(from, change, nowMs);
  if (!to || to === from) return false;
  const name = to.state === 'held' ? 'held' : to.state === 'good' ? 'released' : 'revoked';
  writeStatus(tx, { row, to, change: name, cause, actor, nowMs });
  if (to.state === 'revoked') orderDeletion(tx, row, nowMs);
  return true;
}

/** What an operation does to one certificate; undefined where it does not concern it. */
function changeBy(act: Row<'massAct'>, { state, heldBy }: RecordedStatus): StatusChange | undefined {
  const by: HoldSource = `restriction:${act.restrictionId}`;
  if (act.action === 'hold') return state === 'revoked' ? undefined : { action: 'hold', by };
  if (!heldBy.includes(by)) return undefined;
  if (act.action === 'release') return { action: 'release', by };
  const reason = (act.reason ?? 'cessationOfOperation') as RevocationReason;
  return { action: 'revoke', reason, invalidityMs: null };
}
