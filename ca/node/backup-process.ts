// A process that makes one backup as configured and ends: copying and verifying it takes nothing from the service's thread.
import { fail } from '../../core/runtime/process.ts';
import { withNode } from './operator.ts';
import { makeScheduledBackup } from './scheduled-backup.ts';

const [folder = ''] = process.argv.slice(2);
await withNode(folder, 'backup', 'everything', async (node) => {
  process.stdout.write(`${await makeScheduledBackup(node)}\n`);
}).catch(fail);
