import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { durationMs } from '../../core/config/duration.ts';
import { reloading, takeUp } from '../../core/config/reload.ts';
import { tlsFilesOf } from '../../core/config/verifiers.ts';
import { lastCursor } from '../../core/feed/feed-journal.ts';
import { acceptMore } from '../../core/http/acceptors.ts';
import { listenError, probePort } from '../../core/http/listen.ts';
import type { Warning } from '../../core/node/warnings.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { lockData } from '../../core/runtime/data-lock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { repeat } from '../../core/runtime/process.ts';
import { type CrlService, startCrl } from '../../crl/node/service.ts';
import { signingMetrics } from '../../hsm/pool/metrics.ts';
import { type LocalOcspService, startOcsp } from '../../ocsp/node/service.ts';
import { CheckpointSigner } from '../../store/audit/checkpoints.ts';
import { AuditWatch } from '../../store/audit/watch.ts';
import { AuditKey } from '../../store/engine/audit-key.ts';
import { unconfirmed } from '../../store/rules/console-rules.ts';
import { eventHead, incarnationOf, rememberHead, schemaVersion } from '../../store/rules/token-memory.ts';
import { readConfig, readGiven } from '../config/config.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { checkPending } from '../policy/policy-check.ts';
import { BulkOperations } from '../revoke/bulk-operations.ts';
import { approverKeeper } from './approvers.ts';
import { auditSigner } from './audit.ts';
import { BackupSchedule } from './backup-schedule.ts';
import { performCeremony, refuseCeremony } from './ceremony.ts';
import { openCertificateAuthority } from './certificate-authority.ts';
import { recordNotedActs } from './console-approval.ts';
import { dutiesOf, responderKeys, type Trail, tellOfClock } from './duties.ts';
import { isMade, layout } from './layout.ts';
import { modeWords, noteConfiguration, refuseOtherMeaning } from './mode.ts';
import type { Node } from './node.ts';
import { observedOf, openMetrics, unreadiness } from './observation.ts';
import { openApi } from './open-api.ts';
import { openOutbox } from './open-outbox.ts';
import { renewResponders } from './own-certificates.ts';
import {
  faultsOfRecord,
  openFit,
  refuseNotAllowed,
  refuseUnfit,
  refuseWithoutCeremony,
} from './production.ts';
import { openFilters, openPublicPage } from './published.ts';
import { recordMetrics } from './record-metrics.ts';
import { Recovery } from './recovery.ts';
import { Retention } from './retention.ts';
import { serviceMetrics } from './service-metrics.ts';
import { takeOverConfigured } from './taken-over-verifiers.ts';
import { warningsOf } from './warnings.ts';
import { crlSignerFor, openServiceNode } from './wiring.ts';

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
  const paths = layout(folder);
  if (!isMade(paths)) {
    refuseWithoutCeremony(paths, readConfig(paths.config));
    await refuseCeremony(folder);
    logger.info({ folder }, 'performing the ceremony');
    await performCeremony({ folder, clock });
  }
  const ended = (what: { why: string }): void => logger.error(what, 'a signing process ended');
  const node = await openFit(paths, () => openServiceNode({ folder, clock, logger, ended }), faultsOfRecord);
  opened.defer(() => node.close());
  const { mode, node: name } = node.config;
  logger.info({ mode, node: name, schema: schemaVersion }, modeWords[mode]);
  await refuseOtherMeaning(node);
  await noteConfiguration(node, logger);
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
  const { config, clock } = node;
  if (node.clockNews) tellOfClock(logger, node.clockNews);
  await refuseWithoutStandby(node);
  await refuseLostEvents(node);
  const trail = await openTrail(node, logger);
  const ca = await openCertificateAuthority(node, logger);
  opened.defer(() => ca.accesses.close());
  opened.defer(() => ca.evidence.close());
  opened.defer(() => ca.requestChecker.close());
  checkPending(config.policy, await ca.store.pendingEvents());
  opened.defer(trail.checkpoint);
  opened.defer(trail.remember);
  opened.defer(trail.rememberApprovers);
  const recovery = new Recovery(ca, logger);
  // Stopped twice: here where a later step fails, and below before followers are.
  opened.defer(() => recovery.stop());
  await recovery.start();
  await renewResponders(node, ca.authorities.all);
  await settleBeginning(node, logger);
  const backups = new BackupSchedule(node, logger);
  const { registry, probe } = await openMetrics(node, opened);
  const { crl, ocsp } = await openStatus(node, ca, { folder, logger, backups, registry }, opened);
  // The token remembers how far the record goes: a restore asks the followers' journals for all of it.
  opened.defer(() => node.feed.deliver());
  opened.defer(() => recovery.stop());
  openPublicPage(node, ca, logger, opened);
  await openFilters(node, ocsp, logger, opened);
  const outbox = await openOutbox(node, ca, logger);
  opened.defer(() => outbox.stop());
  const retention = new Retention(ca, logger);
  opened.defer(() => retention.stop());
  const bulkOperations = new BulkOperations({ store: ca.operations, nodes: ca.nodes, clock, logger });
  opened.defer(() => bulkOperations.stop());
  const observed = observedOf(node, { crl, ocsp, registry });
  const api = await openApi(node, { ca, observed }, logger);
  const { host, port } = config.api;
  // Sharing the port with itself it would share it with another process, too.
  if (port !== 0) await probePort(host, port);
  const address = await api.app.listen({ host, port, reusePort: true } as object).catch((error) => {
    throw listenError(error, host, port);
  });

  const watch = new AuditWatch({
    place: node.place,
    passFile: node.layout.watchPass,
    key: node.auditKey,
    logger,
    onChange: () => void warn().catch((error: Error) => logger.error({ reason: error.message }, cannotWarn)),
  });
  opened.defer(() => watch.close());
  opened.defer(() => backups.stop());
  backups.start();
  const warn = async (): Promise<void> =>
    ca.warnings.show(
      [
        ...alteredWarning(watch),
        ...(await warningsOf(node, ca)),
        ...backups.warnings(),
        ...ocsp.warnings(config.warnings),
        ...crl.warnings(config.warnings),
      ],
      { clock, logger },
    );
  await warn();
  serviceMetrics(registry, node, { ca, outbox, watch, backups, ocsp, followers: observed.followers });
  const duties = dutiesOf(node, ca, ocsp, { ...trail, warn, renewLeaf: api.renewLeaf, logger });
  for (const [ms, failure, act] of duties) opened.defer(repeat(ms, act, logger, failure));
  // Asked last, closed first: nothing is taken on any more while the rest stops.
  opened.defer(() => api.app.close());
  opened.defer(await acceptMore(api.app.server, acceptors - 1));
  probe.reasons = () => unreadiness(node, ca, ocsp);
  const reload = reloader(node, { ca, crl, ocsp, warn, renewLeaf: api.renewLeaf, logger });
  return { ca, addresses: { api: address, ocsp: ocsp.address, crl: crl.address }, reload };
}

