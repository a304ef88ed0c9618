import type { CertificateKey } from '../core/feed.ts';
import { isOrder, type MandatoryOccasion, type Message, type NoticeOccasion } from '../core/outbox-store.ts';
import { uuidAt } from '../core/uuid.ts';
import type { RecordReader, Transaction } from './record.ts';
import type { Row } from './schema.ts';
import { keyOf } from './views.ts';

// Messages are written in the transaction of what they are about: nothing happens that is not told, and nothing is told
// that has not happened.

/** Bits of `certificate.notify`: who wants to know what happens to it, so that nobody is looked up for all the others. */
export const wants = { holder: 1, verifier: 2 } as const;

export async function messageView(reader: RecordReader, row: Row<'message'>): Promise<Message> {
  const { authority, epoch, position, ...message } = row;
  const certificate = isOrder(row) ? await reader.get('certificate', keyOf(row)) : undefined;
  return {
    ...message,
    instance: certificate?.issuanceId ?? null,
    certificate: { authority, epoch, position },
    type: row.type as Message['type'],
    occasion: row.occasion as Message['occasion'],
    state: row.state as Message['state'],
  };
}

type About = CertificateKey & {
  readonly kind: string;
  readonly holderId: string | null;
  readonly mediumId: string | null;
};

async function write(
  tx: Transaction,
  about: About,
  message: Pick<Row<'message'>, 'type' | 'destination' | 'occasion' | 'reason'>,
  nowMs: number,
): Promise<void> {
  await tx.insert('message', {
    ...keyOf(about),
    ...message,
    messageId: uuidAt(nowMs),
    kind: about.kind,
    holderId: about.holderId,
    mediumId: about.mediumId,
    createdMs: nowMs,
    state: 'waiting',
    attempts: 0,
    dueMs: nowMs,
    lastError: null,
    deliveredMs: null,
    confirmedMs: null,
  });
}

/** Orders that the key of a certificate be deleted from its phone. */
export function orderDeletion(tx: Transaction, about: About, nowMs: number): Promise<void> {
  const message = { type: 'remote-deletion', destination: 'tsm', occasion: 'ceased', reason: null };
  return write(tx, about, message, nowMs);
}

/** Orders that an instance of the applet be installed with what was issued: until the TSM says that it is stored. */
export function orderPersonalisation(tx: Transaction, about: About, nowMs: number): Promise<void> {
  const message = { type: 'personalisation', destination: 'tsm', occasion: 'issued', reason: null };
  return write(tx, about, message, nowMs);
}

/** What was ordered for an issuance is stored, or never will be: it is ordered no more. */
export async function endPersonalisation(
  tx: Transaction,
  { issuanceId, mediumId }: { readonly issuanceId: string; readonly mediumId: string },
): Promise<void> {
  for (const row of await tx.find('message', { mediumId })) {
    if (row.type !== 'personalisation' || row.state === 'confirmed') continue;
    const certificate = await tx.get('certificate', keyOf(row));
    if (certificate?.issuanceId !== issuanceId) continue;
    await tx.update('message', { ...row, state: 'confirmed', dueMs: null }, row);
  }
}

/** A notice that no wish declines. */
export function orderNotice(
  tx: Transaction,
  about: About,
  occasion: MandatoryOccasion,
  nowMs: number,
): Promise<void> {
  return write(tx, about, { type: 'holder-notice', destination: 'holder', occasion, reason: null }, nowMs);
}

/** Tells whoever wants to know what happened to a certificate. */
export async function notify(
  tx: Transaction,
  row: Row<'certificate'>,
  { occasion, reason, nowMs }: { occasion: NoticeOccasion; reason: string | null; nowMs: number },
): Promise<void> {
  const notify = row.notify ?? 0;
  if (notify & wants.holder && row.holderId !== null) {
    const wish = await tx.get('wish', { holderId: row.holderId });
    if (wish?.occasions.split(' ').includes(occasion))
      await write(tx, row, { type: 'holder-notice', destination: 'holder', occasion, reason }, nowMs);
  }
  if (notify & wants.verifier && occasion !== 'used') {
    for (const { verifier } of await tx.find('watch', keyOf(row)))
      await write(tx, row, { type: 'verifier-notice', destination: verifier, occasion, reason }, nowMs);
  }
}
