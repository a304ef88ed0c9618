import type { Static } from 'typebox';
import type { ServiceShape } from '../api/schema-service.ts';
import type { CaClient } from './client.ts';

// What `warifu status` shows: one screen of text, out of what the API tells every administrator and reader.

type Service = Static<typeof ServiceShape>;

interface Health {
  readonly status?: string;
  readonly detail?: string;
  readonly mode?: string;
  readonly tokens?: readonly { readonly label: string; readonly up: boolean }[];
  readonly warnings?: readonly {
    readonly kind: string;
    readonly about: string;
    readonly at: string | null;
    readonly act: string;
  }[];
}

/** All that is shown, of one moment. */
export interface Status {
  readonly health: Health;
  readonly service: Service;
  /** Requests that wait for a second person; null where it was not said. */
  readonly proposals: number | null;
  /** Messages that were given up, 1000 at most; null where it was not said. */
  readonly undelivered: number | null;
}

/** Asks the API. Rejects with what it refuses. */
export async function statusOf(api: CaClient): Promise<Status> {
  const service = await api.get<Service & { readonly detail?: string }>('/service');
  if (service.status !== 200)
    throw new Error(`the service refuses to say how it is: ${service.body.detail ?? service.status}`);
  const [health, proposals, outbox] = await Promise.all([
    api.get<Health>('/health'),
    api.get<{ readonly proposals?: number }>('/caller'),
    api.get<{ readonly messages?: readonly unknown[] }>('/outbox?state=dead'),
  ]);
  return {
    health: health.body,
    service: service.body,
    proposals: proposals.body.proposals ?? null,
    undelivered: outbox.body.messages?.length ?? null,
  };
}

const cut = (text: string, width: number): string =>
  text.length <= width ? text : `${text.slice(0, width - 1)}…`;
const cell = (text: string, width: number): string => cut(text, width).padEnd(width);
const day = (instant: string): string => instant.slice(0, 10);
const clock = (instant: string): string => instant.slice(0, 19).replace('T', ' ');

/** How much of each was done a second between two moments; undefined where they are of one, or of two runs. */
export function ratesOf(now: Service, before: Service | undefined): Record<string, number> | undefined {
  if (!before || before.startedAt !== now.startedAt) return undefined;
  const seconds = (Date.parse(now.at) - Date.parse(before.at)) / 1000;
  if (seconds <= 0) return undefined;
  const { certificates, crls, ocspAnswers } = now.counts;
  return {
    certificates: Math.max(0, certificates - before.counts.certificates) / seconds,
    crls: Math.max(0, crls - before.counts.crls) / seconds,
    ocspAnswers: Math.max(0, ocspAnswers - before.counts.ocspAnswers) / seconds,
  };
}

/** The screen, line by line, no wider than it may be. */
export function screenOf(status: Status, before: Status | undefined, width = 100): string[] {
  const { health, service, proposals, undelivered } = status;
  const rates = ratesOf(service, before?.service);
  const { counts } = service;
  const rate = (name: string): string => (rates ? `${(rates[name] ?? 0).toFixed(1)}/s` : '–');
  const warnings = health.warnings ?? [];
  const lines = [
    `Warifu  ${service.node}  ${health.mode ?? ''}  ${health.status === 'ok' ? 'ok' : 'UNHEALTHY, see below'}  ${clock(service.at)} UTC, up since ${clock(service.startedAt)}`,
    `Tokens  ${(health.tokens ?? []).map(({ label, up }) => `${label} ${up ? 'signs' : 'DOES NOT SIGN'}`).join(', ')}`,
    ...(health.status === 'ok' ? [] : [`Why     ${health.detail ?? 'it does not say'}`]),
    '',
    `Signed  certificates ${counts.certificates} (${rate('certificates')})  CRLs ${counts.crls} (${rate('crls')})  waiting ${counts.waiting}`,
    `OCSP    answers ${counts.ocspAnswers} (${rate('ocspAnswers')})`,
    `Waiting approvals ${proposals ?? '–'}  undelivered messages ${undelivered ?? '–'}`,
    '',
    ...section(
      'Warnings',
      warnings,
      ({ kind, about, at, act }) => `${cell(kind, 20)} ${about}${at === null ? '' : `, ${day(at)}`}: ${act}`,
    ),
    ...section(
      'CA',
      service.authorities,
      (each) =>
        `${cell(each.authority, 20)} ${cell(each.suite, 16)} ${cell(each.issuing ? 'issues' : 'answers', 8)} to ${day(each.notAfter)}`,
    ),
    ...section(
      'Other CA nodes',
      service.nodes,
      ({ node, behind }) =>
        `${cell(node, 20)} ${behind === null ? 'has not said how far it is' : `${behind} events behind`}`,
    ),
    ...section(
      'Followers',
      service.followers,
      ({ name, clientId, lagSeconds, connectedAt }) =>
        `${cell(name ?? clientId, 20)} ${lagSeconds === null ? 'catches up' : `lag ${lagSeconds.toFixed(1)} s`}  since ${clock(connectedAt)}`,
    ),
  ];
  return lines.map((line) => cut(line.replace(/[\p{Cc}\p{Cf}]/gu, ''), width));
}

/** Lines of one section at most, so that all fits on a screen. */
const linesMax = 8;

function section<T>(title: string, items: readonly T[], line: (item: T) => string): string[] {
  const shown = items.slice(0, linesMax).map((item) => `  ${line(item)}`);
  const more = items.length > linesMax ? [`  and ${items.length - linesMax} more`] : [];
  return [`${title}${items.length === 0 ? ': none' : ''}`, ...shown, ...more];
}
