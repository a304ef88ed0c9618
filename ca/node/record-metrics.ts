import type { Registry } from 'prom-client';
import { counter } from '../../core/http/metrics.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';

/** How much of a core the record takes, and how often its database server is waited for. */
export function recordMetrics(
  registry: Registry,
  database: Pick<RecordDatabase, 'busyMs' | 'flushes'>,
): void {
  counter(registry, {
    name: 'warifu_record_busy_seconds_total',
    help: 'Processor time spent deciding and writing transactions',
    value: () => database.busyMs / 1000,
  });
  if (database.flushes === undefined) return;
  counter(registry, {
    name: 'warifu_record_flushes_total',
    help: 'Times that the database server was sent something by what writes, and waited for',
    value: () => database.flushes,
  });
}
