import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { filesOf, placeFiles } from './backup.ts';
import { restoreRecord } from './maintenance.ts';
import { layout } from './wiring.ts';

/** Options of the command, as they are given. */
export interface RestoreOptions {
  readonly data: string;
  readonly journal?: string[];
  readonly acceptLoss?: boolean;
  readonly acceptUnproven?: boolean;
}

/** Makes the record of a data folder out of a backup, and says what came back and what did not. */
export async function restore(
  backupFile: string,
  { data, journal, acceptLoss = false, acceptUnproven = false }: RestoreOptions,
): Promise<void> {
  const [folder, backup] = [resolve(data), resolve(backupFile)];
  const paths = layout(folder);
  if (placeFiles(backup, paths)) process.stdout.write(`${folder} was made out of ${filesOf(backup)}\n`);
  const journals = journal ?? [paths.journal].filter((file) => existsSync(file));
  const report = await restoreRecord({ layout: paths, backup, journals, acceptLoss, acceptUnproven });
  const { incarnation, changed, adopted, retold, closed } = report;
  process.stdout.write(
    `incarnation ${incarnation}: ${changed} certificates changed since the backup, ${adopted.length} issued since, ${closed} holders closed until their return is reported, for nothing of theirs is left\n`,
  );
  for (const [table, rows] of retold) process.stdout.write(`brought back: ${rows} rows of ${table}\n`);
  if (adopted.length > 0)
    process.stdout.write(
      `${paths.adopted} lists what was issued since: its octets are not on record until it is bound (POST /v1/certificates/{authority}/{serialNumber}/holder)\n`,
    );
  for (const what of report.lost) process.stdout.write(`lost: ${what}\n`);
}
