import { ApprovalNeeded } from '../../core/model/approval.ts';
import { hex } from '../../core/runtime/bytes.ts';
import type { Actor, WantedIssuance } from '../api/certificate-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Load, type Lock, type Rule } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';

// Who looks like another: keyed hashes of the basic four that holders have or had, until the year of their certificates is erased.

type Asked = Pick<WantedIssuance, 'identity' | 'mandate' | 'medium'>;

const identityLock = (identityHash: Uint8Array): Lock => exclusive('identity', hex(identityHash));

export const identityLocks = ({ identity }: Asked): readonly Lock[] =>
  identity ? [identityLock(identity.hash)] : [];

export const identityLoads = ({ identity }: Asked): readonly Load[] =>
  identity ? [byIndex('identity', { identityHash: identity.hash })] : [];

/** Refuses with `ApprovalNeeded` a holder who gets basic four that another has, or had, where no second person says that they are two. */
export function refuseSamePerson(reader: RecordReader, { identity, mandate, medium }: Asked): void {
  if (!identity || !mandate?.approvalsWanted.includes('same-person')) return;
  const known = reader.find('identity', { identityHash: identity.hash });
  const isOwn = known.some(({ holderId }) => holderId === medium.holderId);
  if (known.length > 0 && !isOwn) throw new ApprovalNeeded('same-person');
}

/** Notes the basic four that a holder has from now on. */
export function noteIdentity(tx: Transaction, { identity, medium }: Asked): void {
  if (!identity) return;
  const { hash: identityHash, year } = identity;
  const row = { identityHash, holderId: medium.holderId, year };
  const before = tx.find('identity', { identityHash }).find(({ holderId }) => holderId === row.holderId);
  if (!before) tx.insert('identity', row);
  else if (before.year < year) tx.update('identity', row, before);
}

const eraseRule: Rule<
  { readonly actor: Actor; readonly year: number; readonly rows: readonly Row<'identity'>[] },
  void
> = {
  action: 'eraseIdentities',
  actor: ({ actor }) => actor,
  subject: ({ year }) => ({ year }),
  locks: ({ rows }) =>
    rows.flatMap(({ identityHash, holderId }) => [identityLock(identityHash), exclusive('holder', holderId)]),
  loads: ({ rows }) =>
    rows.map(({ identityHash, holderId }) => byKey('identity', { identityHash, holderId })),
  decide: ({ rows }, tx) => {
    for (const { identityHash, holderId } of rows)
      if (tx.get('identity', { identityHash, holderId })) tx.remove('identity', { identityHash, holderId });
  },
};

/** Rows that one transaction erases. */
const erasedAtOnce = 1000;

/** Erases what is known of the basic four in certificates that ended in a year. */
export async function eraseIdentities(database: RecordDatabase, actor: Actor, year: number): Promise<void> {
  const next = () => database.read((reader) => reader.find('identity', { year }, { limit: erasedAtOnce }));
  for (let rows = await next(); rows.length > 0; rows = await next())
    await database.run(eraseRule, { actor, year, rows }, 0);
}
