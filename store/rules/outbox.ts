import type { Sealed } from '../../core/model/act.ts';
import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import {
  isMandatoryNotice,
  isOrder,
  type MandatoryOccasion,
  type Message,
  type NoticeOccasion,
  type VerifierOccasion,
} from '../api/outbox-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';

// Messages are written in the transaction of what they are about: nothing happens without its message, and no message is sent
// that has not happened.

/** Bits of `certificate.notify`: who is notified of its changes. Certificates without a bit cost no look-up. */
export const wants = {
  /** The holder, by the preferences. */
  holder: 1,
  verifier: 2,
  /** The holder, of what `isMandatoryNotice`, whatever the preferences are. */
  always: 4,
} as const;

/** Adds or removes a certificate's watch. */
export function want(tx: Transaction, row: Row<'certificate'>, bit: number, isWanted: boolean): void {
  const before = row.notify ?? 0;
  const notify = isWanted ? before | bit : before & ~bit;
  if (notify !== before) tx.update('certificate', { ...row, notify }, row);
}

/** Whether preferences need messages: they name occasions, or an address for what is always notified. */
export const wantsNotices = ({ occasions, address }: Pick<Row<'wish'>, 'occasions' | 'address'>): boolean =>
  occasions !== '' || address !== null;

export function messageView(reader: RecordReader, row: Row<'message'>): Message {
  const { authority, epoch, position, ...message } = row;
  const certificate = isOrder(row) ? reader.get('certificate', keyOf(row)) : undefined;
  const isNotice = row.type === 'holder-notice';
  const detail = isNotice ? reader.get('messageDetail', { messageId: row.messageId }) : undefined;
  const { dataKey = null, address = null } = detail ?? {};
  const isOfTown = row.type === 'town-notice';
  const town = isOfTown ? reader.get('townMessage', { messageId: row.messageId }) : undefined;
  return {
    ...message,
    verifier: detail?.verifier ?? null,
    municipality: town?.municipality ?? null,
    address: dataKey === null || address === null ? null : { key: dataKey, octets: address },
    instance: certificate?.issuanceId ?? null,
    certificate: { authority, epoch, position },
    type: row.type as Message['type'],
    occasion: row.occasion as Message['occasion'],
    state: row.state as Message['state'],
  };
}

type About = CertificateId & {
  readonly kind: string;
  readonly holderId: string | null;
  readonly mediumId: string | null;
};

function write(
  tx: Transaction,
  about: About,
  message: Pick<Row<'message'>, 'type' | 'destination' | 'occasion' | 'reason'>,
  nowMs: number,
): string {
  const messageId = tx.newId(nowMs);
  tx.insert('message', {
    ...keyOf(about),
    ...message,
    messageId,
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
  return messageId;
}

/** Orders that the key of a certificate be deleted from its phone. */
export function orderDeletion(tx: Transaction, about: About, nowMs: number): void {
  const message = { type: 'remote-deletion', destination: 'tsm', occasion: 'ceased', reason: null };
  write(tx, about, message, nowMs);
}

/** Orders that an instance of the applet be installed with what was issued: until the TSM says that it is stored. */
export function orderPersonalisation(tx: Transaction, about: About, nowMs: number): void {
  const message = { type: 'personalisation', destination: 'tsm', occasion: 'issued', reason: null };
  write(tx, about, message, nowMs);
}

/** What was ordered for an issuance is stored, or never will be: it is ordered no more. */
export function endPersonalisation(
  tx: Transaction,
  { issuanceId, mediumId, holderId }: Pick<Row<'activation'>, 'issuanceId' | 'mediumId' | 'holderId'>,
): void {
  for (const row of tx.find('message', { mediumId })) {
    if (row.holderId !== holderId) continue;
    if (row.type !== 'personalisation' || row.state === 'confirmed') continue;
    const certificate = tx.get('certificate', keyOf(row));
    if (certificate?.issuanceId !== issuanceId) continue;
    tx.update('message', { ...row, state: 'confirmed', dueMs: null }, row);
  }
}

/** A notice that no preference declines, to an address of its own where one is given. Gives its `messageId`. */
export function orderNotice(
  tx: Transaction,
  about: About,
  how: { readonly occasion: MandatoryOccasion; readonly address?: Sealed | null; readonly nowMs: number },
): string {
  const { occasion, address = null, nowMs } = how;
  const message = { type: 'holder-notice', destination: 'holder', occasion, reason: null };
  const messageId = write(tx, about, message, nowMs);
  if (address) {
    const { key: dataKey, octets } = address;
    tx.insert('messageDetail', { messageId, verifier: null, dataKey, address: octets });
  }
  return messageId;
}

/** Tells a town that a holder is of another from now on. */
export function orderTownNotice(tx: Transaction, about: About, municipality: string, nowMs: number): void {
  const message = { type: 'town-notice', destination: 'towns', occasion: 'moved-out', reason: null };
  const messageId = write(tx, about, message, nowMs);
  tx.insert('townMessage', { messageId, municipality });
}

/** Notifies a verifier of what became of a certificate that it watches. */
export function writeVerifierNotice(
  tx: Transaction,
  about: About,
  notice: {
    readonly verifier: string;
    readonly occasion: Exclude<VerifierOccasion, 'used'>;
    readonly reason: string | null;
    readonly nowMs: number;
  },
): void {
  const { verifier: destination, occasion, reason, nowMs } = notice;
  write(tx, about, { type: 'verifier-notice', destination, occasion, reason }, nowMs);
}

/** Writes the notices of a change of a certificate. */
export function notify(
  tx: Transaction,
  row: Row<'certificate'>,
  about: {
    readonly occasion: NoticeOccasion;
    readonly reason: string | null;
    readonly nowMs: number;
    /** Who used it. */
    readonly verifier?: string;
  },
): void {
  const { occasion, reason, nowMs, verifier } = about;
  const notify = row.notify ?? 0;
  if (notify & (wants.holder | wants.always) && row.holderId !== null) {
    const preferences = tx.get('wish', { holderId: row.holderId });
    const hasPlace = (notify & wants.always) !== 0 || (preferences?.address ?? null) !== null;
    if (
      preferences?.occasions.split(' ').includes(occasion) ||
      (hasPlace && isMandatoryNotice(row.kind, occasion))
    ) {
      const message = { type: 'holder-notice', destination: 'holder', occasion, reason };
      const messageId = write(tx, row, message, nowMs);
      if (verifier !== undefined)
        tx.insert('messageDetail', { messageId, verifier, dataKey: null, address: null });
    }
  }
  if (notify & wants.verifier && occasion !== 'used') {
    for (const { verifier } of tx.find('watch', keyOf(row)))
      writeVerifierNotice(tx, row, { verifier, occasion, reason, nowMs });
  }
}
