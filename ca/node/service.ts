import { existsSync } from 'node:fs';
import type { Logger } from 'pino';
import { suites } from '../../core/asn1/algorithms.ts';
import { durationMs, readConfig } from '../../core/config/config.ts';
import { reloading, takeUp } from '../../core/config/reload.ts';
import { lastCursor } from '../../core/feed/feed-journal.ts';
import { listenError } from '../../core/http/listen.ts';
import { makeRegistry, serveMetrics } from '../../core/http/metrics.ts';
import { configuredResponders, readResponders } from '../../core/node/responder-file.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { lockData } from '../../core/runtime/data-lock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { repeat } from '../../core/runtime/process.ts';
import type { ClockNews } from '../../core/runtime/steady-clock.ts';
import { startCrl } from '../../crl/node/service.ts';
import { refusedPins } from '../../hsm/pkcs11/login-guard.ts';
import { signingMetrics } from '../../hsm/pool/metrics.ts';
import { type OcspService, startOcsp, tlsFilesOf } from '../../ocsp/node/service.ts';
import type { ThreadKey } from '../../ocsp/node/thread-messages.ts';
import { CheckpointSigner } from '../../store/audit/checkpoints.ts';
import {
  eventHead,
  incarnationOf,
  recordedAuthorities,
  rememberHead,
} from '../../store/rules/administration.ts';
import { unconfirmed } from '../../store/rules/client-store.ts';
import { certificatesToStore } from '../api/present.ts';
import { buildApi } from '../api/server.ts';
import { Recovery } from '../issue/recovery.ts';
import { type CertificateAuthority, endOverlaps, endShortened, endWaits } from '../issue.ts';
import { Delivery } from '../notify/delivery.ts';
import { Outbox } from '../notify/outbox.ts';
import { checkPending } from '../policy/policy-check.ts';
import { MassActs } from '../revoke/mass-acts.ts';
import { performCeremony } from './ceremony.ts';
import { auditSigner } from './maintenance.ts';
import { ensureServerLeaf } from './operations.ts';
import { endSuperseded, renewResponders } from './own-certificates.ts';
import { warningsOf } from './warnings.ts';
import {
  crlSignerFor,
  keyLabel,
  layout,
  type Node,
  openAuthority,
  openCertificateAuthority,
  openOperations,
  openServiceNode,
  operationsCa,
  outboxSuite,
  signerFor,
} from './wiring.ts';

/** How often the feed's watermark moves on while nothing happens. */
const heartbeatMs = 1000;
/** How often the token is told how far events go. */
const rememberMs = 5000;
/** How often it is looked up whose overlap with a successor has passed. */
const overlapMs = 5000;
/** How often it is written down when clients last acted. */
const usesMs = 60_000;
/** How often it is looked up what will hurt. */
const warnMs = 60_000;
/** How often responders are looked over: whether one is due, or was revoked. */
const lookOverMs = 2000;
/** When it is tried again to renew a responder that could not be. */
const retryMs = 600_000;
/** How often the TLS certificate is looked over. */
const renewalMs = 3_600_000;

export interface Service {
  readonly addresses: { readonly api: string; readonly ocsp: string; readonly crl: string };
  readonly ca: CertificateAuthority;
  /** Reads the configuration and TLS files again, takes up what is safe to, and says in the log what that was. */
  reload(): Promise<void>;
  /** Stops accepting, finishes what has begun, closes everything. */
  close(): Promise<void>;
}

/**
 * The whole service in one process: CA API, OCSP responder, CRL publisher. The first start is a ceremony. A start that fails
 * closes what it opened, and rejects; one that finds the data folder in use touches nothing.
 */
export async function startService(options: {
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
}): Promise<Service> {
  const { folder, clock, logger } = options;
  await using opened = new AsyncDisposableStack();
  const lock = lockData(folder, ['owner'], 'the service (start)');
  opened.defer(() => lock.release());
  if (!existsSync(layout(folder).ceremony)) {
    readConfig(layout(folder).config);
    logger.info({ folder }, 'performing the ceremony');
    await performCeremony({ folder, clock });
  }
  const ended = (what: { why: string }): void => logger.error(what, 'a signing process ended');
  const node = await openServiceNode({ folder, clock, ended });
  opened.defer(() => node.close());
  const service = await serve(node, options, opened);
  const all = opened.move();
  let closing: Promise<void> | undefined;
  return {
    ...service,
    close: () => {
      closing ??= all.disposeAsync();
      return closing;
    },
  };
}

