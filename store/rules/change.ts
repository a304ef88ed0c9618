import type { StatusEvent } from '../../core/feed/feed.ts';
import { keyOf, sameKey } from '../../core/model/certificate-id.ts';
import type { Consequence, Plan, PlannedChange, Target } from '../../core/model/plan.ts';
import { ownStatus } from '../../core/model/restriction.ts';
import { changeStatus, type RecordedStatus, statusIn } from '../../core/model/revocation.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Actor, Cause, CertificateView } from '../api/certificate-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { endIfLost } from './activation.ts';
import { announceClass } from './device-classes.ts';
import { isKnownHolder } from './holders.ts';
import { notify, orderDeletion } from './outbox.ts';
import { certificateView, ownStatusOf, statusOf } from './views.ts';

/** Works a plan out on the certificates that it was made for. */
export function consequenceOf(
  { changes: wanted, ...others }: Plan,
  views: readonly CertificateView[],
  nowMs: number,
): Consequence {
  const changes: PlannedChange[] = [];
  for (const { change, cause, ...key } of wanted) {
    const view = views.find((candidate) => sameKey(candidate, key));
    if (!view) throw new Error('a plan for another certificate');
    const from = statusFrom(view);
    const to = changeStatus(from, change, nowMs);
    if (!to) {
      throw new PkiError(
        'illegal-transition',
        `a certificate that is ${from.state} cannot be changed by ${change.action}`,
      );
    }
    if (to !== from) changes.push({ ...keyOf(key), kind: view.kind, from, to, cause });
  }
  return { changes, ...others };
}

/** Writes all changes of certificates, with their events, causes and orders. */
export function applyStatuses(
  tx: Transaction,
  act: {
    readonly changes: Consequence['changes'];
    readonly orders: Consequence['orders'];
    readonly actor: Actor;
    readonly nowMs: number;
  },
): void {
  for (const change of act.changes) {
    const row = tx.get('certificate', keyOf(change));
    if (!row) throw new Error('a planned certificate is not on record');
    writeStatus(tx, { ...act, row, to: change.to, change: changeName(change), cause: change.cause });
  }
  for (const order of act.orders) {
    const row = tx.get('certificate', keyOf(order));
    if (row) orderDeletion(tx, row, act.nowMs);
  }
}

interface StatusWrite {
  readonly row: Row<'certificate'>;
  readonly to: RecordedStatus;
  readonly change: StatusEvent['change'];
  readonly nowMs: number;
}

/** Writes one certificate's new status, in which what restrictions hold is held by them alone, with its event and its line of history. */
export function writeStatus(
  tx: Transaction,
  write: StatusWrite & { readonly cause: Cause; readonly actor: Actor },
): void {
  const { row, to, change, cause, actor, nowMs } = write;
  writeUnexplained(tx, write);
  tx.insert('history', {
    ...keyOf(row),
    writer: tx.writer,
    eventPosition: tx.heads.position,
    atMs: nowMs,
    change,
    reason: to.reason,
    cause: textOf(cause),
    actor: textOf(actor),
  });
}

/** The same without the line of history: of what another row says already. */
export function writeUnexplained(tx: Transaction, { row, to, change, nowMs }: StatusWrite): void {
  const version = row.version + 1;
  const before = statusOf(tx, row);
  const { heldBy, ...status } = ownStatus(to, ownStatusOf(row), nowMs);
  const held = heldBy.length === 0 ? null : heldBy.join(' ');
  tx.update('certificate', { ...row, ...status, heldBy: held, version }, row);
  const { notAfterMs, shard } = row;
  // The first that followers receive of it.
  if (row.version === 0) announceClass(tx, row);
  const isReleased = change === 'held' && status.state === 'good';
  const said = isReleased ? 'released' : change;
  tx.appendEvent({ type: 'status', change: said, ...keyOf(row), ...status, version, notAfterMs, shard });
  const isEnded = to.state === 'revoked' && before.state !== 'revoked';
  if (isEnded && row.mediumId !== null) endIfLost(tx, row.issuanceId);
  // Still held, only the sources changed: no notice.
  const isNews = before.state !== to.state || change === 'revoked';
  if (row.notify && isNews && change !== 'retired')
    notify(tx, row, { occasion: change, reason: to.reason, nowMs });
}

/** Causes and actors are shared by all that an act changes, which may be a million certificates. */
const texts = new WeakMap<Cause | Actor, string>();

function textOf(value: Cause | Actor): string {
  const known = texts.get(value);
  if (known !== undefined) return known;
  const text = JSON.stringify(value);
  texts.set(value, text);
  return text;
}

/** Every certificate of the holder whom the target belongs to: what rests on what never crosses holders. */
export function certificatesOf(reader: RecordReader, target: Target): CertificateView[] {
  const holderId = holderOf(reader, target);
  if (holderId !== null)
    return reader.find('certificate', { holderId }).map((row) => certificateView(reader, row));
  const row = target.type === 'certificate' && reader.get('certificate', keyOf(target.key));
  return row ? [certificateView(reader, row)] : [];
}

/** The holder of a target; null where it has none. Throws `not-found`. */
export function holderOf(reader: RecordReader, target: Target): string | null {
  const holderId = targetHolder(reader, target);
  if (holderId === undefined) throw notFound(target);
  return holderId;
}

/** The same; undefined where the target is not on record. */
export function targetHolder(reader: RecordReader, target: Target): string | null | undefined {
  if (target.type === 'holder') return isKnownHolder(reader, target.holderId) ? target.holderId : undefined;
  if (target.type === 'medium') return reader.get('medium', { mediumId: target.mediumId })?.holderId;
  return reader.get('certificate', keyOf(target.key))?.holderId;
}

const names = { holder: 'holder', medium: 'card or phone', certificate: 'certificate' } as const;

export const notFound = ({ type }: Target): PkiError => new PkiError('not-found', `no such ${names[type]}`);

function statusFrom(view: CertificateView): RecordedStatus {
  return { ...statusIn(view), heldBy: view.heldBy };
}

export function changeName({ to }: Pick<PlannedChange, 'to'>): StatusEvent['change'] {
  return to.state === 'held' ? 'held' : to.state === 'good' ? 'released' : 'revoked';
}

/** That something came at last is no release: no switch keeps it from being good. */
export const isRelease = ({ from, to }: Pick<PlannedChange, 'from' | 'to'>): boolean =>
  to.state === 'good' && !from.heldBy.includes('not-delivered');
