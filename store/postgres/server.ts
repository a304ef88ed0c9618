import type { ConnectionOptions } from 'node:tls';

/** Where the server is, and who asks. */
export interface PostgresServer {
  /** Tried in this order until one is found that is not a standby. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly database: string;
  readonly user: string;
  /** Read for each connection. */
  readonly password?: () => string;
  readonly tls?: ConnectionOptions;
}

/** The same as data, for another thread. */
export type PlainServer = Omit<PostgresServer, 'password'> & { readonly password: string | null };

export const plainServer = (server: PostgresServer): PlainServer => ({
  ...server,
  password: server.password?.() ?? null,
});

export const serverOf = ({ password, ...server }: PlainServer): PostgresServer => ({
  ...server,
  ...(password === null ? {} : { password: () => password }),
});
