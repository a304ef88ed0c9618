import { createServer } from 'node:http';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { closeServer, listen } from './listen.ts';

/** What a process measures of itself, for Prometheus. */
export function makeRegistry(): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'warifu_' });
  return registry;
}

/** Serves a process's metrics at `/metrics`, on a port of their own: they are the operator's, not the public's. */
export async function serveMetrics(
  registry: Registry,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<{ readonly address: string; close(): Promise<void> }> {
  const server = createServer((request, response) => {
    if (request.url !== '/metrics' || request.method !== 'GET') {
      response.writeHead(404, { 'Content-Length': 0 }).end();
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