/** Everything on an opened node. What is opened last is closed first; a step that fails keeps no other from its turn. */
async function serve(
  node: Node,
  { folder, logger }: Parameters<typeof startService>[0],
  opened: AsyncDisposableStack,
): Promise<Omit<Service, 'close'>> {
  const { feed, config, clock } = node;
  if (node.clockNews) tellOfClock(logger, node.clockNews);
  await refuseLostEvents(node);
  const checkpoints = new CheckpointSigner({
    database: node.database,
    signer: await auditSigner(node),
    file: node.layout.checkpoints,
    memory: node.caToken.memory(),
    clock,
    logger,
  });
  const checkpoint = async (): Promise<void> => {
    const signed = await checkpoints.sign();
    if (signed) logger.info({ checkpoint: signed }, 'audit checkpoint');
  };
  const remember = (): Promise<void> => rememberHead(node.database, node.caToken.memory(), clock.wallMs());
  const ca = await openCertificateAuthority(node);
  opened.defer(() => ca.evidence.close());
  opened.defer(() => ca.requestChecker.close());
  checkPending(config.policy, await ca.store.pendingEvents());
  opened.defer(checkpoint);
  opened.defer(remember);
  const recovery = new Recovery(ca, logger);
  opened.defer(() => recovery.stop());
  await recovery.start();
  await renewResponders(node, ca.authorities.all);
  for (const client of await unconfirmed(node.database))
    logger.error(
      { client, act: `another administrator confirms it: POST /v1/clients/${client}/confirmation` },
      'ALARM: an administrator was bound at the console, and is not confirmed',
    );

  const registry = makeRegistry();
  ca.warnings.measure(registry);
  signingMetrics(registry, node.pool, node.restarts);
  if (config.metrics) {
    const metrics = await serveMetrics(registry, config.metrics);
    opened.defer(() => metrics.close());
  }
  const crl = await startCrl({
    config: config.crl,
    feed,
    signerOf: (name, certificate) => crlSignerFor(node, name, certificate),
    folder: node.layout.crl,
    published: node.layout.published,
    clock,
    logger,
    registry,
  });
  opened.defer(() => crl.close());
  const ocsp = await startOcsp({
    folder: node.layout.ocsp,
    dataFolder: folder,
    config: config.ocsp,
    pkcs11: config.pkcs11,
    gate: node.gate,
    keys: responderKeys(node),
    responders: node.layout.responders,
    feed,
    clock,
    logger,
  });
  opened.defer(() => ocsp.close());
  const outbox = await openOutbox(node, ca, logger);
  opened.defer(() => outbox.stop());
  const massActs = new MassActs(ca.operations, logger);
  opened.defer(() => massActs.stop());
  const api = await openApi(node, ca, logger);
  const address = await api.app.listen({ host: config.api.host, port: config.api.port }).catch((error) => {
    throw listenError(error, config.api.host, config.api.port);
  });

  const every = (ms: number, what: string, act: () => Promise<void>): void => {
    opened.defer(repeat(ms, act, logger, what));
  };
  const renew = responderRenewal(node, ca, ocsp, logger);
  every(heartbeatMs, 'the notes of refused PINs cannot be read', alarmOfPins(node, logger));
  every(heartbeatMs, 'the clock cannot be compared', alarmOfClock(node, logger));
  every(heartbeatMs, 'the feed cannot be delivered', () => feed.deliver());
  every(heartbeatMs, 'new authorities cannot be looked up', () => adoptAuthorities(node, ca, ocsp, logger));
  const warn = async (): Promise<void> =>
    ca.warnings.show(
      [...(await warningsOf(node, ca)), ...ocsp.warnings(config.warnings), ...crl.warnings(config.warnings)],
      { clock, logger },
    );
  await warn();
  every(warnMs, 'what will hurt cannot be looked up', warn);
  every(usesMs, 'when clients last acted cannot be written down', () => ca.uses.write());
  every(rememberMs, 'the token cannot remember', remember);
  every(overlapMs, 'what was renewed cannot be ended', () => endOverlaps(ca));
  every(overlapMs, 'what has not arrived cannot be settled', () => endWaits(ca));
  every(overlapMs, 'what outlives its card cannot be ended', () => endShortened(ca));
  every(overlapMs, 'superseded responders cannot be ended', () => endSuperseded(node));
  every(durationMs(config.audit.checkpointEvery), 'the audit chain cannot be signed', checkpoint);
  every(lookOverMs, 'responders cannot be renewed', renew);
  every(renewalMs, 'the API’s TLS certificate cannot be renewed', api.renewLeaf);
  // Asked last, closed first: nothing is taken on any more while the rest stops.
  opened.defer(() => api.app.close());
  const reload = reloading(logger, async () => {
    const next = readConfig(node.layout.config);
    // Files first: where one of them cannot be used, nothing else is taken up either.
    await ocsp.reload();
    await api.renewLeaf();
    const reloaded = takeUp(config, next, isTakenUp);
    await ocsp.reload();
    await crl.reload();
    await warn();
    return { ...reloaded, read: ['tls/api.key', 'tls/api.pem', ...tlsFilesOf(config.ocsp)] };
  });
  return { ca, addresses: { api: address, ocsp: ocsp.address, crl: crl.address }, reload };
}