/** Takes up what the configuration and the files that it names have come to say. */
function reloader(
  node: Node,
  parts: {
    readonly ca: CertificateAuthority;
    readonly crl: CrlService;
    readonly ocsp: LocalOcspService;
    readonly warn: () => Promise<void>;
    readonly renewLeaf: () => Promise<void>;
    readonly logger: Logger;
  },
): () => Promise<void> {
  const { config } = node;
  const { ca, crl, ocsp, logger } = parts;
  return reloading(logger, async () => {
    const next = readConfig(node.layout.config);
    if (next.mode !== config.mode)
      throw new PkiError('bad-request', `mode: this folder is one of ${config.mode}, and stays one`);
    refuseUnfit(node.layout, next);
    await refuseNotAllowed(node);
    // Files first: where one of them cannot be used, nothing else is taken up either.
    await ocsp.reload();
    await crl.reload();
    await parts.renewLeaf();
    const reloaded = takeUp(config, next, isTakenUp);
    await noteConfiguration(node, logger);
    ca.configuration.running = readGiven(node.layout.config);
    await ocsp.reload();
    await crl.reload();
    await parts.warn();
    const shown = [...tlsFilesOf(config.ocsp.verifiers), ...tlsFilesOf(config.crl.verifiers)];
    return { ...reloaded, read: ['tls/api.key', 'tls/api.pem', ...shown] };
  });
}

/** Several servers are configured so that one may be lost: then two have to have what is acknowledged. */
async function refuseWithoutStandby({ database }: Node): Promise<void> {
  const fault = await database.standbyFault?.();
  if (fault !== undefined)
    throw new PkiError(
      'record-unavailable',
      `record.postgres.hosts names several, and ${fault}: a failover would lose what was acknowledged; mend it, or name the one host that is to be used alone`,
    );
}

