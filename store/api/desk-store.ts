import type { DeskFunction, DeskKind, Mandate } from '../../core/model/desk.ts';
import type { OperatorCommand } from './outcome.ts';

/** A desk, as an administrator records it. */
export interface Desk {
  readonly deskCode: string;
  readonly kind: DeskKind;
  /** Whose it is, or who delegated to it; null of desks for the nation. */
  readonly municipality: string | null;
  readonly functions: readonly DeskFunction[];
  /** Municipalities that it acts for; `*` is every one. */
  readonly municipalities: readonly string[];
  /** Acts in one day in Japan; null: as many as come. */
  readonly actsPerDay: number | null;
  readonly validFromMs: number;
  readonly validToMs: number | null;
}

export interface RecordedDesk extends Desk {
  /** Since when it may do nothing; null where it may. */
  readonly suspendedMs: number | null;
  readonly changedMs: number;
}

/** One card of an order: for whom, and whose place it takes. */
export interface CardOrder {
  readonly holderId: string;
  readonly cardId: string;
  readonly replacesCardId: string;
}

/** Desks; durability, concurrency and errors as of `CertificateStore`. */
export interface DeskStore {
  desk(deskCode: string): Promise<RecordedDesk | undefined>;
  /** In order of codes, from behind one on. */
  list(after: string | null, limit: number): Promise<readonly RecordedDesk[]>;
  /** Records a desk, or what it is from now on; one that is suspended stays so. */
  record(command: OperatorCommand & { readonly desk: Desk }): Promise<RecordedDesk>;
  /** Suspends a desk, or lets it go on. `not-found` where there is none. */
  suspend(
    command: OperatorCommand & { readonly deskCode: string; readonly isSuspended: boolean },
  ): Promise<RecordedDesk>;
  /** Orders cards that take the place of good ones, until a time. `in-use` where one is in an order already. */
  orderCards(
    command: OperatorCommand & {
      readonly orderId: string;
      readonly event: string;
      readonly cards: readonly CardOrder[];
      readonly mandate: Mandate;
      readonly expiresMs: number;
    },
  ): Promise<{ readonly orderId: string; readonly cards: number; readonly expiresMs: number }>;
  /** Throws `desk-not-allowed` where the desk of a mandate may not do now what is done. */
  check(mandate: Mandate): Promise<void>;
  /** Throws `desk-not-allowed` where a desk may not issue to a holder, who is of another municipality. */
  checkTown(issued: {
    readonly mandate: Mandate;
    readonly municipality: string;
    readonly holderId: string;
    readonly mayMove: boolean;
  }): Promise<void>;
  /** The municipalities of holders, of whom there are. */
  townsOf(holderIds: readonly string[]): Promise<ReadonlyMap<string, string>>;
}
