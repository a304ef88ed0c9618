import { createServer } from 'node:http';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { closeServer, listen } from './listen.ts';
import { answerProbe, isProbe } from './probes.ts';

/** What a process measures of itself, for Prometheus. */
export function makeRegistry(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'warifu_' });
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

/** A value that goes up and down, asked for when it is scraped. */
export function gauge(registry: Registry, { name, help, label, value }: Described): void {
  new Gauge({
    ...{ name, help, labelNames: label === undefined ? [] : [label], registers: [registry] },
    async collect() {
      const measured = await value();
      this.reset();
      if (measured === undefined) return;
      if (typeof measured === 'number') this.set(measured);
      else for (const [of, each] of measured) this.set({ [label ?? '']: of }, each);
    },
  });
}

/** A value that only grows while the process runs. */
export function counter(registry: Registry, { name, help, label, value }: Described): void {
  new Counter({
    ...{ name, help, labelNames: label === undefined ? [] : [label], registers: [registry] },
    async collect() {
      const measured = await value();
      this.reset();
      if (measured === undefined) return;
      if (typeof measured === 'number') this.inc(measured);
      else for (const [of, each] of measured) this.inc({ [label ?? '']: of }, each);
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