/**
 * What the service takes up without a restart: what is looked up each time it is wanted. Of verifiers all but what stands in
 * what is published, and the ports that are listened at.
 */
const isTakenUp = (path: string): boolean =>
  /^(limits\.(?!request)|warnings\.|municipalities|ocsp\.verifiers\.(required|list)$|crl\.verifiers\.list$)/.test(
    path,
  );

/**
 * Refuses a record that lacks what the journal beside it has heard: a disk that lost its last seconds, or a copy that was put
 * in the record's place. The token remembers less, for it is told every few seconds only.
 */
async function refuseLostEvents(node: Node): Promise<void> {
  const cursor = lastCursor(node.layout.journal);
  if (!cursor || cursor.incarnation !== (await incarnationOf(node.database))) return;
  const heard = cursor.positions[node.database.writer] ?? 0;
  const recorded = await eventHead(node.database);
  if (heard <= recorded) return;
  throw new PkiError(
    'record-unavailable',
    `the record ends at event ${recorded}, and ${node.layout.journal} has heard ${heard}: restore a backup with that journal`,
  );
}

/** The API, with its TLS certificate of the moment. */
async function openApi(node: Node, ca: CertificateAuthority, logger: Logger) {
  const operations = await openOperations(node);
  const { tlsMin: minVersion } = node.config.api;
  const leaf = () => ensureServerLeaf(operations, { folder: node.layout.tls, config: node.config });
  const app = await buildApi({ ca, tls: { ...(await leaf()), ca: operationsCa(node) }, logger });
  const renewLeaf = async (): Promise<void> => {
    (app.server as unknown as { setSecureContext(leaf: object): void }).setSecureContext({
      ...(await leaf()),
      ca: operationsCa(node),
      minVersion,
    });
  };
  return { app, renewLeaf };
}

/** Alarms once of each token whose PIN was refused. */
function alarmOfPins(node: Node, logger: Logger): () => Promise<void> {
  const { logins } = node.layout;
  let known: readonly string[] = [];
  return async () => {
    const refused = refusedPins(logins);
    for (const token of refused.filter((label) => !known.includes(label))) {
      const act = `put the right PIN in place, then remove the note in ${logins}`;
      logger.error({ token, act }, 'ALARM: a token refused its PIN, and is not asked again');
    }
    known = refused;
  };
}

/** Says once when nothing is issued because of the clock, and when something is again. */
function alarmOfClock({ clock }: Node, logger: Logger): () => Promise<void> {
  return async () => {
    const news = clock.news();
    if (news) tellOfClock(logger, news);
  };
}

function tellOfClock(logger: Logger, { level, message, act }: ClockNews): void {
  if (level === 'error')
    logger.error({ why: message, act }, 'ALARM: the clock cannot be relied on, and nothing is issued');
  else logger.warn({ why: message, act }, 'the clock');
}

/** Takes up authorities that a command has added beside us, once their responders are certified. */
async function adoptAuthorities(
  node: Node,
  ca: CertificateAuthority,
  ocsp: OcspService,
  logger: Logger,
): Promise<void> {
  const known = new Set(ca.authorities.all.map(({ name }) => name));
  const added = (await recordedAuthorities(node.database)).filter(({ authority }) => !known.has(authority));
  if (added.length === 0) return;
  const certified = new Set(readResponders(node.layout.responders).map(({ authority }) => authority));
  for (const row of added) {
    if (!certified.has(row.authority)) continue;
    const authority = await openAuthority(node, row);
    await ocsp.setKeys(responderKeys(node));
    ca.authorities.add(authority);
    logger.info({ authority: row.authority }, 'an authority was added, and issues from now on');
  }
}

/** Renews responders, each authority's by itself, so that one that cannot be renewed does not keep the others from it. */
function responderRenewal(
  node: Node,
  ca: CertificateAuthority,
  ocsp: OcspService,
  logger: Logger,
): () => Promise<void> {
  const failedMs = new Map<string, number>();
  return async () => {
    const nowMs = node.clock.monotonicMs();
    for (const authority of ca.authorities.all) {
      // Each attempt makes a key and counts as a certificate.
      if (nowMs - (failedMs.get(authority.name) ?? Number.NEGATIVE_INFINITY) < retryMs) continue;
      try {
        if (await renewResponders(node, [authority])) await ocsp.setKeys(responderKeys(node));
      } catch (error) {
        failedMs.set(authority.name, nowMs);
        const { message: reason } = error as Error;
        logger.error({ authority: authority.name, reason }, 'responders cannot be renewed');
      }
    }
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
    wishes: ca.wishes,
    sealer,
    signer,
    certificatesOf: (issuanceId) => certificatesToStore(ca, issuanceId),
    clock,
  });
  return new Outbox({ store: ca.outbox, delivery, config: config.notices, clock, logger });
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
