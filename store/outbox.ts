import type { CertificateKey } from '../core/feed.ts';
import type { Message, NoticeOccasion } from '../core/outbox-store.ts';
import type { Transaction } from './record.ts';
import type { Row } from './schema.ts';
import { keyOf } from './views.ts';

// Messages are written in the transaction of what they are about: nothing happens that is not told, and nothing is told
// that has not happened.

/** Bits of `certificate.notify`: who wants to know what happens to it, so that nobody is looked up for all the others. */
export const wants = { holder: 1, verifier: 2 } as const;

export function messageView(row: Row<'message'>): Message {
  const { authority, epoch, position, ...message } = row;
  return {
    ...message,
    certificate: { authority, epoch, position },
    type: row.type as Message['type'],
    occasion: row.occasion as Message['occasion'],
    state: row.state as Message['state'],
  };
}

/** A UUID of version 7 (RFC 9562 §5.7): messages lie in the order in which they were written. */
function messageIdAt(ms: number): string {
  const time = ms.toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-7${crypto.randomUUID().slice(15)}`;
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
    messageId: messageIdAt(nowMs),
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
