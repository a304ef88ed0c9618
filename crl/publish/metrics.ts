import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { Trigger } from '../issue/build-order.ts';

/** Metrics of a CRL publisher. */
export interface CrlMetrics {
  readonly shards: Gauge;
  /** CRLs that have used up half of their life and have no successor: an alarm wherever it is not zero. */
  readonly overdue: Gauge;
  readonly failures: Counter;
  /** Left to another publisher for now. */
  readonly postponed: Counter<'why'>;
  published(trigger: Trigger, seconds: number): void;
}

export function crlMetrics(registry: Registry): CrlMetrics {
  const registers = [registry];
  const durations = new Histogram({
    name: 'warifu_crl_publication_seconds',
    help: 'time from an order to publish a shard to its replaced files, by occasion',
    labelNames: ['occasion'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
    registers,
  });
  return {
    shards: new Gauge({ name: 'warifu_crl_shards', help: 'shards there are', registers }),
    overdue: new Gauge({
      name: 'warifu_crl_overdue',
      help: 'shards whose CRL is past half of its life without a successor, or is missing',
      registers,
    }),
    failures: new Counter({
      name: 'warifu_crl_failures_total',
      help: 'publications of a shard that failed; what was published stayed',
      registers,
    }),
    postponed: new Counter({
      name: 'warifu_crl_postponed_total',
      help: 'publications of a shard that were left to another publisher, by why',
      labelNames: ['why'],
      registers,
    }),
    published: (trigger, seconds) => durations.observe({ occasion: trigger }, seconds),
  };
}
