import { spawnSync } from 'node:child_process';
import { existsSync, readSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { systemClock } from '../../core/runtime/clock.ts';
import { noDataFolder } from '../../core/runtime/data-folder.ts';
import { type DataLock, lockData } from '../../core/runtime/data-lock.ts';
import { createDurably } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { Progress } from '../../core/runtime/progress.ts';
import { pem } from '../api/present.ts';
import { roles } from '../api/schema.ts';
import { readRequest } from './administrators.ts';
import { auditRecord } from './audit.ts';
import { fingerprintOf } from './ceremony.ts';
import type { CommandAnswer } from './command-answer.ts';
import { isMade, layout } from './layout.ts';
import type { OperatorNode } from './node.ts';
import { certifyClient, issueTlsLeaf } from './operations.ts';
import { openNode, openOperations } from './wiring.ts';

// What the commands of an operator share: the data folder with its locks, the console, and what is printed.

/** What a command may run with: see `lockData`. */
type RunsWith = 'nothing' | 'the service' | 'everything';
const locksOf: Readonly<Record<RunsWith, readonly DataLock[]>> = {
  nothing: ['owner', 'operator'],
  'the service': ['operator'],
  everything: [],
};

/** Runs an operator's command on a data folder that there is. */
export async function withLock<R>(
  folder: string,
  name: string,
  runsWith: RunsWith,
  act: () => Promise<R>,
): Promise<R> {
  if (!existsSync(folder) && name !== 'restore') throw new PkiError('bad-request', noDataFolder(folder));
  using taken = new DisposableStack();
  const lock = lockData(folder, locksOf[runsWith], `the command ${name}`);
  taken.defer(() => lock.release());
  return await act();
}

/** The same for a command that needs the folder's keys and record. */
export async function withNode<R>(
  data: string,
  name: string,
  runsWith: RunsWith,
  act: (node: OperatorNode) => Promise<R>,
): Promise<R> {
  const folder = resolve(data);
  return withLock(folder, name, runsWith, async () => {
    // Before the token is looked for: what looks for it leaves folders of its own.
    if (!existsSync(layout(folder).record) && !isMade(layout(folder)))
      throw new PkiError('bad-request', `${folder} has had no ceremony: perform it first (warifu ceremony)`);
    const node = await openNode({
      folder,
      clock: systemClock,
      mode: 'open',
      isOwner: runsWith === 'nothing',
    });
    await using opened = new AsyncDisposableStack();
    opened.defer(() => node.close());
    if (runsWith === 'nothing') await refuseOtherNodes(node, name);
    return await act(node);
  });
}

/** What runs while no service does runs while none does on any machine. */
export async function refuseOtherNodes(
  { database }: Pick<OperatorNode, 'database'>,
  name: string,
): Promise<void> {
  const others = (await database.otherNodes?.()) ?? [];
  if (others.length > 0)
    throw new PkiError(
      'in-use',
      `${name}: the record is in use by ${others.join(', ')}: stop all nodes first`,
    );
}

/** Issues a client certificate; an administrator binds its fingerprint to roles through the API. */
export async function issueClient(
  node: OperatorNode,
  name: string,
  request: string | undefined,
): Promise<CommandAnswer> {
  if (!/^[a-z0-9-]{1,32}$/.test(name))
    throw new PkiError('bad-request', 'a name is of a–z, 0–9 and -, 32 at most');
  const folder = node.layout.clients;
  const operations = await openOperations(node);
  if (request !== undefined) {
    const { publicKey } = readRequest(request);
    const cert = pem(await certifyClient(operations, name, publicKey));
    createDurably(join(folder, `${name}.pem`), cert, 0o644);
    return tellOfClient(folder, name, { cert, key: null });
  }
  if (node.config.mode === 'production')
    throw new PkiError(
      'bad-request',
      'in production a key is its owner’s: give --request with its PKCS#10 request',
    );
  const leaf = {
    kind: 'tls-client',
    commonName: name,
    subjectAltName: null,
    folder,
    name,
    replaces: false,
  } as const;
  const { cert } = await issueTlsLeaf(operations, leaf);
  return tellOfClient(folder, name, { cert, key: join(folder, `${name}.key`) });
}

/** `key` is its file; null where it is its owner's. */
function tellOfClient(
  folder: string,
  name: string,
  { cert, key }: { readonly cert: string; readonly key: string | null },
): CommandAnswer {
  const value = { certificate: join(folder, `${name}.pem`), key, fingerprint: fingerprintOf(cert) };
  return { lines: [value.certificate, `fingerprint ${value.fingerprint}`], value };
}

export async function verify(
  node: OperatorNode,
  options: { readonly checkpoints?: string; readonly fromStart?: boolean },
): Promise<CommandAnswer> {
  const bar = new Progress(process.stderr, node.clock);
  const of = { checkpoints: options.checkpoints, isFromStart: options.fromStart };
  const report = await auditRecord(node, { ...of, bar }).finally(() => bar.end());
  const { entries, rows, heads, finding, checkpoints: checked, resumed } = report;
  const lines = [
    ...(resumed ? ['continued from where an earlier run was interrupted'] : []),
    ...heads.map(
      ({ writer, sequence, hash }) => `the chain of ${writer} ends with entry ${sequence}, of hash ${hash}`,
    ),
  ];
  const value = { entries, rows, heads, checkpoints: checked, resumed, finding: finding ?? null };
  if (finding) {
    const { type, where, what } = finding;
    const failure = new PkiError('record-unavailable', `altered: ${type} ${where}: ${what}`);
    return { lines, value, failure };
  }
  const signed =
    checked === 0
      ? 'no checkpoint of this record has been signed yet'
      : `signed checkpoints that hold: ${checked}`;
  return {
    lines: [...lines, `${entries} entries and ${rows} rows are as they were written; ${signed}`],
    value,
  };
}

export function knownRoles(wanted: readonly string[]): readonly string[] {
  const other = wanted.find((role) => !roles.some((known) => known === role));
  if (other !== undefined)
    throw new PkiError('bad-request', `--roles: there is no role ${other}; there are ${roles.join(', ')}`);
  return wanted;
}

/** Up to the first line feed, or to the end. */
function firstLine(descriptor: number): string {
  const line: number[] = [];
  const octet = Buffer.alloc(1);
  while (line.length < 256 && readOctet(descriptor, octet) && octet[0] !== 0x0a) line.push(octet[0] ?? 0);
  return Buffer.from(line).toString('utf8');
}

/** Reads one octet, waiting for it also where the descriptor does not block; false at the end. */
function readOctet(descriptor: number, octet: Buffer): boolean {
  for (;;) {
    try {
      return readSync(descriptor, octet) === 1;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
    }
  }
}

/** One line of standard input; what is typed is not shown. */
export function readTypedPin(of = 'the CA token'): string {
  const isTyped = process.stdin.isTTY === true;
  if (isTyped) {
    process.stderr.write(`PIN of ${of}: `);
    spawnSync('stty', ['-echo'], { stdio: 'inherit' });
  }
  try {
    return firstLine(0).trim();
  } finally {
    if (isTyped) {
      spawnSync('stty', ['echo'], { stdio: 'inherit' });
      process.stderr.write('\n');
    }
  }
}
