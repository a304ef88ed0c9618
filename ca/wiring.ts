import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type SuiteName, suites } from '../core/algorithms.ts';
import type { Clock } from '../core/clock.ts';
import { type Config, readConfig } from '../core/config.ts';
import { PkiError } from '../core/errors.ts';
import type { DigestSigner, SigningPurpose } from '../core/signer.ts';
import { ModuleGate } from '../hsm/module-gate.ts';
import { SigningPool } from '../hsm/signing-pool.ts';
import { useSoftHsmFolder } from '../hsm/softhsm.ts';
import { findModule, healTokens, initializeToken, loadModule, readPin, Token } from '../hsm/token.ts';
import {
  incarnationMemory,
  incarnationOf,
  openRecord,
  recordedAuthorities,
  refuseOlderRecord,
} from '../store/administration.ts';
import { RecordStore } from '../store/certificate-store.ts';
import { RecordFeed } from '../store/event-feed.ts';
import type { RecordDatabase } from '../store/record.ts';
import { openSqlite } from '../store/sqlite.ts';
import { Authorities, Authority } from './authority.ts';
import type { CertificateAuthority } from './issue.ts';
import { certifyResponder } from './own-certificates.ts';
import { checkPolicy } from './policy.ts';
import { RequestChecker } from './request-checker.ts';
import { Sealer } from './sealer.ts';

/** What lies where in a data folder. */
export const layout = (folder: string) => ({
  folder,
  config: join(folder, 'warifu.json'),
  record: join(folder, 'record.db'),
  softhsm: join(folder, 'softhsm'),
  tls: join(folder, 'tls'),
  operationsCa: join(folder, 'tls', 'operations-ca.pem'),
  clients: join(folder, 'clients'),
  ocsp: join(folder, 'ocsp'),
  responders: join(folder, 'ocsp', 'responders.json'),
  journal: join(folder, 'ocsp', 'journal.ndjson'),
  crl: join(folder, 'crl'),
  published: join(folder, 'published'),
  example: join(folder, 'example'),
  ceremony: join(folder, 'ceremony.json'),
  signedLog: join(folder, 'signed.log'),
  checkpoints: join(folder, 'audit', 'checkpoints.ndjson'),
  pin: (file: string) => join(folder, file),
});

export type Layout = ReturnType<typeof layout>;

/** Labels of the keys that are not named after an authority. */
export const keyLabel = { operations: 'operations-1', wrapping: 'record-1', audit: 'audit-1' } as const;
export const operationsSuite: SuiteName = 'p256-sha256';
export const auditSuite: SuiteName = 'p256-sha256';

/** Tokens, signing threads and record of one data folder. */
export interface Node {
  readonly layout: Layout;
  readonly config: Config;
  readonly clock: Clock;
  readonly caToken: Token;
  readonly ocspToken: Token;
  readonly pool: SigningPool;
  readonly database: RecordDatabase;
  readonly feed: RecordFeed;
  readonly store: RecordStore;
  readonly sealer: Sealer;
  close(): Promise<void>;
}

/** A data folder's configuration, module and tokens. */
export interface Tokens {
  readonly config: Config;
  readonly modulePath: string;
  readonly caToken: Token;
  readonly ocspToken: Token;
  heal(): void;
  close(): void;
}

/** Logs in to the tokens of a data folder; with `create`, makes them first. */
export function openTokens(paths: Layout, mode: 'create' | 'open'): Tokens {
  const config = readConfig(paths.config);
  checkPolicy(config.policy);
  useSoftHsmFolder(paths.softhsm);
  const modulePath = findModule(config.pkcs11.module);
  const module = loadModule(modulePath);
  const open = ({ label, pinFile }: Config['pkcs11']['caToken']): Token => {
    const pin = readPin(paths.pin(pinFile));
    if (mode === 'create') initializeToken(module, label, pin);
    return Token.open(module, label, pin);
  };
  const caToken = open(config.pkcs11.caToken);
  const ocspToken = open(config.pkcs11.ocspToken);
  const close = (): void => {
    caToken.close();
    ocspToken.close();
  };
  const heal = (): void => healTokens(module, [caToken, ocspToken]);
  return { config, modulePath, caToken, ocspToken, heal, close };
}

