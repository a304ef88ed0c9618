// A process that makes one backup as configured and ends: copying and verifying it takes nothing from the service's thread. It prints the
// names of unfinished backups that it cleared away.
import { fail } from '../../core/runtime/process.ts';
import { withNode } from './operator.ts';
import { makeScheduledBackup } from './scheduled-backup.ts';

const [folder = '', atMs = ''] = process.argv.slice(2);
await withNode(folder, 'backup', 'everything', async (node) => {
  for (const name of await makeScheduledBackup(node, Number(atMs))) process.stdout.write(`${name}\n`);
}).catch(fail);
