// Brings the record that its argument names to this version, in a process of its own: to be killed meanwhile.

import { migrateRecord } from '../../store/migrations/migrate.ts';
import { notLocked } from '../../store/migrations/migration.ts';
import { memoryKeyWrapper } from './key-wrapper.ts';

const [file = ''] = process.argv.slice(2);
const actor = { client: 'n1', role: 'node', requestId: 'migration' };
const context = {
  keyWrapper: memoryKeyWrapper(new Uint8Array(32)),
  actor,
  nowMs: Date.now(),
  checkpoints: async () => [],
  lock: () => notLocked,
  schemaSeen: 0,
};
await new Promise<void>((resolve) => process.stdout.write('ready\n', () => resolve()));
await migrateRecord(file, context);
