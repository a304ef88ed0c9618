import { statfs } from 'node:fs/promises';
import { Histogram, type Registry } from 'prom-client';
import { counter, gauge } from '../../core/http/metrics.ts';
import { ocspMetrics } from '../../ocsp/node/metrics.ts';
import type { LocalOcspService } from '../../ocsp/node/service.ts';
import type { AuditWatch } from '../../store/audit/watch.ts';
import type { Followers } from '../api/followers.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import type { Outbox } from '../notify/outbox.ts';
import type { BackupSchedule } from './backup-schedule.ts';
import type { Node } from './node.ts';

// What an operator watches of the service, besides tokens, CRLs and OCSP. Nothing here names a holder, and every label has few values.

/** All of them but those of requests. */
export function serviceMetrics(
  registry: Registry,
  node: Node,
  of: {
    readonly ca: CertificateAuthority;
    readonly outbox: Outbox;
    readonly watch: AuditWatch;
    readonly backups: BackupSchedule;
    readonly ocsp: LocalOcspService;
    readonly followers: Followers;
  },
): void {
  const { ca, outbox, watch, backups, ocsp, followers } = of;
  nodeMetrics(registry, node, ca);
  waitingMetrics(registry, node, outbox);
  safetyMetrics(registry, watch, backups);
  followerMetrics(registry, followers, () => node.clock.wallMs());
  ocspMetrics(registry, { answered: () => ocsp.answered(), lagMs: () => ocsp.lagMs() });
}

/** How long requests took, by route; a route is a pattern, and holds no id. */
export function apiMetrics(
  registry: Registry,
): (route: string, method: string, status: number, seconds: number) => void {
  const durations = new Histogram({
    name: 'warifu_api_request_seconds',
    help: 'How long requests to the CA API took, by pattern of the route, method and status',
    labelNames: ['route', 'method', 'status'],
    buckets: [0.005, 0.02, 0.05, 0.1, 0.25, 1, 5],
    registers: [registry],
  });
  return (route, method, status, seconds) =>
    durations.observe({ route, method, status: String(status) }, seconds);
}

/** Nodes that follow this one, and how far behind they are. */
function followerMetrics(registry: Registry, followers: Followers, nowMs: () => number): void {
  gauge(registry, {
    name: 'warifu_followers',
    help: 'OCSP and CRL nodes elsewhere that follow this node now',
    value: () => followers.all.length,
  });
  gauge(registry, {
    name: 'warifu_follower_lag_seconds',
    help: 'How far behind a node elsewhere is that follows this one, by fingerprint of its client certificate',
    label: 'client',
    value: () =>
      new Map(
        followers.all
          .filter(({ knownMs }) => knownMs > 0)
          .map(({ fingerprint, knownMs }) => [fingerprint, Math.max(0, nowMs() - knownMs) / 1000]),
      ),
  });
}

/** Certificates of authorities, the data folder's disk, the clock, and who else writes. */
function nodeMetrics(registry: Registry, node: Node, ca: CertificateAuthority): void {
  gauge(registry, {
    name: 'warifu_authority_not_after_seconds',
    help: 'When a CA certificate ends, seconds since 1970',
    label: 'authority',
    value: () => ca.authorities.all.map(({ name, notAfterMs }) => [name, notAfterMs / 1000] as const),
  });
  gauge(registry, {
    name: 'warifu_disk_free_bytes',
    help: 'Octets that are free where the data folder is',
    value: async () => {
      const { bavail, bsize } = await statfs(node.layout.folder);
      return bavail * bsize;
    },
  });
  gauge(registry, {
    name: 'warifu_clock_ahead_seconds',
    help: 'How far the record’s time is ahead of the machine’s clock: while it is, nothing is issued',
    value: () => Math.max(0, node.clock.wallMs() - node.clock.machine.wallMs()) / 1000,
  });
  gauge(registry, {
    name: 'warifu_other_nodes',
    help: 'Other CA nodes of this record that take part now',
    value: async () => (await node.nodes.others()).length,
  });
  gauge(registry, {
    name: 'warifu_database_without_standby',
    help: '1 where what is acknowledged could be lost with one machine, although several are to hold it',
    value: async () => Number((await node.database.standbyFault?.()) !== undefined),
  });
}

/** What waits for others: messages, second persons, restrictions. */
function waitingMetrics(registry: Registry, node: Node, outbox: Outbox): void {
  counter(registry, {
    name: 'warifu_outbox_attempts_total',
    help: 'Messages that were sent to a destination, by outcome',
    label: 'outcome',
    value: () => outbox.attempts,
  });
  gauge(registry, {
    name: 'warifu_outbox_oldest_seconds',
    help: 'For how long the oldest message that is due has been due',
    value: () => outbox.overdueMs / 1000,
  });
  gauge(registry, {
    name: 'warifu_outbox_given_up',
    help: 'Messages that were given up, 1,000 at most',
    value: () =>
      node.database.read(
        (reader) =>
          reader.scan('message', {
            ...{ where: { state: 'dead' }, order: ['messageId'], limit: countedMax },
          }).length,
      ),
  });
  gauge(registry, {
    name: 'warifu_proposals_waiting',
    help: 'Acts that wait for a second person, 1,000 at most',
    value: () =>
      node.database.read(
        (reader) =>
          reader.scan('proposal', {
            ...{ where: { state: 'proposed' }, order: ['proposalId'], limit: countedMax },
          }).length,
      ),
  });
  gauge(registry, {
    name: 'warifu_restrictions_in_force',
    help: 'Restrictions of classes of phones that are in force',
    value: () => node.database.read((reader) => reader.find('restriction', { state: 'in-force' }).length),
  });
}

const countedMax = 1000;

/** Whether the record is what was written, and how old what it could be restored from is. */
function safetyMetrics(registry: Registry, watch: AuditWatch, backups: BackupSchedule): void {
  gauge(registry, {
    name: 'warifu_record_altered',
    help: '1 where the record is not as the service wrote it',
    value: () => Number(watch.finding !== undefined),
  });
  gauge(registry, {
    name: 'warifu_record_verified_seconds',
    help: 'When the whole record was last verified, seconds since 1970; absent before',
    value: () => (watch.verifiedMs === null ? undefined : watch.verifiedMs / 1000),
  });
  gauge(registry, {
    name: 'warifu_backup_made_seconds',
    help: 'When the newest backup was made, seconds since 1970; absent where there is none, or none is configured',
    value: () => (backups.newestMs === null ? undefined : backups.newestMs / 1000),
  });
}
