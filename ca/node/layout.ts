import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { SuiteName } from '../../core/asn1/algorithms.ts';

/** What lies where in a data folder. */
export const layout = (folder: string) => ({
  folder,
  config: join(folder, 'warifu.json'),
  record: join(folder, 'record.db'),
  softhsm: join(folder, 'softhsm'),
  logins: join(folder, 'logins'),
  /** What a signer keeps that is a process of its own. */
  signer: join(folder, 'signer'),
  tls: join(folder, 'tls'),
  operationsCa: join(folder, 'tls', 'operations-ca.pem'),
  clients: join(folder, 'clients'),
  ocsp: join(folder, 'ocsp'),
  responders: join(folder, 'ocsp', 'responders.json'),
  journal: join(folder, 'ocsp', 'journal.ndjson'),
  indexSnapshot: join(folder, 'ocsp', 'index.snapshot'),
  crl: join(folder, 'crl'),
  published: join(folder, 'published'),
  example: join(folder, 'example'),
  ceremony: join(folder, 'ceremony.json'),
  /** What a node was made with that has joined others. */
  joined: join(folder, 'joined.json'),
  outboxKey: join(folder, 'outbox.pem'),
  /** What a restore adopted, one certificate a line. */
  adopted: join(folder, 'adopted.ndjson'),
  signedLog: join(folder, 'signed.log'),
  /** Plans that wait for two persons' signatures, and acts that are put on record at the next start. */
  plans: join(folder, 'plans'),
  consoleActs: join(folder, 'console-acts.ndjson'),
  /** Followers elsewhere that may answer. */
  followers: join(folder, 'followers.json'),
  /** Who looked holders up. */
  accesses: join(folder, 'accesses.db'),
  checkpoints: join(folder, 'audit', 'checkpoints.ndjson'),
  /** Unfinished passes: of the service, and of `audit verify`. */
  watchPass: join(folder, 'audit', 'watch.pass'),
  verifyPass: join(folder, 'audit', 'verify.pass'),
  /** Where a backup of the service is made, before it is encrypted. */
  backupWork: join(folder, 'backup.work'),
  /** Asks the service for a backup now. */
  backupRequest: join(folder, 'backup.request'),
  pin: (file: string) => join(folder, file),
});

export type Layout = ReturnType<typeof layout>;

/** Whether a folder is one of a node: by a ceremony, or because it has joined others. */
export const isMade = ({ ceremony, joined }: Layout): boolean => existsSync(ceremony) || existsSync(joined);

/** Labels of the keys that are not named after an authority. */
export const keyLabel = {
  operations: 'operations-1',
  wrapping: 'record-1',
  audit: 'audit-1',
  outbox: 'outbox-1',
} as const;
export const operationsSuite: SuiteName = 'p256-sha256';
export const outboxSuite: SuiteName = 'p256-sha256';
