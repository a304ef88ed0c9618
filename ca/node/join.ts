import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { resolve } from 'node:path';
import { suites } from '../../core/asn1/algorithms.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { lockData } from '../../core/runtime/data-lock.ts';
import { replaceDurably, syncFolder } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { operationsAuthority } from '../../store/rules/client-store.ts';
import { pem } from '../api/present.ts';
import { type Config, readConfig } from '../config/config.ts';
import { PreparedCertificate } from '../issue/prepared.ts';
import { keyLabel, type Layout, layout, operationsSuite, outboxSuite } from './layout.ts';
import { refuseOtherMeaning } from './mode.ts';
import type { OperatorNode } from './node.ts';
import { renewResponders } from './own-certificates.ts';
import { refuseUnfit } from './production.ts';
import { postgresOf } from './record-place.ts';
import { openAuthorities, openNode, signerFor } from './wiring.ts';

// A second node of a running service. The configuration names the record and the tokens, and the PINs are in place: from there comes all that a
// ceremony would have made. What the node has for itself are OCSP responders and the certificate of its API.

const joining = (paths: Layout): string => `${paths.joined}.begun`;

/** Makes a data folder one of a further node. Gives what was made, by line. */
export async function joinService(data: string): Promise<readonly string[]> {
  const paths = layout(resolve(data));
  if (!existsSync(paths.folder))
    throw new PkiError(
      'bad-request',
      `there is no data folder ${paths.folder}: make it, with warifu.json in it`,
    );
  using taken = new DisposableStack();
  const lock = lockData(paths.folder, ['owner', 'operator'], 'the command join');
  taken.defer(() => lock.release());
  for (const file of [paths.ceremony, paths.joined, paths.record])
    if (existsSync(file))
      throw new PkiError(
        'bad-request',
        `${file} exists: ${paths.folder} is that of a node already; join with a folder of its own`,
      );
  const config = readConfig(paths.config);
  refuseUnfit(paths, config);
  await refuseName(config, paths);
  replaceDurably(joining(paths), `${JSON.stringify({ node: config.node })}\n`);
  const node = await openNode({ folder: paths.folder, clock: systemClock, mode: 'open', isOwner: true });
  await using opened = new AsyncDisposableStack();
  opened.defer(() => node.close());
  await refuseOtherMeaning(node);
  await writeOperations(node);
  const { all } = await openAuthorities(node);
  await renewResponders(node, all);
  renameSync(joining(paths), paths.joined);
  syncFolder(paths.folder);
  return [
    `${paths.folder} is that of the node ${config.node}, with OCSP responders for ${all.map(({ name }) => name).join(', ')}`,
    `start it: npm start -- --data ${data}`,
  ];
}

/** Two nodes of one name would be one writer, whose chain and checkpoints are in the folder of the first. */
async function refuseName(config: Config, paths: Layout): Promise<void> {
  const server = postgresOf(config, paths);
  if (!server)
    throw new PkiError(
      'bad-request',
      `${paths.config} names no database: several nodes have their record in PostgreSQL ("record": {"postgres": …}, as the first node has it)`,
    );
  const { writersIn } = await import('../../store/postgres/postgres.ts');
  const writers = await writersIn(server);
  if (!writers)
    throw new PkiError(
      'bad-request',
      'the database holds no record: the first node performs a ceremony, or moves its record there (warifu migrate)',
    );
  if (!writers.includes(config.node) || existsSync(joining(paths))) return;
  throw new PkiError(
    'bad-request',
    `a node named ${config.node} has written this record: name this one otherwise ("node" in ${paths.config}); also where that one is gone for good`,
  );
}

/** The operations CA's certificate and the outbox's public key, as files: from the record and the token. */
async function writeOperations(node: OperatorNode): Promise<void> {
  const { layout: paths, database, caToken } = node;
  const recorded = await operationsAuthority(database);
  if (!recorded?.signature)
    throw new PkiError('record-unavailable', 'the record has no certificate of its operations CA');
  const signer = await signerFor(node, keyLabel.operations, operationsSuite, 'certificate');
  const certificate = PreparedCertificate.fromRecord(recorded.toBeSigned).with(signer, recorded.signature);
  mkdirSync(paths.tls, { recursive: true, mode: 0o700 });
  replaceDurably(paths.operationsCa, pem(certificate), 0o644);
  const { publicKey } = await caToken.findKeyPair(keyLabel.outbox, suites[outboxSuite]);
  replaceDurably(paths.outboxKey, pem(publicKey, 'PUBLIC KEY'), 0o644);
}
