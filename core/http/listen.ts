import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { PkiError } from '../runtime/errors.ts';

/** Why a port cannot be had, in words of an operator. */
const refusals: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process listens there',
  EADDRNOTAVAIL: 'this machine has no such address',
  EACCES: 'this user may not listen there',
  ENOTFOUND: 'the name has no address',
};

/** `in-use` for what an operator can mend; anything else as it is. */
export function listenError(error: NodeJS.ErrnoException, host: string, port: number): Error {
  const why = refusals[error.code ?? ''];
  if (why === undefined) return error;
  return new PkiError('in-use', `cannot listen at ${host}:${port}: ${why} (${error.code})`, { cause: error });
}

/** Listens and returns `http://host:port`. Rejects with `in-use` where the port cannot be had. */
export async function listen(
  server: Server,
  host: string,
  port: number,
  sharing: 'alone' | 'shared' = 'alone',
): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    const refused = (error: NodeJS.ErrnoException): void => reject(listenError(error, host, port));
    server.once('error', refused);
    server.listen({ host, port, reusePort: sharing === 'shared' }, () => {
      server.off('error', refused);
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
export const drainMs = 1500;

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
