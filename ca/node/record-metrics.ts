import { Counter, type Registry } from 'prom-client';
import type { RecordDatabase } from '../../store/engine/database.ts';

/** How much of a core the record takes. */
export function recordMetrics(registry: Registry, database: Pick<RecordDatabase, 'busyMs'>): void {
  new Counter({
    name: 'warifu_record_busy_seconds_total',
    help: 'Processor time spent deciding and writing transactions',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(database.busyMs / 1000);
    },
  });
}
