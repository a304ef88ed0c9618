import { dirname, resolve } from 'node:path';
import { durationMs } from '../../core/config/duration.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { Progress } from '../../core/runtime/progress.ts';
import { clientIdOf } from '../../store/api/client-store.ts';
import { recordBackup } from '../../store/rules/console-acts.ts';
import { operatorsOf } from '../../store/rules/console-rules.ts';
import { bindAtConsole } from './administrators.ts';
import { whyNoApprover } from './approvers.ts';
import { type BackupReport, backUp } from './backup.ts';
import { actAtConsole } from './console-approval.ts';
import { type Erasure, eraseYear, erasureLines, erasureOf } from './erase-year.ts';
import { addGeneration, nextGeneration } from './generation.ts';
import { type Node, nodeActor, type OperatorNode } from './node.ts';
import { approversMin } from './production.ts';

// Acts at the console that two persons sign for where that is required, each with what its plan says.

/** See `addGeneration`. */
export async function makeGeneration(
  node: OperatorNode,
  suite: string,
  approvedBy: readonly string[],
): Promise<readonly string[]> {
  const next = await nextGeneration(node, suite);
  const does = [
    `makes generation ${next.generation} of the signing and the authentication CA (${suite}), which issue from then on`,
  ];
  const intent = { act: 'new-generation', arguments: [suite], does } as const;
  return actAtConsole(node, intent, { files: approvedBy }, () => addGeneration(node, next));
}

/** See `eraseYear`. Gives what it did. */
export async function eraseYearOf(node: Node, year: number, approvedBy: readonly string[]): Promise<Erasure> {
  const erasure = await erasureOf(node, year);
  const intent = { act: 'erase-year', arguments: [`${year}`], does: erasureLines(erasure) } as const;
  await actAtConsole(node, intent, { files: approvedBy }, () => eraseYear(node, erasure));
  return erasure;
}

/** See `backUp`. What is signed for is the folder, for a time: backups are made every night. */
export async function makeBackup(
  node: Node,
  file: string,
  approvedBy: readonly string[],
): Promise<BackupReport> {
  const folder = dirname(resolve(file));
  const does = [
    `copies the record, the tokens where they are files, and what else a restore requires to ${folder}, any number of times until this plan ends`,
  ];
  const intent = { act: 'backup', arguments: [folder], does } as const;
  return actAtConsole(node, intent, { files: approvedBy }, async () => {
    // First, so that the backup itself knows of it.
    await recordBackup(node.database, nodeActor(node.config), { file, atMs: node.clock.wallMs() });
    const bar = new Progress(process.stderr, node.clock);
    return backUp(node, file, bar).finally(() => bar.end());
  });
}

/** See `bindAtConsole`. Certificates that ran out sign for it, for it is done when no other is left. */
export async function bindAdministrator(
  node: Node,
  bound: Parameters<typeof bindAtConsole>[1],
  approvedBy: readonly string[],
): Promise<void> {
  const { fingerprint, name, roles } = bound;
  await refuseWhileOthersCan(node);
  const does = [`binds the certificate ${fingerprint} as ${name} to ${roles.join(', ')}`];
  const intent = { act: 'console-binding', arguments: [fingerprint, name, ...roles], does } as const;
  const persons = Math.min(approversMin, Math.max(1, await personsLeft(node)));
  await actAtConsole(node, intent, { files: approvedBy, endedToo: true, persons }, () =>
    bindAtConsole(node, bound),
  );
}

/** Refuses with `in-use` before anyone is asked to sign: as the record does in the end. */
async function refuseWhileOthersCan({ database, clock, config }: Node): Promise<void> {
  if (config.mode !== 'production') return;
  const at = { nowMs: clock.machine.wallMs(), bindingMs: durationMs(config.limits.clientBinding) };
  const { administrators } = await operatorsOf(database, at);
  const names = administrators.filter(({ kind }) => kind === 'person').map(({ name }) => name);
  if (names.length >= approversMin)
    throw new PkiError(
      'in-use',
      `administrators can act: ${names.join(', ')}; POST /v1/clients binds a client`,
    );
}

const clientsPage = 500;

/** Administrators that were not shut out, with or without a certificate in force. */
async function personsLeft({ clients, clock, config }: Node): Promise<number> {
  const asked = {
    ...{ nowMs: clock.machine.wallMs(), bindingMs: durationMs(config.limits.clientBinding) },
    endedToo: true,
  };
  const persons = new Set<string>();
  for (let after: string | null = null; ; ) {
    const page = await clients.list(after, clientsPage);
    for (const client of page)
      if (whyNoApprover(client, asked) === undefined) persons.add(clientIdOf(client));
    const last = page.at(-1);
    if (!last || page.length < clientsPage) return persons.size;
    after = last.fingerprint;
  }
}
