import type { Sealed } from './certificate-store.ts';
import type { CertificateKey } from './feed.ts';
import type { OperatorCommand } from './operations-store.ts';

/** What a holder can be told of. */
export const noticeOccasions = ['issued', 'revoked', 'held', 'released', 'used'] as const;
export type NoticeOccasion = (typeof noticeOccasions)[number];

/** What a holder is told of whatever the holder wishes. */
export const mandatoryOccasions = ['enrolment-code'] as const;
export type MandatoryOccasion = (typeof mandatoryOccasions)[number];

/** What the TSM is ordered to do, until it confirms: to install an applet's instance with what was issued, to delete a key. */
export const orderTypes = ['personalisation', 'remote-deletion'] as const;
export type OrderType = (typeof orderTypes)[number];
export const isOrder = ({ type }: { readonly type: string }): boolean =>
  orderTypes.some((order) => order === type);

/** Something that others must learn: written with what it is about, and delivered at least once. */
export interface Message {
  readonly messageId: string;
  readonly type: OrderType | 'holder-notice' | 'verifier-notice';
  /** `tsm`, `holder`, or the name of a verifier. */
  readonly destination: string;
  readonly holderId: string | null;
  readonly mediumId: string | null;
  readonly certificate: CertificateKey;
  readonly kind: string;
  readonly occasion: NoticeOccasion | MandatoryOccasion | 'ceased';
  /** Of an order: the applet's instance here, which is the issuance that brings or brought the key. */
  readonly instance: string | null;
  readonly reason: string | null;
  readonly createdMs: number;
  /** `delivered`: the other side took it; an order waits for its confirmation. `dead`: given up, until replayed. */
  readonly state: 'waiting' | 'delivered' | 'confirmed' | 'dead';
  /** That failed, in a row. */
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

/** How a holder wants to be told, and of what. */
export interface NoticeWish {
  readonly holderId: string;
  readonly occasions: readonly NoticeOccasion[];
  /** A mail address, sealed; null where the holder is told through the portal. */
  readonly mailAddress: Sealed | null;
}

/** The outbox; durability, concurrency and errors as of `CertificateStore`. */
export interface OutboxStore {
  /** Messages for a destination whose time has come, oldest first. */
  due(destination: string, limit: number): Promise<readonly Message[]>;
  /** Writes down what became of an attempt. */
  settle(attempt: Attempt): Promise<void>;
  /** Removes some messages that were done with long ago. */
  purge(beforeMs: number): Promise<void>;
  /** Messages of a state, oldest first, from behind one on. */
  messages(state: Message['state'], after: string | null, limit: number): Promise<readonly Message[]>;
  message(messageId: string): Promise<Message | undefined>;
  /** The receiver has done what was ordered. Idempotent; `illegal-transition` for what is no order. */
  confirm(command: OperatorCommand<Message> & { readonly messageId: string }): Promise<void>;
  /** Has a message that was given up tried again. `illegal-transition` unless it is dead. */
  replay(command: OperatorCommand<Message> & { readonly messageId: string }): Promise<void>;

  wish(holderId: string): Promise<NoticeWish | undefined>;
  /** Counts for what happens from now on, to certificates there are and to those to come. `not-found`: no such holder. */
  setWish(command: OperatorCommand<NoticeWish> & NoticeWish): Promise<void>;
  /** Has a verifier told of what happens to a certificate. Idempotent. */
  watch(
    command: OperatorCommand<null> & { readonly verifier: string; readonly key: CertificateKey },
  ): Promise<void>;
  /** A verifier used a certificate: told to its holder, if that is wished. */
  used(
    command: OperatorCommand<null> & { readonly verifier: string; readonly key: CertificateKey },
  ): Promise<void>;
}
