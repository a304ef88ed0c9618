import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import { suites } from '../core/algorithms.ts';
import type { Clock } from '../core/clock.ts';
import { durationMs } from '../core/config.ts';
import { invariant } from '../core/errors.ts';
import { makeRegistry, serveMetrics } from '../core/metrics.ts';
import { repeat } from '../core/process.ts';
import { configuredResponders } from '../core/responder-file.ts';
import type { DigestSigner } from '../core/signer.ts';
import { startCrl } from '../crl/main.ts';
import { refusedPins } from '../hsm/login-guard.ts';
import { signingMetrics } from '../hsm/metrics.ts';
import { startOcsp } from '../ocsp/main.ts';
import type { ThreadKey } from '../ocsp/thread-messages.ts';
import { rememberHead } from '../store/administration.ts';
import { buildApi } from './api/server.ts';
import { performCeremony } from './ceremony.ts';
import { Delivery } from './delivery.ts';
import { type CertificateAuthority, endOverlaps } from './issue.ts';
import { auditSigner, signCheckpoint } from './maintenance.ts';
import { MassActs } from './mass-acts.ts';
import { ensureServerLeaf, type OperationsAuthority } from './operations.ts';
import { Outbox } from './outbox.ts';
import { renewResponders } from './own-certificates.ts';
import { checkPending } from './policy-check.ts';
import { Recovery } from './recovery.ts';
import {
  keyLabel,
  layout,
  type Node,
  openCertificateAuthority,
  openServiceNode,
  operationsSuite,
  outboxSuite,
  signerFor,
} from './wiring.ts';

/** How often the feed's watermark moves on while nothing happens. */
const heartbeatMs = 1000;
/** How often the token is told how far events go. */
const rememberMs = 5000;
/** How often it is looked up whose overlap with a successor has passed. */
const overlapMs = 5000;
/** How often certificates of our own are looked over for their age. */
const renewalMs = 3_600_000;

export interface Service {
  readonly addresses: { readonly api: string; readonly ocsp: string; readonly crl: string };
  readonly ca: CertificateAuthority;
  /** Stops accepting, finishes what has begun, closes everything. */
  close(): Promise<void>;
}

/** The whole service in one process: CA API, OCSP responder, CRL publisher. The first start is a ceremony. */
export async function startService(options: {
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
}): Promise<Service> {
  const { folder, clock, logger } = options;
  if (!existsSync(layout(folder).ceremony)) {
    logger.info({ folder }, 'performing the ceremony');
    await performCeremony({ folder, clock });
  }
  const ended = (what: { why: string }): void => logger.error(what, 'a signing process ended');
  const node = await openServiceNode({ folder, clock, ended });
  try {
    return await serve(node, options);
  } catch (error) {
    await node.close();
    throw error;
  }
}