async function openTrail(node: Node, logger: Logger): Promise<Trail> {
  const { database, layout: paths, clock } = node;
  const memory = node.caToken.memory();
  const signer = await auditSigner(node);
  const checkpoints = new CheckpointSigner({
    database,
    signer,
    file: paths.checkpoints,
    memory,
    key: new AuditKey(node.auditKey),
    clock,
    logger,
  });
  await checkpoints.open();
  return {
    isKept: async () => void checkpoints.isKept(),
    signKnown: () => checkpoints.signKnown(),
    checkpoint: async () => {
      const signed = await checkpoints.sign();
      if (signed) logger.info({ checkpoint: signed }, 'audit checkpoint');
    },
    remember: () => rememberHead(database, memory, clock.wallMs()),
    rememberApprovers: approverKeeper(node, durationMs(node.config.limits.clientBinding)),
  };
}

const cannotWarn = 'warnings cannot be computed';

const alteredWarning = ({ finding }: AuditWatch): Warning[] =>
  finding === undefined
    ? []
    : [
        {
          kind: 'record-altered',
          about: finding,
          atMs: null,
          act: 'run warifu audit verify; restore a backup',
        },
      ];

/** What a start does once, before anyone asks. */
async function settleBeginning(node: Node, logger: Logger): Promise<void> {
  await takeOverConfigured(node, logger);
  await recordNotedActs(node, logger);
  await alarmOfUnconfirmed(node, logger);
}

async function alarmOfUnconfirmed({ database }: Node, logger: Logger): Promise<void> {
  for (const client of await unconfirmed(database))
    logger.error(
      { client, act: `another administrator confirms it: POST /v1/clients/${client}/confirmation` },
      'ALARM: an administrator was bound at the console, and is not confirmed',
    );
}

/** Listening sockets of the API: each takes one connection in a turn of the loop, which is long under load. */
const acceptors = 32;

/** Of threads that answer OCSP and CRLs: a flood there keeps no revocation waiting. */
const niceness = 5;

/** CRL publisher and OCSP responder within this process, and metrics of both. */
async function openStatus(
  node: Node,
  ca: CertificateAuthority,
  {
    folder,
    logger,
    backups,
    registry,
  }: {
    readonly folder: string;
    readonly logger: Logger;
    readonly backups: BackupSchedule;
    readonly registry: Registry;
  },
  opened: AsyncDisposableStack,
): Promise<{ crl: CrlService; ocsp: LocalOcspService }> {
  const { feed, config, clock } = node;
  ca.warnings.measure(registry);
  signingMetrics(registry, node.pool, node.restarts);
  recordMetrics(registry, node.database);
  const crl = await startCrl({
    config: config.crl,
    feed,
    signerOf: (name, certificate) => crlSignerFor(node, name, certificate),
    folder: node.layout.crl,
    dataFolder: folder,
    published: node.layout.published,
    publications: node.nodes.publications,
    clock,
    logger,
    registry,
    niceness,
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
    keepJournalFromMs: () => backups.oldestMs,
    clock,
    logger,
    niceness,
  });
  opened.defer(() => ocsp.close());
  return { crl, ocsp };
}

/**
 * What the service takes up without a restart: what is looked up each time it is wanted. Of verifiers all but what stands in
 * what is published, and the ports that are listened at.
 */
const isTakenUp = (path: string): boolean =>
  /^(limits\.(?!requestBytesMax|requestTimeout)|warnings\.|municipalities|ocsp\.verifiers\.(required|tokensOver)$|crl\.verifiers\.tokensOver$)/.test(
    path,
  );

/**
 * Refuses a record that lacks what the journal next to it has received: a disk that lost its last seconds, or a copy that was put
 * in the record's place. The token remembers less, for it is updated every few seconds only.
 */
async function refuseLostEvents(node: Node): Promise<void> {
  const cursor = lastCursor(node.layout.journal);
  if (!cursor || cursor.incarnation !== (await incarnationOf(node.database))) return;
  const received = cursor.positions[node.database.writer] ?? 0;
  const recorded = await eventHead(node.database);
  if (received <= recorded) return;
  throw new PkiError(
    'record-unavailable',
    `the record ends at event ${recorded}, and ${node.layout.journal} has received ${received}: restore a backup with that journal`,
  );
}
