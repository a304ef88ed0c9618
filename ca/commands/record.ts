import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { PkiError } from '../../core/runtime/errors.ts';
import { type CommandAnswer, inWords } from '../node/command-answer.ts';
import type { MoveOptions } from '../node/move-record.ts';
import { withLock, withNode } from '../node/operator.ts';
import type { RestoreOptions } from '../node/restore-command.ts';
import { type Approvable, answers, type Commands, commandOn, signedBy } from './command.ts';

/** What is kept of the record, and what is not. */
export const keepingCommands: Commands = (program) => {
  const erasing = commandOn(
    program,
    'erase-year <year>',
    'make the personal data of certificates that ended in a past year unreadable; while the service is stopped',
  ).option(...signedBy);
  answers(erasing, (year: string, { data, approvedBy = [] }: Approvable) =>
    withNode(data, 'erase-year', 'nothing', async (node) => {
      const { eraseYearOf } = await import('../node/guarded-acts.ts');
      const { replaced, elsewhere } = await eraseYearOf(node, Number(year), approvedBy);
      const lines = [
        ...replaced.map((file) => `erased from ${file}, too`),
        ...elsewhere.map((what) => `still held by the backup ${what}: destroy it`),
      ];
      return { lines, value: { erasedFrom: replaced, stillHeldBy: elsewhere } };
    }),
  );
  const backup = commandOn(
    program,
    'backup [file]',
    'copy the record to a file, and next to it, in <file>.files, all else that a dead disk takes; may run while the service does',
  )
    .option(
      '--scheduled',
      'instead of <file>: verified, encrypted and kept as backups configures, as the service does by itself',
    )
    .option(...signedBy);
  answers(backup, (file: string | undefined, options: Approvable & { scheduled?: boolean }) =>
    withNode(options.data, 'backup', 'everything', async (node) => {
      if ((file === undefined) !== (options.scheduled === true))
        throw new PkiError('bad-request', 'name a file, or --scheduled');
      if (file === undefined) {
        const { askForBackup } = await import('../node/ask-for-backup.ts');
        return inWords([await askForBackup(node)]);
      }
      const { makeBackup } = await import('../node/guarded-acts.ts');
      const { covered, notCovered } = await makeBackup(node, resolve(file), options.approvedBy ?? []);
      const lines = [
        ...covered.map((what) => `covered: ${what}`),
        ...notCovered.map((what) => `not covered: ${what}`),
      ];
      return { lines, value: { file: resolve(file), covered, notCovered } };
    }),
  );
  const opening = program
    .command('open-backup <file> <folder>')
    .description('decrypt a backup that the service made into a new folder, whose record.db restore takes')
    .requiredOption('--identity <file>', 'file with private keys of age, as age-keygen writes it');
  answers(opening, openBackup);
  const restoring = commandOn(
    program,
    'restore <backup>',
    'make the record out of a backup and of what followers have received; the service is stopped',
  )
    .option('--journal <file...>', 'journals of OCSP and CRL nodes; default: the one in the data folder')
    .option(
      '--accept-loss',
      'restore although something is lost that is known to have been on record; what, is printed',
    )
    .option(
      '--accept-unproven',
      'believe journals, or lines of them, without proof that this CA sent them: those of an earlier version',
    )
    .option(...signedBy);
  answers(restoring, (file: string, options: RestoreOptions) =>
    withLock(resolve(options.data), 'restore', 'nothing', async () => {
      const { restore } = await import('../node/restore-command.ts');
      return restore(file, options);
    }),
  );
};

/** Where the record is kept. */
export const movingCommands: Commands = (program) => {
  const migrate = commandOn(
    program,
    'migrate',
    'move the record between the data folder and a PostgreSQL database; while the service is stopped',
  )
    .requiredOption('--to <where>', 'postgres://USER@HOST[:PORT][,HOST...]/DATABASE, or sqlite')
    .option('--password-file <file>', 'file with the password, relative to the data folder')
    .option('--ca <file>', 'file with the authorities of the servers’ certificates, PEM')
    .option('--no-tls', 'without TLS: for a server on this machine')
    .option(...signedBy);
  answers(migrate, async ({ data, to, ...options }: Approvable & MoveOptions & { to: string }) => {
    const { moveRecord, moveTargetOf } = await import('../node/move-record.ts');
    return inWords(await moveRecord(data, moveTargetOf(to, options), options.approvedBy ?? []));
  });
};

/** Says what to do next: the same as `age -d` and `tar x` would. */
async function openBackup(
  file: string,
  folder: string,
  { identity }: { identity: string },
): Promise<CommandAnswer> {
  const { decryptBackup } = await import('../node/encrypted-backup.ts');
  for (const named of [file, identity])
    if (!existsSync(named)) throw new PkiError('bad-request', `there is no file ${named}`);
  if (existsSync(folder)) throw new PkiError('bad-request', `${folder} exists, and nothing is overwritten`);
  const keys = readFileSync(identity, 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  await decryptBackup(file, folder, keys);
  const record = join(folder, 'record.db');
  return { lines: [`now run: warifu restore ${record} --journal FILES --data DIR`], value: { record } };
}
