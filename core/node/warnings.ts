import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import { Gauge, type Registry } from 'prom-client';
import { parseCertificate } from '../asn1/certificate-reader.ts';
import type { Bytes } from '../runtime/bytes.ts';
import type { Clock } from '../runtime/clock.ts';
import { repeat } from '../runtime/process.ts';
import type { ResponderFile } from './responder-file.ts';

/** What is warned of, by name. */
export const warningKinds = [
  'authority-ends',
  'authority-too-old',
  'responder-ends',
  'tls-ends',
  'client-ends',
  'binding-ends',
  'crl-too-long',
  'attestation-list-old',
  'record-altered',
  'backup-old',
  'too-few-approvers',
  'hold-unconfirmed',
  'revocations-wait',
] as const;
export type WarningKind = (typeof warningKinds)[number];

/** What will fail unless an operator acts. */
export interface Warning {
  readonly kind: WarningKind;
  readonly about: string;
  /** When it hurts, wall-clock milliseconds; null where it does already. */
  readonly atMs: number | null;
  readonly act: string;
}

/** Something that ends. */
export interface Ending {
  readonly about: string;
  readonly beginsMs?: number;
  readonly endsMs: number;
}

/**
 * Warnings of what ends within `aheadMs`. What renews itself is warned of in the last quarter of its life at the earliest, when
 * renewal has failed for a while; what ended longer ago than `aheadMs` is not spoken of any more.
 */
export function endingSoon(
  endings: readonly Ending[],
  how: { readonly kind: WarningKind; readonly act: string; readonly aheadMs: number; readonly nowMs: number },
): Warning[] {
  const { kind, act, aheadMs, nowMs } = how;
  const ahead = ({ beginsMs, endsMs }: Ending): number =>
    beginsMs === undefined ? aheadMs : Math.min(aheadMs, (endsMs - beginsMs) / 4);
  return endings
    .filter((ending) => ending.endsMs - nowMs <= ahead(ending) && nowMs - ending.endsMs <= aheadMs)
    .map(({ about, endsMs: atMs }) => ({ kind, about, atMs, act }));
}

/** The end of a certificate, DER. */
export function endingOf(about: string, certificate: Bytes): Ending {
  const { notBeforeMs, notAfterMs } = parseCertificate(certificate);
  return { about, beginsMs: notBeforeMs, endsMs: notAfterMs };
}

/** The same of a certificate in a file, PEM. */
export const endingOfFile = (file: string): Ending =>
  endingOf(file, new X509Certificate(readFileSync(file)).raw);

/** The ends of delegations on disk. */
export const endingsOfResponders = (responders: readonly ResponderFile[]): Ending[] =>
  responders.map(({ authority, suite, certificate }) =>
    endingOf(`${authority} ${suite}`, Buffer.from(certificate, 'base64')),
  );

/** Those that may be an attack, and are alarms. */
const alarming: readonly WarningKind[] = ['hold-unconfirmed', 'revocations-wait'];

/** How often a warning that stands is logged again. */
const againMs = 86_400_000;

/** What is warned of now. Each warning is logged as it comes and once a day, and counted by kind. */
export class WarningBoard {
  readonly #loggedMs = new Map<string, number>();
  #current: readonly Warning[] = [];

  get current(): readonly Warning[] {
    return this.#current;
  }

  show(
    warnings: readonly Warning[],
    { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
  ): void {
    this.#current = warnings;
    const nowMs = clock.monotonicMs();
    const names = new Set<string>();
    for (const { kind, about, atMs, act } of warnings) {
      const name = `${kind} ${about}`;
      names.add(name);
      if (nowMs - (this.#loggedMs.get(name) ?? Number.NEGATIVE_INFINITY) < againMs) continue;
      this.#loggedMs.set(name, nowMs);
      const line = { kind, about, at: atMs === null ? null : new Date(atMs).toISOString(), act };
      if (alarming.includes(kind)) logger.error(line, 'ALARM: what one person has held waits for another');
      else logger.warn(line, 'WARNING');
    }
    for (const name of this.#loggedMs.keys()) if (!names.has(name)) this.#loggedMs.delete(name);
  }

  /** Counts them for Prometheus. */
  measure(registry: Registry): void {
    const count = (kind: WarningKind): number =>
      this.#current.filter((warning) => warning.kind === kind).length;
    new Gauge({
      name: 'warifu_warnings',
      help: 'What will fail unless an operator acts, by kind',
      labelNames: ['kind'],
      registers: [registry],
      collect() {
        for (const kind of warningKinds) this.set({ kind }, count(kind));
      },
    });
  }
}

/** How often a node looks up what will hurt. */
const warnMs = 60_000;

/** Shows a node's warnings, in its log and metrics, now and once a minute. Gives the function that shows them at once. */
export async function warnNowAndThen(
  find: () => readonly Warning[],
  of: { readonly registry: Registry; readonly clock: Clock; readonly logger: Logger },
  opened: AsyncDisposableStack,
): Promise<() => Promise<void>> {
  const board = new WarningBoard();
  board.measure(of.registry);
  const show = async (): Promise<void> => board.show(find(), of);
  await show();
  opened.defer(repeat(warnMs, show, of.logger, 'what will hurt cannot be looked up'));
  return show;
}
