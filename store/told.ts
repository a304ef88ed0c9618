import { describe, type Row, type TableName } from './schema.ts';

// What a record that is restored from an older backup must not have forgotten, and followers must not learn: rows of these
// tables travel in the feed, sealed for the CA alone, and come back out of the followers' journals (`retell.ts`).

/**
 * Views of a table: columns that are told together, with the key, when a row is new or one of them has changed. Status columns
 * of certificates are no part of them: the feed has those in the open.
 */
export const told = {
  certificate: [
    [
      'kind',
      'holderId',
      'mediumId',
      'issuanceId',
      'notBeforeMs',
      'notAfterMs',
      'shard',
      'restsOnAuthority',
      'restsOnEpoch',
      'restsOnPosition',
    ],
    ['heldBy'],
  ],
  // Of restores in between: the key is wrapped by the token.
  epoch: [['wrappedKey', 'openedMs']],
  publicKey: [['certifiedMs', 'blockedMs', 'authority', 'epoch', 'position']],
  medium: [
    [
      'holderId',
      'type',
      'expiresMs',
      'restsOn',
      'platform',
      'model',
      'osVersion',
      'secureElement',
      'patchLevel',
      'createdMs',
    ],
  ],
  unknownModel: [[]],
  enrolment: [['holderId', 'signerAuthority', 'signerEpoch', 'signerPosition']],
  activation: [['holderId', 'mediumId', 'state', 'dueMs']],
  succession: [['event', 'mediumId', 'holderId', 'overlapMs', 'dueMs', 'replaced']],
  standing: [['closedBy', 'reopens', 'signingBarredBy', 'closedMs', 'signingMs', 'changedMs']],
  restriction: [['match', 'note', 'state', 'createdMs']],
  // Without how far it has come: it begins anew, and finds done what is.
  massAct: [
    [
      'restrictionId',
      'action',
      'reason',
      'state',
      'proposedBy',
      'proposedMs',
      'approvedBy',
      'approvedMs',
      'phones',
      'certificates',
      'finishedMs',
    ],
  ],
  movedDay: [['holderId', 'fromMs', 'toMs', 'dueMs']],
  correction: [
    [
      'holderId',
      'note',
      'closedBy',
      'closedMs',
      'state',
      'proposedBy',
      'proposedMs',
      'approvedBy',
      'approvedMs',
    ],
  ],
  switch: [['state', 'perMinute', 'note', 'changedMs', 'changedBy']],
  client: [['name', 'roles', 'desks', 'addedMs', 'revokedMs']],
  clientTerm: [
    ['clientId', 'certificateEndsMs', 'bindingEndsMs', 'endsMs', 'renews', 'renewedBy', 'unconfirmedSinceMs'],
  ],
} as const satisfies { readonly [T in TableName]?: readonly (readonly (keyof Row<T> & string)[])[] };

export type ToldTable = keyof typeof told;

/** A value as it is told: octets in base64, in an array of their own. */
export type ToldValue = string | number | null | readonly [base64: string];

/** A row as it is told: its table, which of the views, and the values of key and view in order. */
export type ToldRow = readonly [table: ToldTable, view: number, values: readonly ToldValue[]];

/** What one transaction tells: at which position of its writer's events, and the rows. */
export interface Telling {
  readonly position: number;
  readonly rows: readonly ToldRow[];
}

/** The views of a table as names; none where nothing of it is told. */
export const viewsOf = (table: TableName): readonly (readonly string[])[] =>
  (told as { readonly [T in TableName]?: readonly (readonly string[])[] })[table] ?? [];

/** A value as it is told. */
export const toldValue = (value: string | number | Uint8Array | null): ToldValue =>
  value instanceof Uint8Array ? [Buffer.from(value).toString('base64')] : value;

/** Names of what a told row has values of: the key, then the view. */
export const toldColumns = (table: TableName, view: number): readonly string[] => [
  ...describe(table).key,
  ...(viewsOf(table)[view] ?? []),
];