/** Everything on an opened node. */
async function serve(
  node: Node,
  { folder, clock, logger }: Parameters<typeof startService>[0],
): Promise<Service> {
  const ca = await openCertificateAuthority(node);
  checkPending(node.config.policy, await ca.store.pendingEvents());
  const recovery = new Recovery(ca, logger);
  await recovery.start();
  await renewResponders(node, ca.authorities.all);
  const { feed, config } = node;
  const ocsp = await startOcsp({
    folder: node.layout.ocsp,
    dataFolder: folder,
    config: config.ocsp,
    pkcs11: config.pkcs11,
    gate: node.gate,
    keys: responderKeys(node),
    feed,
    clock,
    logger,
  });
  const crlSigners = new Map<string, DigestSigner<'crl'>>();
  for (const { name, signer } of ca.authorities.all)
    crlSigners.set(name, await signerFor(node, name, signer.suite.name, 'crl'));
  const registry = makeRegistry();
  signingMetrics(registry, node.pool, node.restarts);
  const crl = await startCrl({
    config: config.crl,
    feed,
    signerOf: (name) => crlSigner(crlSigners, name),
    folder: node.layout.crl,
    published: node.layout.published,
    clock,
    logger,
    registry,
  });
  const metrics = config.metrics && (await serveMetrics(registry, config.metrics));
  const tls = async () =>
    ensureServerLeaf(await openOperations(node), { folder: node.layout.tls, host: config.api.host });
  const api = await buildApi({ ca, tls: { ...(await tls()), ca: operationsCa(node) }, logger });
  const address = await api.listen({ host: config.api.host, port: config.api.port });
  const every = (ms: number, what: string, act: () => Promise<void>) => repeat(ms, act, logger, what);
  const audit = await auditSigner(node);
  const checkpoint = async (): Promise<void> => {
    logger.info({ checkpoint: await signCheckpoint(node, audit) }, 'audit checkpoint');
  };
  const massActs = new MassActs(ca.operations, logger);
  const outbox = await openOutbox(node, ca, logger);
  const refused = new Set<string>();
  const alarmOfPins = async (): Promise<void> => {
    const now = refusedPins(node.layout.logins);
    for (const token of now) {
      if (refused.has(token)) continue;
      const note = 'put the right PIN in place, then remove the note';
      logger.error(
        { token, notes: node.layout.logins, note },
        'ALARM: a token refused its PIN, and is not asked again',
      );
    }
    refused.clear();
    for (const token of now) refused.add(token);
  };
  const timers = [
    every(heartbeatMs, 'the notes of refused PINs cannot be read', alarmOfPins),
    every(heartbeatMs, 'the feed cannot be delivered', () => feed.deliver()),
    every(rememberMs, 'the token cannot remember', () => rememberHead(node.database, node.caToken.memory())),
    every(overlapMs, 'what was renewed cannot be ended', () => endOverlaps(ca)),
    every(durationMs(config.audit.checkpointEvery), 'the audit chain cannot be signed', checkpoint),
    // Each by itself, so that one that cannot be renewed does not keep the others from it.
    ...ca.authorities.all.map((authority) =>
      every(renewalMs, `responders of ${authority.name} cannot be renewed`, async () => {
        if (await renewResponders(node, [authority])) await ocsp.setKeys(responderKeys(node));
      }),
    ),
    every(renewalMs, 'the API’s TLS certificate cannot be renewed', async () => {
      (api.server as unknown as { setSecureContext(leaf: object): void }).setSecureContext({
        ...(await tls()),
        ca: operationsCa(node),
      });
    }),
  ];
  return {
    ca,
    addresses: { api: address, ocsp: ocsp.address, crl: crl.address },
    close: async () => {
      await api.close();
      await ca.requestChecker.close();
      await ca.evidence.close();
      for (const stop of timers) await stop();
      await massActs.stop();
      await outbox.stop();
      await recovery.stop();
      await ocsp.close();
      await crl.close();
      await metrics?.close();
      await rememberHead(node.database, node.caToken.memory());
      await checkpoint();
      await node.close();
    },
  };
}

async function openOutbox(node: Node, ca: CertificateAuthority, logger: Logger): Promise<Outbox> {
  const signer = await signerFor(node, keyLabel.outbox, outboxSuite, 'message');
  const { config, clock, sealer } = ca;
  const { folder } = node.layout;
  const delivery = new Delivery({
    config,
    folder,
    authorities: ca.authorities,
    store: ca.outbox,
    sealer,
    signer,
    clock,
  });
  return new Outbox({ store: ca.outbox, delivery, config: config.notices, clock, logger });
}

function crlSigner(
  signers: ReadonlyMap<string, DigestSigner<'crl'>>,
  authority: string,
): DigestSigner<'crl'> {
  const signer = signers.get(authority);
  invariant(signer, `${authority} signs CRLs`);
  return signer;
}

const operationsCa = (node: Node): string => readFileSync(node.layout.operationsCa, 'utf8');

export async function openOperations(node: Node): Promise<OperationsAuthority> {
  const signer = await signerFor(node, keyLabel.operations, operationsSuite, 'certificate');
  const certificate = new X509Certificate(operationsCa(node)).raw;
  return { signer, certificate, clock: node.clock, config: node.config };
}

/** Delegations on disk, with what threads need to use them. */
function responderKeys(node: Node): ThreadKey[] {
  const { responders } = node.layout;
  const rows = configuredResponders(responders, node.config.ocsp.responderSuites);
  return rows.map(({ authority, keyLabel: label, suite, certificate }) => ({
    authority,
    certificate: Buffer.from(certificate, 'base64'),
    key: node.pool.keySpec(node.ocspToken.label, label, suites[suite]),
    publicKey: node.ocspToken.findKeyPair(label, suites[suite]).publicKey,
  }));
}