/** Opens what a data folder holds; with `create`, makes the tokens and the record first. */
export async function openNode(options: {
  readonly folder: string;
  readonly clock: Clock;
  readonly mode: 'create' | 'open';
}): Promise<Node> {
  const { clock, mode } = options;
  const paths = layout(options.folder);
  mkdirSync(options.folder, { recursive: true, mode: 0o700 });
  // On this thread and before any worker: threads that race the first login break each other.
  const tokens = openTokens(paths, mode);
  const { config, modulePath, caToken, ocspToken } = tokens;
  const pool = new SigningPool({
    module: modulePath,
    threads: config.pkcs11.signingThreads,
    gate: new ModuleGate(tokens.heal, clock),
    copyKeys: config.pkcs11.copyKeys ?? null,
    log: config.pkcs11.signedLog ? paths.signedLog : null,
  });
  if (mode === 'create') caToken.generateWrappingKey(keyLabel.wrapping);
  const keyWrapper = caToken.keyWrapper(keyLabel.wrapping);
  const database = openSqlite({ file: paths.record, writer: config.node, clock });
  await openRecord(database, nodeActor(config));
  const memory = caToken.memory();
  if (mode === 'create') await memory.remember(incarnationMemory(await incarnationOf(database)), 1);
  const feed = new RecordFeed({ database, keyWrapper, clock });
  const store = new RecordStore({ database, feed, tokenMemory: memory, clock });
  const sealer = new Sealer(store, keyWrapper);
  const close = async (): Promise<void> => {
    await database.close();
    await pool.close();
    tokens.close();
  };
  try {
    if (mode === 'open') await refuseOlderRecord(database, memory);
  } catch (error) {
    await close();
    throw error;
  }
  return { layout: paths, config, clock, caToken, ocspToken, pool, database, feed, store, sealer, close };
}

export const nodeActor = (config: Config) => ({ client: `node:${config.node}`, role: 'node', requestId: '' });

/** A signer for one key of one token, bound to a purpose. */
export function signerFor<Purpose extends SigningPurpose>(
  node: Pick<Node, 'pool'>,
  token: Token,
  label: string,
  suite: SuiteName,
  purpose: Purpose,
): DigestSigner<Purpose> {
  const key = token.findKeyPair(label, suites[suite]);
  return node.pool.signer({ purpose, suite: suites[suite], tokenLabel: token.label, key });
}

/** Every authority on record of an opened node. */
export async function openAuthorities(node: Node): Promise<Authorities> {
  const { store, config } = node;
  const recorded = await recordedAuthorities(node.database);
  const all = await Promise.all(
    recorded.map(({ authority: name, slot, generation, suite, certificate }) => {
      const signer = signerFor(node, node.caToken, name, suite as SuiteName, 'certificate');
      return new Authority({ name, slot, generation, certificate, signer, store, config }).load();
    }),
  );
  return new Authorities(all);
}

/** The CA of an opened node, ready to serve. Its `requestChecker` is to be closed. */
export async function openCertificateAuthority(node: Node): Promise<CertificateAuthority> {
  const { store, sealer, config, clock } = node;
  const authorities = await openAuthorities(node);
  const { checkThreads, debianBlocklists } = config.issuing;
  const requestChecker = new RequestChecker({
    threads: checkThreads,
    debianBlocklists: debianBlocklists.map((file) => resolve(node.layout.folder, file)),
  });
  const checkHealth = async (): Promise<void> => {
    // The record read and written, and an operation of each token.
    try {
      for (const { name } of authorities.all) await node.feed.epochKey(name, 1);
      await node.ocspToken.memory().recall('probe');
      await node.database.probe();
    } catch (error) {
      if (error instanceof PkiError && error.code === 'token-unavailable') await node.pool.gate.heal();
      throw error;
    }
  };
  const signerOf = (name: string) => authorities.byName(name).signer;
  const certify: CertificateAuthority['certifyResponder'] = async (name, publicKey, by) => {
    await certifyResponder(node, authorities.byName(name), publicKey, by);
  };
  return {
    authorities,
    signerOf,
    requestChecker,
    store,
    sealer,
    config,
    clock,
    checkHealth,
    certifyResponder: certify,
  };
}
