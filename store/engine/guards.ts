import { invariant } from '../../core/runtime/errors.ts';
import type { Row, TableName } from '../schema/schema.ts';
import { type Load, type Lock, wholeRecord } from './rule.ts';
import type { RowChange } from './workspace.ts';

// Which lock guards the rows of each table. A rule that writes a row holds every lock that guards it; a rule that reads rows holds
// one of them. So nothing that a rule has read changes before it has written, though each statement sees the record as it is at its
// own moment: that is what makes READ COMMITTED enough.

type Columns = Readonly<Record<string, unknown>>;

/** A lock named after values of a row: `['holder', 'holderId']` is `holder:<holderId>`. A row without a value has no such lock. */
type Guard = readonly [name: string, ...columns: string[]];

/** A table without guards is written once, under unique names: positions, hashes, random identifiers. */
const guards: Readonly<Record<TableName, readonly Guard[]>> = {
  meta: [['meta', 'name']],
  authority: [],
  authorityLink: [['link', 'link']],
  epoch: [['positions', 'authority']],
  lease: [['positions', 'authority']],
  dataKey: [['data-key', 'name']],
  holder: [['holder', 'holderId']],
  medium: [
    ['holder', 'holderId'],
    ['medium', 'mediumId'],
  ],
  certificate: [
    ['holder', 'holderId'],
    ['certificate', 'authority', 'epoch', 'position'],
  ],
  encoding: [],
  encodingBase: [['encoding-base', 'baseId']],
  issuance: [],
  signature: [],
  publicKey: [['key', 'keyHash']],
  shard: [['shard', 'series']],
  standing: [['holder', 'holderId']],
  lifeEvent: [
    ['holder', 'holderId'],
    ['report', 'client', 'eventId'],
  ],
  correction: [['holder', 'holderId']],
  activation: [['holder', 'holderId']],
  applet: [['medium', 'mediumId']],
  adopted: [['adopted', 'authority', 'epoch', 'position']],
  wishLanguage: [['holder', 'holderId']],
  addressToConfirm: [['holder', 'holderId']],
  messageDetail: [],
  unknownModel: [['medium', 'mediumId']],
  enrolment: [['holder', 'holderId']],
  movedDay: [['holder', 'holderId']],
  enrolmentCode: [['code', 'codeHash']],
  operationsCertificate: [['operations']],
  proposal: [
    ['proposal', 'proposalId'],
    ['proposer', 'client'],
  ],
  desk: [['desk', 'deskCode']],
  consent: [['holder', 'holderId']],
  withholding: [['holder', 'holderId']],
  verifier: [['verifier', 'verifierId']],
  verifierCredential: [
    ['verifier', 'verifierId'],
    ['credential', 'type', 'value'],
  ],
  cardOrder: [['medium', 'mediumId']],
  holderTown: [['holder', 'holderId']],
  identity: [
    ['identity', 'identityHash'],
    ['holder', 'holderId'],
  ],
  townMessage: [],
  clientIdentity: [['clients']],
  clientTerm: [['clients']],
  timeCorrection: [['time-corrections']],
  reservation: [['issuance', 'issuanceId']],
  succession: [['holder', 'holderId']],
  evidence: [],
  request: [['request', 'client', 'route', 'idempotencyKey']],
  challenge: [['challenge', 'challengeHash']],
  restriction: [['restrictions']],
  massAct: [['mass-acts']],
  restrictionEffect: [['restrictions']],
  deviceClass: [['device-class', 'deviceClass']],
  formerClass: [],
  phoneReport: [
    ['holder', 'holderId'],
    ['medium', 'mediumId'],
  ],
  phoneCertificate: [
    ['holder', 'holderId'],
    ['medium', 'mediumId'],
  ],
  switch: [['switch', 'name']],
  client: [['clients']],
  event: [],
  history: [],
  message: [
    ['holder', 'holderId'],
    ['medium', 'mediumId'],
    ['message', 'messageId'],
  ],
  wish: [['holder', 'holderId']],
  watch: [],
  watchDetail: [['watches', 'verifier']],
  useCount: [['holder', 'holderId']],
  intake: [['intakes', 'verifierId']],
  intakeEntry: [['intake', 'intakeId']],
  audit: [],
  auditOfSchema3: [],
};

const text = (value: unknown): string =>
  value instanceof Uint8Array ? Buffer.from(value).toString('hex') : String(value);

/** Guards of rows that belong to no holder: certificates of our own, and messages about them. */
const ofNoHolder: readonly string[] = ['certificate', 'message'];

/** The lock of a guard for a row; undefined where the row, or what is known of it, has no value for it. */
function lockOf([name, ...columns]: Guard, row: Columns): string | undefined {
  if (ofNoHolder.includes(name) && row.holderId !== null) return undefined;
  const values = columns.map((column) => row[column] ?? null);
  return values.includes(null) ? undefined : [name, ...values.map(text)].join(':');
}

const holdsAll = (held: readonly Lock[]): boolean =>
  held.some(({ name, mode }) => name === wholeRecord.name && mode === wholeRecord.mode);

/** Rows that are never other than they were: what is found can be relied on without a lock. Who writes one holds it. */
const unchanging: readonly TableName[] = ['deviceClass'];

/** Refuses a load that no held lock guards: the declaration of the rule is wrong. */
export function checkRead(
  { table, key, where }: Load,
  rows: readonly Row<TableName>[],
  held: readonly Lock[],
): void {
  const of = guards[table];
  if (of.length === 0 || unchanging.includes(table)) return;
  const names = new Set(held.map(({ name }) => name));
  if (holdsAll(held)) return;
  const asked = { ...key, ...where } as Columns;
  const isHeld = (row: Columns): boolean => {
    const locks = of.map((guard) => lockOf(guard, row)).filter((lock) => lock !== undefined);
    return locks.length === 0 || locks.some((lock) => names.has(lock));
  };
  const isGuarded = of.some((guard) => lockOf(guard, asked) !== undefined) ? isHeld(asked) : true;
  invariant(
    isGuarded || (rows.length > 0 && rows.every((row) => isHeld(row as Columns))),
    `a rule reads ${table} without a lock that guards it`,
  );
  invariant(
    rows.every((row) => isHeld({ ...(row as Columns), ...asked })),
    `a rule reads rows of ${table} without a lock that guards them`,
  );
}

/** Refuses a write that not all its locks guard. */
export function checkWrite({ table, row, before, key }: RowChange, held: readonly Lock[]): void {
  const names = new Set(held.filter(({ mode }) => mode === 'exclusive').map(({ name }) => name));
  if (holdsAll(held)) return;
  // Of a row removed without being read, only the key is known.
  for (const state of row || before ? [row, before] : [key]) {
    if (!state) continue;
    for (const guard of guards[table]) {
      const lock = lockOf(guard, { ...(key as Columns), ...(state as Columns) });
      invariant(lock === undefined || names.has(lock), `a rule writes ${table} without the lock ${lock}`);
    }
  }
}
