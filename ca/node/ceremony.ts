import { randomBytes, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type SuiteName, suites } from '../../core/asn1/algorithms.ts';
import { encodeName } from '../../core/asn1/name.ts';
import { durationMs } from '../../core/config/duration.ts';
import { SerialCipher } from '../../core/crypto/serial.ts';
import type { Signer } from '../../core/crypto/signer.ts';
import { authorityName, type Slot, slots } from '../../core/model/kinds.ts';
import { readResponders } from '../../core/node/responder-file.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { isLockFile, lockData } from '../../core/runtime/data-lock.ts';
import { createDurably } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Token } from '../../hsm/pkcs11/token.ts';
import { auditSuite } from '../../store/audit/checkpoints.ts';
import { epochContext } from '../../store/feed/event-feed.ts';
import { openEpoch, recordAuthority } from '../../store/rules/ceremony-rules.ts';
import { allowFirstConfiguration } from '../../store/rules/configuration-rules.ts';
import { recordFirstClient } from '../../store/rules/console-rules.ts';
import { founderRole } from '../../store/rules/operators.ts';
import { pem } from '../api/present.ts';
import { type Config, readConfig, readGiven } from '../config/config.ts';
import { meaningOf } from '../config/meaning.ts';
import { authorityAltName, authorityAttributes, authorityShard, backdated } from '../issue/authority.ts';
import { rollForward } from '../issue.ts';
import type { CertificateFields, IssuerContext } from '../profile/certificate.ts';
import { keyLabel, layout, operationsSuite, outboxSuite } from './layout.ts';
import { nodeActor, type OperatorNode } from './node.ts';
import { ensureServerLeaf, issueOperationsAuthority, issueTlsLeaf } from './operations.ts';
import { issueOwn, issueResponder, responderSuites } from './own-certificates.ts';
import { refuseUnfit } from './production.ts';
import { refuseUsedDatabase } from './record-place.ts';
import { openAuthorities, openNode, signerFor } from './wiring.ts';

/** Of generation 1. Later generations are added by a ceremony of their own. */
const firstSuite: SuiteName = 'rsa2048-sha256';

/** The written record of a ceremony: what was made, when, and by which fingerprints to know it again. */
export interface CeremonyRecord {
  readonly performedAt: string;
  readonly module: string;
  readonly tokens: readonly { readonly label: string; readonly keys: readonly CeremonyKey[] }[];
  readonly certificates: readonly {
    readonly name: string;
    readonly notAfter: string;
    readonly sha256: string;
  }[];
}

interface CeremonyKey {
  readonly label: string;
  readonly suite: SuiteName;
  readonly extractable: boolean;
  readonly publicKeySha256: string;
}

/**
 * Makes a data folder: tokens and their PINs, the two CAs, a delegated OCSP responder for each, the operations
 * CA, the API's TLS key, a first client, and the written record of it all, last.
 * Throws `bad-request` where the folder holds anything but a configuration.
 */
export async function performCeremony(options: {
  readonly folder: string;
  readonly clock: Clock;
}): Promise<void> {
  const paths = layout(options.folder);
  await refuseCeremony(options.folder);
  // The owner's lock is taken by the caller, who may be the service.
  const lock = lockData(options.folder, ['operator'], 'a ceremony');
  using taken = new DisposableStack();
  taken.defer(() => lock.release());
  const config = readConfig(paths.config);
  refuseUnfit(paths, config);
  writePins(options.folder, config);
  const node = await openNode({ ...options, mode: 'create' });
  try {
    await allowFirstConfiguration(node.database, nodeActor(node.config), meaningOf(readGiven(paths.config)));
    for (const slot of slots) await createAuthority(node, slot, 1, firstSuite);
    const authorities = await openAuthorities(node);
    for (const authority of authorities.all) {
      for (const suite of responderSuites(node.config, authority))
        await issueResponder(node, authority, suite);
    }
    const certificates = authorities.all.map(({ name, certificate }) => ({ name, certificate }));
    certificates.push(...(await createOperations(node)));
    for (const { authority, suite, certificate } of readResponders(paths.responders)) {
      certificates.push({
        name: `ocsp-${authority}-${suite}`,
        certificate: Buffer.from(certificate, 'base64'),
      });
    }
    writeRecord(node, certificates);
  } finally {
    await node.close();
  }
}

