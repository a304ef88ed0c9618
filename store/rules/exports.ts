import type { Export, OperationsStore } from '../api/operations-store.ts';
import type { RecordReader } from '../engine/record.ts';
import { byKey, exclusive } from '../engine/rule.ts';
import { answeredOnce } from './once.ts';

// What clients are allowed to read in bulk.

const nameOf = (exportId: string): string => `export:${exportId}`;

/** See `OperationsStore.allowExport`. */
export const allowExport = answeredOnce<Parameters<OperationsStore['allowExport']>[0], Export>({
  action: 'allowExport',
  subject: ({ exportId, what, ground }) => ({ exportId, what, ground }),
  locks: ({ exportId }) => [exclusive('meta', nameOf(exportId))],
  loads: ({ exportId }) => [byKey('meta', { name: nameOf(exportId) })],
  decide: ({ exportId, what, holderId, ground, expiresMs, scope }, tx) => {
    const allowed = { exportId, client: scope.client, what, holderId, ground, expiresMs };
    tx.insertNew('meta', { name: nameOf(exportId), value: JSON.stringify(allowed) });
    return allowed;
  },
});

export function exportIn(reader: RecordReader, exportId: string): Export | undefined {
  const row = reader.get('meta', { name: nameOf(exportId) });
  return row && (JSON.parse(row.value) as Export);
}
