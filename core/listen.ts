import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Listens and returns `http://host:port`. Rejects where the port cannot be had. */
export async function listen(
  server: Server,
  host: string,
  port: number,
  sharing: 'alone' | 'shared' = 'alone',
): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, reusePort: sharing === 'shared' }, () => {
      server.off('error', reject);
      resolve();
    });
  });
  const address = server.address() as AddressInfo;
  return `http://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`;
}

/** Rejects where a port is not free: threads that share a port would share it with another process's too. */
export async function probePort(host: string, port: number): Promise<void> {
  const probe = createServer();
  await listen(probe, host, port);
  await closeServer(probe);
}

/** How long a connection may go on once its server stops. */
export const drainMs = 10_000;

/** Accepts no more, lets what is being answered finish, ends idle connections, and after a while all others. */
export async function closeServer(server: Server): Promise<void> {
  const deadline = setTimeout(() => server.closeAllConnections(), drainMs);
  try {
    await new Promise<void>((resolve, reject) => {
      server.close((error) => (error ? reject(error) : resolve()));
      server.closeIdleConnections();
    });
  } finally {
    clearTimeout(deadline);
  }
}
