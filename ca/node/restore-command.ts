import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { Progress } from '../../core/runtime/progress.ts';
import type { ReconcileReport } from '../../store/restore/reconcile.ts';
import { readConfig } from '../config/config.ts';
import { personByToken } from './approvers.ts';
import { filesOf, placeFiles } from './backup.ts';
import type { CommandAnswer } from './command-answer.ts';
import { approvedAtConsole } from './console-approval.ts';
import { layout } from './layout.ts';
import { restoreRecord } from './maintenance.ts';
import { refuseServer } from './record-place.ts';

/** Options of the command, as they are given. */
export interface RestoreOptions {
  readonly data: string;
  readonly journal?: string[];
  readonly acceptLoss?: boolean;
  readonly acceptUnproven?: boolean;
  readonly approvedBy?: string[];
}

/** The service's own journal, and those that restores before have set aside; each by the name of the file that was written to. */
function ownJournals(journal: string): string[] {
  const folder = dirname(journal);
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder)
    .filter((name) => name.startsWith(basename(journal)))
    .map((name) => /^(\.previous(?:-\d+)?)?(?:\.\d{6}(?:\.gz)?)?$/.exec(name.slice(basename(journal).length)))
    .filter((found) => found !== null);
  return [...new Set(names.map(([, aside = '']) => `${journal}${aside}`))];
}

/** What a restore does, in words. */
const reportLines = ({ changed, adopted, closed, replayed }: ReconcileReport): string[] => [
  `${changed} certificates changed since the backup, ${adopted.length} issued since, ${closed} holders closed until their return is reported, for nothing of theirs is left`,
  ...[...replayed].map(([table, rows]) => `brought back: ${rows} rows of ${table}`),
];

/** Makes the record of a data folder out of a backup, and says what came back and what did not. */
export async function restore(
  backupFile: string,
  { data, journal, acceptLoss = false, acceptUnproven = false, approvedBy = [] }: RestoreOptions,
): Promise<CommandAnswer> {
  const [folder, backup] = [resolve(data), resolve(backupFile)];
  if (backup.endsWith('.tar.age'))
    throw new PkiError(
      'bad-request',
      `${backup} is encrypted: open it with warifu open-backup, and restore the record.db in it`,
    );
  for (const file of journal ?? [])
    if (statSync(file, { throwIfNoEntry: false })?.isDirectory())
      throw new PkiError('bad-request', `--journal: ${file} is a folder; name the journal.ndjson in it`);
  const paths = layout(folder);
  refuseServer(readConfig(paths.config), 'a restore');
  // At once: it stays, also where the restore fails.
  if (placeFiles(backup, paths)) process.stderr.write(`${folder} was made out of ${filesOf(backup)}\n`);
  const journals = journal ?? ownJournals(paths.journal);
  const chosen = [
    ...journals.flatMap((file) => ['--journal', file]),
    ...(acceptLoss ? ['--accept-loss'] : []),
    ...(acceptUnproven ? ['--accept-unproven'] : []),
  ];
  const bar = new Progress(process.stderr, systemClock);
  const report = await restoreRecord({
    bar,
    ...{ layout: paths, backup, journals, acceptLoss, acceptUnproven },
    // The record that there is may be lost, or altered: the token says who may sign.
    approve: ({ config, memory, report: worked, isAllowed }) => {
      const nowMs = systemClock.wallMs();
      const personOf = (certificate: Bytes) => personByToken(memory, certificate, nowMs);
      const does = [...reportLines(worked), ...worked.lost.map((what) => `lost: ${what}`)];
      const intent = { act: 'restore', record: backup, arguments: [backup, ...chosen], does } as const;
      const isRequired = config.mode === 'production' && !isAllowed;
      const console = { config, layout: paths, memory, nowMs, personOf, isRequired };
      return approvedAtConsole(console, intent, approvedBy);
    },
  }).finally(() => bar.end());
  return restored(report, paths.adopted);
}

/** What came back, and what did not. */
function restored(report: ReconcileReport, adoptedFile: string): CommandAnswer {
  const { incarnation, adopted, changed, closed, replayed, lost, hasNews } = report;
  const lines = [
    `incarnation ${incarnation}: ${reportLines(report).join('\n')}`,
    ...(adopted.length > 0
      ? [
          `${adoptedFile} lists what was issued since: its octets are not on record until it is bound (POST /v1/certificates/{authority}/{serialNumber}/holder)`,
        ]
      : []),
    'not brought back: reports and their event ids, answers, holders’ notice preferences, verifiers’ watches since the backup',
    ...lost.map((what) => `lost: ${what}`),
    ...(hasNews
      ? []
      : [
          'no journal goes beyond the backup: what was revoked since, if anything was, is good again; restore again with the journals of the nodes (--journal)',
        ]),
  ];
  const value = {
    ...{ incarnation, changed, closed, lost, hasNews, adopted: adopted.length },
    adoptedFile: adopted.length > 0 ? adoptedFile : null,
    broughtBack: Object.fromEntries(replayed),
  };
  return { lines, value };
}
