import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { Sealed } from './certificate-store.ts';
import type { OperatorCommand } from './outcome.ts';

/** Occasions of notices. */
export const noticeOccasions = ['issued', 'revoked', 'held', 'released', 'used'] as const;
export type NoticeOccasion = (typeof noticeOccasions)[number];

/** What verifiers are notified of, of certificates that they watch. */
export type VerifierOccasion = NoticeOccasion | 'expired' | 'succeeded';

/** Occasions that are notified whatever the preferences are. */
export const mandatoryOccasions = ['enrolment-code', 'address-code', 'wishes-changed'] as const;
export type MandatoryOccasion = (typeof mandatoryOccasions)[number];

/** Issue and end of a phone's certificates are notified whatever the preferences are: others may have caused them. */
export const isMandatoryNotice = (kind: string, occasion: string): boolean =>
  mandatoryOccasions.some((mandatory) => mandatory === occasion) ||
  (kind.startsWith('phone-') && (occasion === 'issued' || occasion === 'revoked'));

/** What the TSM is ordered to do, until it confirms: to install an applet's instance with what was issued, to delete a key. */
export const orderTypes = ['personalisation', 'remote-deletion'] as const;
export type OrderType = (typeof orderTypes)[number];
export const isOrder = ({ type }: { readonly type: string }): boolean =>
  orderTypes.some((order) => order === type);

/** Something that others must learn: written with what it is about, and delivered at least once. */
export interface Message {
  readonly messageId: string;
  readonly type: OrderType | 'holder-notice' | 'verifier-notice' | 'town-notice';
  /** `tsm`, `holder`, `towns`, or the name of a verifier. */
  readonly destination: string;
  readonly holderId: string | null;
  readonly mediumId: string | null;
  readonly certificate: CertificateId;
  readonly kind: string;
  readonly occasion: VerifierOccasion | MandatoryOccasion | 'ceased' | 'moved-out';
  /** Of an order: the applet's instance here, which is the issuance that brings or brought the key. */
  readonly instance: string | null;
  readonly reason: string | null;
  /** Of a notice to a town: its code. */
  readonly municipality?: string | null;
  /** Of a notice of use: the verifier that used the certificate. */
  readonly verifier: string | null;
  /** Of a notice that goes to another mail address than the holder's: that one, sealed. */
  readonly address: Sealed | null;
  readonly createdMs: number;
  /** `delivered`: the other side took it; an order waits for its confirmation. `dead`: given up, until replayed. */
  readonly state: 'waiting' | 'delivered' | 'confirmed' | 'dead';
  /** Consecutive failed attempts. */
  readonly attempts: number;
  /** Of the next attempt; null where there is none. */
  readonly dueMs: number | null;
  /** Why the last attempt failed. */
  readonly lastError: string | null;
  readonly deliveredMs: number | null;
  readonly confirmedMs: number | null;
}

/** What became of one attempt. */
export interface Attempt {
  readonly messageId: string;
  /** null where it was delivered. */
  readonly error: string | null;
  readonly state: Message['state'];
  readonly dueMs: number | null;
}

/** The outbox; durability, concurrency and errors as of `CertificateStore`. */
export interface OutboxStore {
  /** Messages for a destination whose time has come, oldest first. */
  due(destination: string, limit: number): Promise<readonly Message[]>;
  /** Writes down what became of an attempt. */
  settle(attempt: Attempt): Promise<void>;
  /** Messages of a state, oldest first, from behind one on. */
  messages(state: Message['state'], after: string | null, limit: number): Promise<readonly Message[]>;
  message(messageId: string): Promise<Message | undefined>;
  /** The receiver has done what was ordered. Idempotent; `illegal-transition` for what is no order. */
  confirm(command: OperatorCommand & { readonly messageId: string }): Promise<Message>;
  /** Has a message that was given up tried again. `illegal-transition` unless it is dead. */
  replay(command: OperatorCommand & { readonly messageId: string }): Promise<Message>;
}
