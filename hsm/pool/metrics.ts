import { Counter, Gauge, type Registry } from 'prom-client';
import type { SigningPool } from './signing-pool.ts';

/** What an operator watches of tokens and those who sign with them. */
export function signingMetrics(registry: Registry, pool: SigningPool, restarts: () => number): void {
  const registers = [registry];
  new Gauge({
    name: 'warifu_token_up',
    help: 'Whether a token signed when it was last asked',
    labelNames: ['token'],
    registers,
    collect() {
      for (const { label, up } of pool.states()) this.set({ token: label }, Number(up));
    },
  });
  new Counter({
    name: 'warifu_signatures_total',
    help: 'Signatures made',
    labelNames: ['purpose'],
    registers,
    collect() {
      this.reset();
      for (const [purpose, count] of pool.signed) this.inc({ purpose }, count);
    },
  });
  new Gauge({
    name: 'warifu_signatures_waiting',
    help: 'Signatures that wait for a token',
    registers,
    collect() {
      this.set(pool.waiting);
    },
  });
  new Counter({
    name: 'warifu_signing_process_restarts_total',
    help: 'Signing processes that hung or died and were started again',
    registers,
    collect() {
      this.reset();
      this.inc(restarts());
    },
  });
}
