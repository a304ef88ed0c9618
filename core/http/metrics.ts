import { createServer } from 'node:http';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { closeServer, listen } from './listen.ts';
import { answerProbe, isProbe } from './probes.ts';

/** What a process measures of itself, for Prometheus. */
export function makeRegistry(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'warifu_' });
  failuresOf(registry);
  return registry;
}

/** Values by the one label that they have; under no label where they have none. */
export type Measured = number | Iterable<readonly [label: string, value: number]>;

interface Described {
  readonly name: string;
  readonly help: string;
  readonly label?: string;
  /** Asked at each scrape; undefined where there is nothing to say now. */
  readonly value: () => Measured | undefined | Promise<Measured | undefined>;
}

/** How long one value may take to be had, milliseconds: a scrape waits no longer for a record that does not answer. */
const valueWithinMs = 2000;

/** Values that could not be had, by name: a scrape gives all others. */
const failures = new WeakMap<Registry, Map<string, number>>();

function failuresOf(registry: Registry): Map<string, number> {
  const known = failures.get(registry);
  if (known) return known;
  const failed = new Map<string, number>();
  failures.set(registry, failed);
  counter(registry, {
    name: 'warifu_metrics_failed_total',
    help: 'Values that could not be had when they were scraped, by metric',
    label: 'metric',
    value: () => failed,
  });
  return failed;
}

async function measure(registry: Registry, { name, value }: Described): Promise<Measured | undefined> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`no value within ${valueWithinMs} ms`)), valueWithinMs);
  try {
    return await Promise.race([value(), late]);
  } catch {
    // Counted: the record may be what hurts, and is then seen by this and by its other metrics.
    const failed = failuresOf(registry);
    failed.set(name, (failed.get(name) ?? 0) + 1);
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}

/** Values with their labels. */
function labelled(
  measured: Measured | undefined,
  label: string | undefined,
): [Record<string, string>, number][] {
  if (measured === undefined) return [];
  if (typeof measured === 'number') return [[{}, measured]];
  return [...measured].map(([of, each]) => [{ [label ?? '']: of }, each]);
}

/** What gauges and counters are registered with. */
const registration = (registry: Registry, { name, help, label }: Described) => ({
  ...{ name, help, registers: [registry] },
  labelNames: label === undefined ? [] : [label],
});

/** A value that goes up and down, asked for when it is scraped. */
export function gauge(registry: Registry, of: Described): void {
  new Gauge({
    ...registration(registry, of),
    async collect() {
      const measured = labelled(await measure(registry, of), of.label);
      this.reset();
      // Absent where there is no value, not zero.
      if (measured.length === 0 && of.label === undefined) this.remove();
      for (const [labels, each] of measured) this.set(labels, each);
    },
  });
}

/** A value that only grows while the process runs. */
export function counter(registry: Registry, of: Described): void {
  new Counter({
    ...registration(registry, of),
    async collect() {
      const measured = labelled(await measure(registry, of), of.label);
      this.reset();
      for (const [labels, each] of measured) this.inc(labels, each);
    },
  });
}

/** How long it may take to learn whether the service is ready, milliseconds: a supervisor waits no longer. */
const readyWithinMs = 3000;

/**
 * Serves a process's metrics at `/metrics`, `/live` and `/ready`, on a port of their own: they are the operator's, not the public's. `reasons`:
 * why the process should be sent no requests now.
 */
export async function serveMetrics(
  registry: Registry,
  { host, port }: { readonly host: string; readonly port: number },
  reasons: () => Promise<readonly string[]>,
): Promise<{ readonly address: string; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    const { url = '', method } = request;
    if (isProbe(url)) {
      const asked = url === '/live' ? Promise.resolve([]) : soon(reasons());
      void asked.then((found) => answerProbe(response, { path: url, method, reasons: found }));
      return;
    }
    if (url !== '/metrics' || (method !== 'GET' && method !== 'HEAD')) {
      const isKnown = url === '/metrics';
      response.writeHead(isKnown ? 405 : 404, {
        'Content-Length': 0,
        ...(isKnown && { Allow: 'GET, HEAD' }),
      });
      response.end();
      return;
    }
    registry.metrics().then(
      (text) => response.writeHead(200, { 'Content-Type': registry.contentType }).end(text),
      () => response.writeHead(500, { 'Content-Length': 0 }).end(),
    );
  });
  const address = await listen(server, host, port);
  return { address, close: () => closeServer(server) };
}

/** What is asked for, or that there is no answer, or that it failed. */
async function soon(reasons: Promise<readonly string[]>): Promise<readonly string[]> {
  const { promise: late, resolve } = Promise.withResolvers<readonly string[]>();
  const timer = setTimeout(resolve, readyWithinMs, [`no answer within ${readyWithinMs / 1000} s`]);
  const found = reasons.catch((error: Error) => [error.message]);
  return Promise.race([found, late]).finally(() => clearTimeout(timer));
}
