import { Counter, type Registry } from 'prom-client';
import type { RecordDatabase } from '../../store/engine/database.ts';

/** How much of a core the record takes, and how often its database server is waited for. */
export function recordMetrics(
  registry: Registry,
  database: Pick<RecordDatabase, 'busyMs' | 'flushes'>,
): void {
  const count = (name: string, help: string, value: () => number): Counter =>
    new Counter({
      ...{ name, help, registers: [registry] },
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  count(
    'warifu_record_busy_seconds_total',
    'Processor time spent deciding and writing transactions',
    () => database.busyMs / 1000,
  );
  if (database.flushes === undefined) return;
  count(
    'warifu_record_flushes_total',
    'Times that the database server was sent something by what writes, and waited for',
    () => database.flushes ?? 0,
  );
}