/** Refuses a ceremony before anything is made: where the record has had one, and in a folder that holds something. */
export async function refuseCeremony(folder: string): Promise<void> {
  const paths = layout(folder);
  await refuseUsedDatabase(readConfig(paths.config), paths);
  const found = existsSync(folder)
    ? readdirSync(folder).filter(
        (name) => name !== 'warifu.json' && !isLockFile(name) && !namedIn(paths.config).includes(name),
      )
    : [];
  if (found.length > 0)
    throw new PkiError(
      'bad-request',
      `${folder} holds ${found.join(', ')}: a ceremony wants a folder that is empty but for warifu.json and the files that it names. What a ceremony that was interrupted has left is to be removed; tokens that a CA uses are not`,
    );
}

/** Files and folders of the data folder that a configuration names, by default or not. */
function namedIn(config: string): string[] {
  const texts =
    JSON.stringify([readGiven(config), readConfig(config).record]).match(/"(?:[^"\\]|\\.)*"/g) ?? [];
  return texts.map((text) => (JSON.parse(text) as string).replace(/^\.\//, '').split('/')[0] ?? '');
}

function writePins(folder: string, { pkcs11 }: Config): void {
  for (const { pinFile } of [pkcs11.caToken, pkcs11.ocspToken]) {
    const file = join(folder, pinFile);
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    createDurably(file, `${randomBytes(16).toString('hex')}\n`);
  }
}

/**
 * One more generation: a key in the CA token, its first epoch, and its self-signed certificate. Done again after it
 * was interrupted, it goes on from where it was.
 */
export async function createAuthority(
  node: OperatorNode,
  slot: Slot,
  generation: number,
  suite: SuiteName,
): Promise<void> {
  const { config, clock } = node;
  const name = authorityName(slot, generation);
  const actor = nodeActor(config);
  if (!node.ownToken.hasKeyPair(name)) node.ownToken.generateKeyPair(name, suites[suite]);
  const wrapper = node.caToken.keyWrapper(keyLabel.wrapping);
  if ((await node.store.epochs(name)).length === 0) {
    const wrappedKey = await wrapper.wrap(epochContext(name, 1), randomBytes(16));
    await openEpoch(node.database, actor, { authority: name, epoch: 1, wrappedKey, nowMs: clock.wallMs() });
  }
  const certificate = await issueAuthority(node, slot, generation, suite);
  const createdMs = clock.wallMs();
  await recordAuthority(node.database, actor, {
    authority: name,
    slot,
    generation,
    suite,
    certificate,
    createdMs,
  });
}

/** Certifies a CA's key with itself. */
async function issueAuthority(
  node: OperatorNode,
  slot: Slot,
  generation: number,
  suite: SuiteName,
): Promise<Bytes> {
  const { config, clock, store } = node;
  const name = authorityName(slot, generation);
  const signer = await signerFor(node, name, suite, 'certificate');
  const begun = await unfinishedAuthority(node, name, signer);
  if (begun) return begun;
  const { epoch, first: position } = await store.leasePositions(name, 1);
  const cipher = new SerialCipher(epoch, await node.feed.epochKey(name, epoch));
  const shard = authorityShard(config, slot, generation, name);
  const subject = encodeName(authorityAttributes(config.scheme, slot));
  const nowMs = clock.wallMs();
  const fields: CertificateFields = {
    serial: cipher.encrypt(position),
    notBeforeMs: backdated(nowMs, config),
    notAfterMs: endOfLife(nowMs, config),
    subject,
    publicKey: signer.publicKey,
    subjectAltName: authorityAltName(config, slot),
    distributionPointName: shard.distributionPointName,
  };
  const issuer: IssuerContext = {
    suite: suites[suite],
    issuer: subject,
    reference: null,
    issuerAltName: null,
    policy: null,
    ocspUri: null,
    caIssuersUri: null,
  };
  const key = { authority: name, epoch, position };
  return issueOwn(node, {
    key,
    kind: 'authority',
    shard,
    issuer,
    fields,
    signer,
    responsibility: null,
    by: null,
  });
}

/** The certificate of a ceremony that was interrupted: signed from the bytes on record where it was only reserved. */
async function unfinishedAuthority(
  node: OperatorNode,
  name: string,
  signer: Signer<'certificate'>,
): Promise<Bytes | undefined> {
  const { store, encodings } = node;
  const pending = await store.pendingReservations('own-and-expired');
  const reservations = await Promise.all(pending.map((id) => store.reservation(id)));
  const own = reservations.find(({ certificates }) => certificates[0]?.authority === name);
  if (own) await rollForward({ ...node, signerOf: () => signer }, own);
  const key = { authority: name, epoch: 1, position: 0 };
  const sealed = await store.encoding(key);
  return sealed && encodings.certificate(key, sealed, signer.suite);
}

function endOfLife(fromMs: number, { caValidityYears }: Config): number {
  const end = new Date(fromMs);
  end.setUTCFullYear(end.getUTCFullYear() + caValidityYears);
  return Math.floor(end.getTime() / 1000) * 1000 - 1000;
}

/** What a ceremony's first client may do: everything, or enrol those who may. */
const firstRoles = {
  development: ['administrator', 'issuer', 'revoker', 'reader', 'identity-reader'],
  production: [founderRole],
} as const;

async function createOperations(node: OperatorNode): Promise<{ name: string; certificate: Bytes }[]> {
  const { config, clock, layout: paths } = node;
  node.ownToken.generateKeyPair(keyLabel.operations, suites[operationsSuite]);
  node.ownToken.generateKeyPair(keyLabel.audit, suites[auditSuite]);
  const { publicKey } = node.ownToken.generateKeyPair(keyLabel.outbox, suites[outboxSuite]);
  writeFileSync(paths.outboxKey, pem(publicKey, 'PUBLIC KEY'));
  const signer = await signerFor(node, keyLabel.operations, operationsSuite, 'certificate');
  const record = node.clients;
  const certificate = await issueOperationsAuthority({ signer, record, clock, config });
  mkdirSync(paths.tls, { recursive: true, mode: 0o700 });
  writeFileSync(paths.operationsCa, pem(certificate));
  const operations = { signer, certificate, record, clock, config };
  const server = await ensureServerLeaf(operations, { folder: paths.tls, config });
  const first = await issueTlsLeaf(operations, {
    kind: 'tls-client',
    commonName: 'first client',
    subjectAltName: null,
    folder: paths.clients,
    name: 'first',
    replaces: false,
  });
  const at = { nowMs: clock.wallMs(), bindingMs: durationMs(config.limits.clientBinding) };
  const bound = {
    fingerprint: fingerprintOf(first.cert),
    name: 'first client',
    kind: 'person',
    roles: firstRoles[config.mode],
  } as const;
  await recordFirstClient(node.database, nodeActor(config), bound, at);
  return [
    { name: 'operations-ca', certificate },
    { name: 'tls-server', certificate: new X509Certificate(server.cert).raw },
    { name: 'first-client', certificate: new X509Certificate(first.cert).raw },
  ];
}

/** SHA-256 of a certificate, hex, as the record names clients. */
export function fingerprintOf(certificatePem: string): string {
  return hex(digest('sha256', new X509Certificate(certificatePem).raw));
}

function writeRecord(
  node: OperatorNode,
  certificates: readonly { name: string; certificate: Bytes }[],
): void {
  const describe = (token: Token, label: string, name: SuiteName): CeremonyKey => ({
    label,
    suite: name,
    extractable: token.isExtractable(label),
    publicKeySha256: hex(digest('sha256', token.findKeyPair(label, suites[name]).publicKey)),
  });
  const caKeys = slots.map((slot) => describe(node.ownToken, authorityName(slot, 1), firstSuite));
  caKeys.push(describe(node.ownToken, keyLabel.operations, operationsSuite));
  caKeys.push(describe(node.ownToken, keyLabel.audit, auditSuite));
  caKeys.push(describe(node.ownToken, keyLabel.outbox, outboxSuite));
  const ocspKeys = readResponders(node.layout.responders).map(({ keyLabel: label, suite }) =>
    describe(node.ocspToken, label, suite),
  );
  const record: CeremonyRecord = {
    performedAt: new Date(node.clock.wallMs()).toISOString(),
    module: node.config.pkcs11.module ?? 'default',
    tokens: [
      { label: node.caToken.label, keys: caKeys },
      { label: node.ocspToken.label, keys: ocspKeys },
    ],
    certificates: certificates.map(({ name, certificate }) => ({
      name,
      notAfter: new Date(new X509Certificate(certificate).validTo).toISOString(),
      sha256: hex(digest('sha256', certificate)),
    })),
  };
  createDurably(node.layout.ceremony, `${JSON.stringify(record, null, 2)}\n`);
}
