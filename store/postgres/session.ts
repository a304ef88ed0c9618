import type { Writable } from 'node:stream';
import pg from 'pg';
import { PkiError } from '../../core/runtime/errors.ts';
import type { PostgresServer } from './server.ts';
import { parsers } from './values.ts';

/** A write of a few octets, which takes no table: it is committed like all others, after whatever a synchronous standby has to have. */
export const writeNothing = `SELECT pg_logical_emit_message(true, 'warifu', '')`;

/** Settings of all connections, whatever the database or the role has as defaults. */
const settingsOfAll = { bytea_output: 'hex', default_transaction_read_only: 'off' };

/** Settings of connections that only read. */
export const readerSettings = { statement_timeout: '15000', tcp_user_timeout: '5000', enable_seqscan: 'off' };

/** How long connecting, and an answer, may take: behind that the connection is given up. */
const [connectMs, answerMs] = [5000, 15_000];
/** How long a connection may take to end. */
const closedMs = 2000;

/** Names of prepared statements, by their text; there are as many as this software has shapes of statements. */
const names = new Map<string, string>();

function nameOfStatement(text: string): string {
  const known = names.get(text);
  if (known !== undefined) return known;
  const name = `w${names.size}`;
  names.set(text, name);
  return name;
}

export interface Answer {
  readonly rows: readonly (readonly unknown[])[];
  /** `INSERT`, `COMMIT`: the first word of the command's tag. */
  readonly command: string;
}

/**
 * One connection. Queries are sent at once, one behind the other, without waiting for answers (pipelining), and answered in order. A query that
 * fails outside of a transaction does not keep the next from running; within one, all that follow fail.
 */
export class Session {
  readonly #client: pg.Client;
  #isLost = false;
  #isHeld = false;
  #flushes = 0;

  private constructor(client: pg.Client) {
    this.#client = client;
    // Every query under way is rejected with it, too.
    client.on('error', () => {
      this.#isLost = true;
    });
    client.on('end', () => {
      this.#isLost = true;
    });
  }

  /** Connects to the first of the hosts that can be written to. Rejects with `record-unavailable`. `settings` are the session's. */
  static async open(
    server: PostgresServer,
    {
      name,
      settings = {},
      answeredMs = answerMs,
    }: {
      readonly name: string;
      readonly settings?: Readonly<Record<string, string>>;
      /** How long an answer may take. */
      readonly answeredMs?: number;
    },
  ): Promise<Session> {
    const failures: string[] = [];
    for (const { host, port } of server.hosts) {
      try {
        const session = await Session.#connect(server, { host, port, name, settings, answeredMs });
        const { rows } = await session.query('SELECT pg_is_in_recovery()');
        if (rows[0]?.[0] === false) return session;
        session.destroy();
        failures.push(`${host}:${port} is a standby`);
      } catch (error) {
        // What is wrong here is no server's fault.
        if (error instanceof PkiError) throw error;
        failures.push(`${host}:${port}: ${explained(error as Error)}`);
      }
    }
    throw new PkiError(
      'record-unavailable',
      `no PostgreSQL server can be written to: ${failures.join('; ')}`,
    );
  }

  static async #connect(
    server: PostgresServer,
    at: {
      readonly host: string;
      readonly port: number;
      readonly name: string;
      readonly settings: Readonly<Record<string, string>>;
      readonly answeredMs: number;
    },
  ): Promise<Session> {
    const { database, user, password, tls } = server;
    const client = new pg.Client({
      ...{ host: at.host, port: at.port, database, user, application_name: at.name },
      ...(password ? { password: password() } : {}),
      ...(tls ? { ssl: tls } : {}),
      ...{ connectionTimeoutMillis: connectMs, query_timeout: at.answeredMs, keepAlive: true },
      keepAliveInitialDelayMillis: 1000,
      pipeline: true,
      types: parsers,
      options: Object.entries({ ...settingsOfAll, ...at.settings })
        .map(([key, value]) => `-c ${key}=${value}`)
        .join(' '),
    } as pg.ClientConfig);
    const session = new Session(client);
    try {
      await client.connect();
    } catch (error) {
      session.destroy();
      throw error;
    }
    return session;
  }

  get isLost(): boolean {
    return this.#isLost;
  }

  /** How often something was sent: all that is asked in one turn goes together. */
  get flushes(): number {
    return this.#flushes;
  }

  /** Rejects with what the server says (`stateOf`), or with what the socket says where the connection is gone. A statement with values is prepared once. */
  async query(text: string, values: readonly unknown[] = []): Promise<Answer> {
    this.#sendTogether();
    const prepared = values.length > 0 ? { name: nameOfStatement(text), values: values as unknown[] } : {};
    try {
      const { rows, command } = await this.#client.query({ text, ...prepared, rowMode: 'array' });
      return { rows, command };
    } catch (error) {
      // What has no state is no answer: what comes behind it would be taken for one.
      if (stateOf(error) === undefined && !(error instanceof RangeError)) this.destroy();
      throw withoutValues(error);
    }
  }

  /** Has `heard` called with each message on a channel, for as long as the connection lasts. */
  async listen(channel: string, heard: (text: string) => void): Promise<void> {
    this.#client.on('notification', ({ payload = '' }) => heard(payload));
    await this.query(`LISTEN ${channel}`);
  }

  /** What is asked before anything is waited for goes out in one write. */
  #sendTogether(): void {
    if (this.#isHeld) return;
    this.#isHeld = true;
    this.#flushes += 1;
    const stream = this.#stream;
    stream.cork();
    process.nextTick(() => {
      this.#isHeld = false;
      stream.uncork();
    });
  }

  /** The socket; another one once it speaks TLS. */
  get #stream(): Writable {
    return (this.#client as unknown as { connection: { stream: Writable } }).connection.stream;
  }

  /** Ends the connection without waiting for anything: what is under way is rejected, and the server rolls back. */
  destroy(): void {
    this.#isLost = true;
    void this.#client.end().catch(() => undefined);
    (
      this.#client as unknown as { connection?: { stream?: { destroy(): void } } }
    ).connection?.stream?.destroy();
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    if (this.#isLost) return this.destroy();
    this.#isLost = true;
    // A peer that is gone without a word ends nothing.
    const timer = setTimeout(() => this.destroy(), closedMs);
    await this.#client.end().catch(() => undefined);
    clearTimeout(timer);
  }
}

