import { existsSync } from 'node:fs';
import type { Logger } from 'pino';
import { suites } from '../../core/asn1/algorithms.ts';
import { durationMs } from '../../core/config/duration.ts';
import { configuredResponders, readResponders } from '../../core/node/responder-file.ts';
import type { ClockNews } from '../../core/runtime/steady-clock.ts';
import { refusedPins } from '../../hsm/pkcs11/login-guard.ts';
import type { OcspService } from '../../ocsp/node/service.ts';
import type { ThreadKey } from '../../ocsp/node/thread-messages.ts';
import { recordedAuthorities } from '../../store/rules/token-memory.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { endOverlaps, endShortened, endWaits } from '../revoke/timed.ts';
import { differingNodes } from './mode.ts';
import type { Node } from './node.ts';
import { endSuperseded, renewResponders } from './own-certificates.ts';
import { openAuthority } from './wiring.ts';

// What the service does now and then while it runs.

/** How often the feed's watermark moves on while nothing happens. */
const heartbeatMs = 1000;
/** How often the token is updated with how far events go. */
const rememberMs = 5000;
/** How often it is looked up whose overlap with a successor has passed. */
const overlapMs = 5000;
/** How often it is written down when clients last acted. */
const usesMs = 60_000;
/** How often the next part of who looked holders up is verified. */
const accessesMs = 10_000;
/** How often it is looked up what will hurt. */
const warnMs = 60_000;
/** Interval of the checks of the record and of its checkpoints. */
const keptMs = 5000;
/** How often responders are looked over: whether one is due, or was revoked. */
const lookOverMs = 2000;
/** When it is tried again to renew a responder that could not be. */
const retryMs = 600_000;
/** How often the TLS certificate is looked over. */
const renewalMs = 3_600_000;

/** What outlives the record: signed checkpoints of its audit chain, and what the token remembers of it. */
export interface Trail {
  readonly checkpoint: () => Promise<void>;
  /** Signs what is known of the chain of a record that was altered. */
  readonly signKnown: () => Promise<void>;
  /** Alarms where checkpoints that were signed are gone. */
  readonly isKept: () => Promise<void>;
  readonly remember: () => Promise<void>;
  /** Has the token know who may sign for acts at the console. */
  readonly rememberApprovers: () => Promise<void>;
}

/** What the service does now and then: how often, what it says where that fails, and the act. */
export type Duty = readonly [everyMs: number, failure: string, act: () => Promise<void>];

