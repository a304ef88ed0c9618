import { cpSync, existsSync, lstatSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { tlsFilesOf } from '../../core/config/verifiers.ts';
import { segmentsOf } from '../../core/feed/journal-files.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Progress } from '../../core/runtime/progress.ts';
import { backupSqlite } from '../../store/sqlite/sqlite.ts';
import type { Config } from '../config/config.ts';
import { signCopy, type VerifiedCopy } from './audit.ts';
import type { Layout } from './layout.ts';
import type { Node } from './node.ts';
import { refuseServer } from './record-place.ts';

// A backup is the record in one file, and next to it, in `<file>.files`, all else that a dead disk takes: what a restore onto
// an empty machine needs. It holds secrets, and is as precious as the data folder itself.

/** What of a data folder goes with a backup, besides what the configuration names. CRLs and indexes are made again. */
const parts = [
  'warifu.json',
  'ceremony.json',
  'outbox.pem',
  'tls',
  'clients',
  'secrets',
  'audit',
  'ocsp/responders.json',
] as const;

export const filesOf = (backup: string): string => `${backup}.files`;

export interface BackupReport extends VerifiedCopy {
  /** Relative to the data folder. */
  readonly covered: readonly string[];
  /** What is to be backed up by other means, in words. */
  readonly notCovered: readonly string[];
}

/**
 * Backs up a data folder while the service runs. Throws `bad-request` where something lies there already. The token comes
 * before the record, so that it remembers nothing that the record does not have; then the journal, which may know more; last
 * a signed checkpoint of where the copied record's audit chain ends.
 */
export async function backUp(node: Node, file: string, bar?: Progress): Promise<BackupReport> {
  refuseServer(node.config, 'a backup');
  const files = filesOf(file);
  for (const path of [file, files])
    if (existsSync(path)) throw new PkiError('bad-request', `${path} exists, and nothing is overwritten`);
  mkdirSync(dirname(file), { recursive: true });
  mkdirSync(files, { mode: 0o700 });
  const { layout, config } = node;
  const covered: string[] = [];
  const notCovered: string[] = [];
  if (hasOwnTokens(layout)) {
    copySteadily(layout.softhsm, join(files, 'softhsm'));
    covered.push('softhsm');
  } else notCovered.push('the tokens: they are not in the data folder; copy them with the vendor’s tool');
  await backupSqlite(layout.record, file, bar?.of('pages copied'));
  covered.push('record.db');
  if (existsSync(layout.accesses)) {
    await backupSqlite(layout.accesses, join(files, basename(layout.accesses)));
    covered.push(basename(layout.accesses));
  }
  covered.push(...copyEndOfJournal(layout, files));
  for (const part of [...parts, ...namedFiles(config, layout, notCovered)]) {
    const from = join(layout.folder, part);
    if (!existsSync(from)) continue;
    mkdirSync(dirname(join(files, part)), { recursive: true, mode: 0o700 });
    // What a link names is what a restore requires.
    cpSync(from, join(files, part), {
      ...{ recursive: true, preserveTimestamps: true, force: true, dereference: true },
    });
    covered.push(part);
  }
  const verified = await signCopy(node, file, {
    checkpoints: join(files, 'audit', 'checkpoints.ndjson'),
    bar,
  });
  return { covered: [...new Set(covered)], notCovered, ...verified };
}

/**
 * Copies what the record may lack that was copied before: what was received meanwhile, also where a segment was closed in between. Gives
 * what it copied, relative to the data folder.
 */
function copyEndOfJournal({ folder, journal }: Layout, files: string): string[] {
  for (let copies = 0; copies < copiesMax; copies++) {
    const before = stateOfJournal(journal);
    const names = segmentsOf(journal)
      .slice(-2)
      .map(({ path }) => relative(folder, path));
    try {
      for (const name of names) {
        mkdirSync(dirname(join(files, name)), { recursive: true, mode: 0o700 });
        cpSync(join(folder, name), join(files, name), { preserveTimestamps: true, dereference: true });
      }
      // Closed meanwhile, the segment would be copied under the name of another, or not at all.
      if (stateOfJournal(journal) === before) return names;
    } catch (error) {
      // A segment was compressed while it was copied.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new PkiError('record-unavailable', `${journal} changes all the time; try again`);
}

const stateOfJournal = (journal: string): string => JSON.stringify(segmentsOf(journal));

/** SoftHSM's tokens, where SoftHSM keeps them in the data folder. */
function hasOwnTokens({ softhsm }: Layout): boolean {
  const tokens = join(softhsm, 'tokens');
  return existsSync(tokens) && readdirSync(tokens).length > 0;
}

/** How often a folder is copied again that changed meanwhile. */
const copiesMax = 20;

/** Copies a folder whose files are replaced now and then, as of one moment. */
function copySteadily(from: string, to: string): void {
  for (let copies = 0; copies < copiesMax; copies++) {
    const before = stateOf(from);
    try {
      cpSync(from, to, { recursive: true, force: true, dereference: true });
    } catch (error) {
      // A file was replaced while it was copied.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      continue;
    }
    if (stateOf(from) === before) return;
  }
  throw new PkiError('record-unavailable', `${from} changes all the time; try again`);
}

function stateOf(folder: string): string {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
  return names
    .map((name) => {
      const stat = lstatSync(join(folder, name), { throwIfNoEntry: false });
      return `${name} ${stat?.isFile() ? `${stat.ino} ${stat.mtimeMs} ${stat.size}` : ''}`;
    })
    .join('\n');
}

/** Files that the configuration names: those in the data folder are copied, all others are for the operator to copy. */
function namedFiles(config: Config, { folder }: Layout, notCovered: string[]): string[] {
  const { notices, evidence, issuing, ocsp, crl, pkcs11 } = config;
  const tokens = [pkcs11.caToken, pkcs11.ocspToken, ...pkcs11.caToken.copies];
  const named = [
    ...tlsFilesOf(ocsp.verifiers),
    ...tlsFilesOf(crl.verifiers),
    ...[
      ...[notices.ca, notices.clientKey, notices.clientCert, notices.mail?.passwordFile],
      ...[evidence.ca, evidence.clientKey, evidence.clientCert],
      evidence.keyAttestation.revocationList,
    ].filter((name) => name !== undefined),
    ...evidence.keyAttestation.roots,
    ...evidence.secureElementStatement.signers,
    ...issuing.debianBlocklists,
    ...tokens.map(({ pinFile }) => pinFile),
  ];
  const inside: string[] = [];
  for (const name of named) {
    const path = relative(folder, resolve(folder, name));
    if (!path.startsWith('..') && path !== '') inside.push(path);
    else
      notCovered.push(
        `${resolve(folder, name)}: the configuration names it, and it is not in the data folder`,
      );
  }
  for (const token of tokens)
    if (token.pinEnvironment !== undefined || token.pinCredential !== undefined)
      notCovered.push(`the PIN of token ${token.label}: it is not in a file`);
  return inside;
}

/** Puts what lies next to a backup into an empty data folder; whether it did. */
export function placeFiles(backup: string, { folder, ceremony }: Layout): boolean {
  const files = filesOf(backup);
  if (existsSync(ceremony)) return false;
  if (!existsSync(files) || !statSync(files).isDirectory())
    throw new PkiError(
      'bad-request',
      `${folder} is no data folder, and ${files}, which would make it one, is not there`,
    );
  const names = readdirSync(files);
  const present = names.find((name) => existsSync(join(folder, name)));
  if (present !== undefined)
    throw new PkiError('bad-request', `${join(folder, present)} exists, and nothing is overwritten`);
  for (const name of names)
    cpSync(join(files, name), join(folder, name), {
      recursive: true,
      preserveTimestamps: true,
      force: false,
    });
  return true;
}
