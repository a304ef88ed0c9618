import type { Actor } from '../../core/model/act.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { byIndex, type Rule, wholeRecord } from '../engine/rule.ts';
import { announceEffect } from '../rules/device-classes.ts';
import { announce, verifierLoads } from '../rules/verifiers.ts';
import { batchesOf, type Restoring } from './restore-rules.ts';

// What a restored record says counts, whatever followers received before: its versions are the highest.

/** More than any verifier, or restriction, changes between two restores. */
const versionStep = 2 ** 20;

const raiseRows: Rule<Restoring & { readonly ids: readonly string[] }, void> = {
  action: 'raiseVerifiers',
  actor: ({ actor }) => actor,
  subject: ({ ids }) => ({ verifiers: ids.length }),
  locks: () => [wholeRecord],
  loads: ({ ids }) => ids.flatMap(verifierLoads),
  decide: ({ ids }, tx, { nowMs }) => {
    for (const verifierId of ids) {
      const row = tx.get('verifier', { verifierId });
      if (!row) continue;
      tx.update('verifier', { ...row, version: row.version + versionStep }, row);
      announce(tx, verifierId, nowMs);
    }
  },
};

/** Has what the restored record says of verifiers count, whatever followers received before: its versions are the highest. */
export async function raiseVerifiers(database: RecordDatabase, actor: Actor, nowMs: number): Promise<void> {
  const ids = await database.read((reader) =>
    reader.scan('verifier', { limit: Number.MAX_SAFE_INTEGER }).map(({ verifierId }) => verifierId),
  );
  for (const some of batchesOf(ids)) await database.run(raiseRows, { actor, ids: some }, nowMs);
}

const raiseEffects: Rule<Restoring, void> = {
  action: 'raiseRestrictions',
  actor: ({ actor }) => actor,
  subject: () => ({}),
  locks: () => [wholeRecord],
  loads: () => [byIndex('restrictionEffect', {})],
  decide: (_input, tx) => {
    for (const row of tx.find('restrictionEffect', {})) {
      const raised = { ...row, version: row.version + versionStep };
      tx.update('restrictionEffect', raised, row);
      announceEffect(tx, raised);
    }
  },
};

/** The same of restrictions. */
export const raiseRestrictions = (database: RecordDatabase, actor: Actor, nowMs: number): Promise<void> =>
  database.run(raiseEffects, { actor }, nowMs);