export function dutiesOf(
  node: Node,
  ca: CertificateAuthority,
  ocsp: OcspService,
  own: Trail & {
    readonly warn: () => Promise<void>;
    readonly renewLeaf: () => Promise<void>;
    readonly logger: Logger;
  },
): readonly Duty[] {
  const { feed, config, nodes } = node;
  const { logger } = own;
  /** By one of the nodes, for all of them. */
  const once = (act: () => Promise<unknown>) => async (): Promise<void> => {
    if (nodes.does('duties')) await act();
  };
  return [
    [heartbeatMs, 'the notes of refused PINs cannot be read', alarmOfPins(node, logger)],
    [heartbeatMs, 'the clock cannot be compared', alarmOfClock(node, logger)],
    [heartbeatMs, 'the feed cannot be delivered', () => feed.deliver()],
    [heartbeatMs, 'new authorities cannot be looked up', () => adoptAuthorities(node, ca, ocsp, logger)],
    [warnMs, 'what will hurt cannot be looked up', own.warn],
    [warnMs, 'the token cannot remember administrators', once(own.rememberApprovers)],
    [accessesMs, 'who looked holders up cannot be verified', alarmOfAccesses(node, ca, logger)],
    [usesMs, 'when clients last acted cannot be written down', () => ca.uses.write()],
    [rememberMs, 'the token cannot remember', own.remember],
    [overlapMs, 'what was renewed cannot be ended', once(() => endOverlaps(ca))],
    [overlapMs, 'what has not arrived cannot be settled', once(() => endWaits(ca))],
    [overlapMs, 'what outlives its card cannot be ended', once(() => endShortened(ca))],
    [overlapMs, 'verifiers cannot be notified of what has expired', once(() => ca.watches.noteExpired())],
    [
      heartbeatMs,
      'an intake cannot be carried on',
      once(() => ca.intakes.proceed(config.verifiers.watchesMax)),
    ],
    [overlapMs, 'superseded responders cannot be ended', once(() => endSuperseded(node))],
    [durationMs(config.audit.checkpointEvery), 'the audit chain cannot be signed', own.checkpoint],
    [keptMs, 'the file of checkpoints cannot be read', own.isKept],
    [keptMs, 'standbys of the database cannot be looked up', alarmOfStandby(node, logger)],
    [keptMs, 'configurations of other nodes cannot be looked up', alarmOfConfigurations(node, logger)],
    [keptMs, 'the record cannot be written', alarmOfRecord(node, own.signKnown, logger)],
    [lookOverMs, 'responders cannot be renewed', responderRenewal(node, ca, ocsp, logger)],
    [renewalMs, 'the API’s TLS certificate cannot be renewed', own.renewLeaf],
  ];
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

/** Name of the memory of how many accesses there were at a node; of the one that performed the ceremony, without its name. */
const accessMemory = ({ layout, config }: Node): string =>
  existsSync(layout.joined) ? `accesses:${config.node}` : 'accesses';

/** Alarms once where who looked holders up is not as it was written, or less than the token remembers. */
function alarmOfAccesses(
  node: Node,
  { accesses }: CertificateAuthority,
  logger: Logger,
): () => Promise<void> {
  let said: string | undefined;
  const name = accessMemory(node);
  return async () => {
    const altered = await accesses.verify();
    const memory = node.caToken.memory();
    const remembered = await memory.recall(name);
    const isShort = accesses.sequence < remembered;
    const finding = isShort ? `accesses ${accesses.sequence + 1} to ${remembered} are gone` : altered;
    if (finding !== undefined && finding !== said)
      logger.error(
        { finding, act: 'keep the file accesses.db for who investigates; find out who could write to it' },
        'ALARM: the log of who looked holders up was altered',
      );
    said = finding;
    if (!isShort) await memory.remember(name, accesses.sequence);
  };
}

/** Alarms once where another node goes by another configuration, as it does between its reload and ours. */
function alarmOfConfigurations(node: Node, logger: Logger): () => Promise<void> {
  let said = '';
  return async () => {
    const differing = (await differingNodes(node)).join('; ');
    if (differing !== '' && differing !== said)
      logger.error(
        { differing, act: 'make the configurations alike, and reload or restart the nodes' },
        'ALARM: nodes of this service go by different configurations',
      );
    if (differing === '' && said !== '') logger.info('nodes of this service go by one configuration again');
    said = differing;
  };
}

/** Alarms once where what is acknowledged is on one server alone: after a failover, for a while. */
function alarmOfStandby({ database }: Node, logger: Logger): () => Promise<void> {
  let said: string | undefined;
  return async () => {
    const fault = await database.standbyFault?.();
    if (fault !== undefined && fault !== said)
      logger.error(
        {
          reason: fault,
          act: 'attach a synchronous standby: another failover would lose what was acknowledged',
        },
        'ALARM: what is acknowledged is on one database server alone',
      );
    if (fault === undefined && said !== undefined)
      logger.info('the database has a synchronous standby again');
    said = fault;
  };
}

/** Alarms once where the record cannot be written, also while nothing else writes: it may be another's by now. */
function alarmOfRecord(
  { database }: Node,
  signKnown: () => Promise<void>,
  logger: Logger,
): () => Promise<void> {
  let last: string | undefined;
  return async () => {
    const reason = await database.probe().then(
      () => undefined,
      (error: Error) => error.message,
    );
    if (reason !== undefined && reason !== last)
      logger.error(
        {
          reason,
          act: 'see the reason: the disk, the database server, or a record that was altered; it is tried again until it can be written',
        },
        'ALARM: the record cannot be written',
      );
    if (reason === undefined && last !== undefined) logger.info('the record can be written again');
    const isNew = reason !== undefined && last === undefined;
    last = reason;
    if (isNew) await signKnown();
  };
}

export function tellOfClock(logger: Logger, { level, message, act }: ClockNews): void {
  if (level === 'error')
    logger.error({ why: message, act }, 'ALARM: the clock cannot be relied on, and nothing is issued');
  else logger.warn({ why: message, act }, 'the clock');
}

/** How long a command that adds an authority may take to certify the responders of the node that it runs at. */
const certifiedWithinMs = 15_000;

/**
 * Takes up authorities that a command has added while the service ran, once their responders are certified: at the node of the command by
 * that, at others by the node itself.
 */
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
    const isLeft = node.clock.wallMs() - row.createdMs > certifiedWithinMs;
    if (!certified.has(row.authority) && !isLeft) continue;
    const authority = await openAuthority(node, row);
    await renewResponders(node, [authority]);
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

/** Delegations on disk, with what threads need to use them. */
export function responderKeys(node: Node): ThreadKey[] {
  const { responders } = node.layout;
  const rows = configuredResponders(responders, node.config.ocsp.responderSuites);
  return rows.map(({ authority, keyLabel: label, suite, certificate }) => ({
    authority,
    certificate: Buffer.from(certificate, 'base64'),
    key: node.pool.keySpec(node.ocspToken.label, label, suites[suite]),
    publicKey: node.ocspToken.findKeyPair(label, suites[suite]).publicKey,
  }));
}
