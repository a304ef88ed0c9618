import type { ApprovalAct } from './approval.ts';

// Desks: where holders are identified, or heard, and what each may do there.

/** What a desk is, and what it can be allowed at most. */
export const functionsOfKind = {
  /** Of a town. */
  counter: [
    'issue',
    'renew',
    'move',
    'replace',
    'code',
    'consent',
    'withhold',
    'report',
    'lose',
    'hold',
    'release',
    'revoke',
    'look-up',
  ],
  /** To which the town of residence has delegated. */
  'post-office': ['issue', 'renew', 'look-up'],
  /** Staff of a town at banks, schools, hospitals. */
  visit: ['issue', 'renew', 'replace', 'code', 'look-up'],
  /** Where cards are made by the thousand. */
  factory: ['issue', 'renew', 'replace'],
  /** What phones ask for; it issues to no card. */
  online: ['phone'],
  /** The line for losses, at any hour and for the nation. */
  'loss-line': ['lose', 'hold', 'look-up'],
} as const;

export type DeskKind = keyof typeof functionsOfKind;
export const deskKinds = Object.keys(functionsOfKind) as DeskKind[];

/**
 * What is done at a desk. `lose` reports an event that does no more than hold; `release` one that ends holds, or a release; `report` any
 * other event.
 */
export type DeskFunction = (typeof functionsOfKind)[DeskKind][number];
export const deskFunctions: readonly DeskFunction[] = [...new Set(Object.values(functionsOfKind).flat())];

/** Kinds that belong to one municipality. */
export const isOfMunicipality = (kind: DeskKind): boolean =>
  kind === 'counter' || kind === 'post-office' || kind === 'visit';

/** In whose name a caller acts: what the record checks besides the roles of the client. */
export interface Mandate {
  readonly desk: {
    readonly code: string;
    /** null: whatever it may do. */
    readonly function: DeskFunction | null;
    /** What a desk is that is not on record; null: it may do nothing. */
    readonly otherwise: DeskKind | null;
  } | null;
  /** Municipalities on whose holders the client may act; null: on those of the nation. */
  readonly municipalities: readonly string[] | null;
  /** Acts that a second person has to approve, and has not. */
  readonly approvalsWanted: readonly ApprovalAct[];
  /** Acts by which the client may revoke in a day, alone; null or absent: any number. */
  readonly revocationsMax?: number | null;
  /** Municipalities that were merged, with the code that they go on under. */
  readonly merged: Readonly<Record<string, string>>;
}
