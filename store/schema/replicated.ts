import { describe, type Row, type TableName } from './schema.ts';

// What a record that is restored from an older backup must not have forgotten, and followers must not learn: rows of these
// tables travel in the feed, sealed for the CA alone, and come back out of the followers' journals (`replay.ts`).

/**
 * Views of a table: columns that are replicated together, with the key, when a row is new or one of them has changed. Status columns
 * of certificates are no part of them: the feed has those in the open.
 */
export const replicated = {
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
  // Without its progress: what is written for phones is written again from the beginning.
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
  restrictionEffect: [
    ['state', 'version', 'match', 'heldMs', 'endedMs', 'revokedMs', 'reason', 'lastCohort'],
  ],
  deviceClass: [['facts']],
  phoneReport: [['holderId', 'appletVersion', 'appVersion', 'reportedMs', 'reports', 'countedSinceMs']],
  phoneCertificate: [['holderId', 'mediumId', 'deviceClass', 'version', 'sinceMs']],
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
  // A desk that was suspended stays so.
  desk: [
    [
      'kind',
      'municipality',
      'functions',
      'municipalities',
      'actsPerDay',
      'validFromMs',
      'validToMs',
      'suspendedMs',
      'changedMs',
    ],
  ],
  // A verifier that was suspended stays so, and a credential that was ended.
  verifier: [
    [
      'name',
      'type',
      'kinds',
      'purposes',
      'platformId',
      'url',
      'delivery',
      'requestsPerSecond',
      'questionsPerDay',
      'watchesMax',
      'fromMs',
      'toMs',
      'suspendedMs',
      'version',
      'changedMs',
    ],
  ],
  // What was withdrawn stays so, and what a town withholds.
  consent: [
    [
      'holderId',
      'verifierId',
      'serviceId',
      'items',
      'purpose',
      'authority',
      'epoch',
      'position',
      'keyHash',
      'givenMs',
      'endsMs',
      'withdrawnMs',
      'withdrawnBy',
    ],
  ],
  withholding: [['sinceMs', 'desk', 'client', 'changedMs']],
  verifierCredential: [['verifierId', 'type', 'value', 'fromMs', 'toMs', 'addedMs']],
  holderTown: [['municipality', 'changedMs']],
  clientIdentity: [['name', 'foldedName', 'kind', 'addedMs']],
  clientTerm: [
    ['clientId', 'certificateEndsMs', 'bindingEndsMs', 'endsMs', 'renews', 'renewedBy', 'unconfirmedSinceMs'],
  ],
} as const satisfies { readonly [T in TableName]?: readonly (readonly (keyof Row<T> & string)[])[] };

export type ReplicatedTable = keyof typeof replicated;

/** A value as it is replicated: octets in base64, in an array of their own. */
export type ReplicatedValue = string | number | null | readonly [base64: string];

/** A row as it is replicated: its table, which of the views, and the values of key and view in order. */
export type ReplicatedRow = readonly [
  table: ReplicatedTable,
  view: number,
  values: readonly ReplicatedValue[],
];

/** What transactions of one commit replicate: at which position of their writer's events, and the rows. */
export interface ReplicatedTransaction {
  readonly position: number;
  readonly rows: readonly ReplicatedRow[];
}

/** The views of a table as names; none where nothing of it is replicated. */
export const viewsOf = (table: TableName): readonly (readonly string[])[] =>
  (replicated as { readonly [T in TableName]?: readonly (readonly string[])[] })[table] ?? [];

/** Encodes a value of a column. */
export const replicatedValue = (value: string | number | Uint8Array | null): ReplicatedValue =>
  value instanceof Uint8Array ? [Buffer.from(value).toString('base64')] : value;

/** The columns that a replicated row has values of: the key, then the view. */
export const columnsOfView = (table: TableName, view: number): readonly string[] => [
  ...describe(table).key,
  ...(viewsOf(table)[view] ?? []),
];