/** What the driver says, with what to do about it. */
function explained({ message }: Error): string {
  if (/does not support SSL/.test(message))
    return `${message}: set it up there, or "tls": "off" (--no-tls) for a server on this machine`;
  if (/certificate|self-signed/i.test(message))
    return `${message.split(';')[0]}: name the authority of the server's certificate in record.postgres.ca (--ca)`;
  return message;
}

/** Classes of SQLSTATE (PostgreSQL, appendix A) that say the database is at fault, and not what it was asked. */
const unavailable: Readonly<Record<string, string>> = {
  '08': 'the connection to the database failed',
  '53': 'the database has no room, or no connections left',
  '57': 'the database is shutting down, or gave the statement up',
  '58': 'the disk of the database failed',
  XX: 'the database is damaged',
  '25': 'the database cannot be written',
  '28': 'the database refuses this user',
};

export const stateOf = (error: unknown): string | undefined => {
  const { code, severity } = (error ?? {}) as { code?: unknown; severity?: unknown };
  // Errors of sockets have codes, too.
  return typeof code === 'string' && severity !== undefined ? code : undefined;
};

/** What the driver reports, without the values of rows that the server names in details. */
function withoutValues(error: unknown): unknown {
  const state = stateOf(error);
  if (state === undefined) return error;
  const { message, severity } = error as Error & { severity: string };
  return Object.assign(new Error(message), { code: state, severity });
}

/**
 * Whether the server says that it did not do what it was asked. A server that is shutting down (57P..) does not say whether it did, and a socket says
 * nothing.
 */
export function isRefusal(error: unknown): boolean {
  const state = stateOf(error);
  return state !== undefined && !state.startsWith('57P');
}

/**
 * Whether a statement failed because of others that came at the same time: it may be run again. 22012 is what `writes.ts` has the server say
 * where a row is not as it was read.
 */
export const isContention = (error: unknown): boolean =>
  ['40001', '40P01', '55P03', '22012'].includes(stateOf(error) ?? '');

/** Gives what cannot be used as `record-unavailable`. */
export function translate(error: unknown): unknown {
  if (error instanceof PkiError) return error;
  if (error instanceof RangeError)
    return new PkiError('record-unavailable', `the record was altered: ${error.message}`, { cause: error });
  const state = stateOf(error);
  const { message } = error as Error;
  // A table or column that there is not.
  if (state === '42P01' || state === '42703')
    return new PkiError('record-unavailable', `the record was altered: ${message}`, { cause: error });
  if (state === undefined)
    return error instanceof Error &&
      /terminated|timeout|ECONN|EPIPE|ENET|EHOST|ETIMEDOUT|not queryable|closed/i.test(message)
      ? new PkiError('record-unavailable', `the connection to the database failed: ${message}`, {
          cause: error,
        })
      : error;
  // Data exceptions: a number or a text that no column can have.
  if (state.startsWith('22') && state !== '22012')
    return new PkiError('bad-request', `a value that the record cannot keep: ${message}`, { cause: error });
  const what = unavailable[state.slice(0, 2)];
  return what === undefined
    ? error
    : new PkiError('record-unavailable', `${what}: ${message}`, { cause: error });
}
