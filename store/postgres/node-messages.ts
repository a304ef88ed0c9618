import type { Logger } from 'pino';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { FailureLog } from '../../core/runtime/failure-log.ts';
import type { Positions } from '../api/nodes.ts';
import type { Session } from './session.ts';

// What CA nodes say to each other, over a connection beside those that write: how far the followers of each have come. The server keeps none
// of it. A message that a node missed is asked for: who has connected asks all others to say theirs again.

const channel = 'warifu_nodes';
/** So often at most; a notification takes a lock of the whole server. */
const everyMs = 10;
/** A server refuses longer ones: 8000 octets. */
const octetsMax = 7900;

interface Message {
  readonly node: string;
  /** What all its followers have applied. */
  readonly positions: Positions;
  /** What it knows to be on record; absent where that is the same, and in what an earlier version says. */
  readonly known?: Positions;
  /** Whether others are to say theirs. */
  readonly asks: boolean;
}

export class NodeMessages {
  readonly #node: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #open: () => Promise<Session>;
  readonly #heard: (node: string, positions: Positions, known: Positions) => void;
  #session: Promise<Session> | undefined;
  #positions: Positions = {};
  #known: Positions = {};
  #said = '';
  #saidMs = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  readonly #tooLong: FailureLog;
  #isClosed = false;

  constructor(options: {
    readonly node: string;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly open: () => Promise<Session>;
    /** Called for each message of another node. */
    readonly heard: (node: string, positions: Positions, known: Positions) => void;
  }) {
    this.#node = options.node;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#tooLong = new FailureLog(
      options.logger,
      'other nodes cannot be told how far this one has come: the record has too many writers, and revocations wait',
    );
    this.#open = options.open;
    this.#heard = options.heard;
  }

  /** Says what this node knows and how far its followers have come, soon, if it is something else than before. */
  announce(known: Positions, positions: Positions): void {
    this.#positions = positions;
    this.#known = known;
    if (this.#content !== this.#said) this.#soon();
  }

  get #content(): string {
    const positions = JSON.stringify(this.#positions);
    const known = JSON.stringify(this.#known);
    return known === positions ? `"positions":${positions}` : `"positions":${positions},"known":${known}`;
  }

  /** Uses the connection, opened again where it was lost. */
  async within<R>(act: (session: Session) => Promise<R>): Promise<R> {
    return act(await this.#connected());
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    const session = await this.#session?.catch(() => undefined);
    await session?.close();
  }

  #soon(): void {
    if (this.#isClosed) return;
    const waitMs = Math.max(0, this.#saidMs + everyMs - this.#clock.monotonicMs());
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#say(false).catch((error: Error) =>
        this.#logger.warn(
          { reason: error.message },
          'other nodes cannot be told how far this one has come; it is tried again',
        ),
      );
    }, waitMs).unref();
  }

  async #say(asks: boolean): Promise<void> {
    this.#saidMs = this.#clock.monotonicMs();
    const session = await this.#connected();
    await this.#sayOver(session, asks);
  }

  async #sayOver(session: Session, asks: boolean): Promise<void> {
    const content = this.#content;
    const text = `{"node":${JSON.stringify(this.#node)},"asks":${asks},${content}}`;
    // Nothing else is to fail for it: others wait as for a node that says nothing.
    if (text.length > octetsMax) return this.#tooLong.failed(new Error(`${text.length} octets`));
    await session.query('SELECT pg_notify($1, $2)', [channel, text]);
    this.#said = content;
  }

  async #connected(): Promise<Session> {
    if (this.#isClosed) throw new PkiError('record-unavailable', 'the record is closed');
    const before = this.#session;
    if (before) {
      const session = await before.catch(() => undefined);
      if (session && !session.isLost) return session;
    }
    // Another caller may have begun meanwhile.
    if (this.#session === before) this.#session = this.#connect();
    return this.#session as Promise<Session>;
  }

  async #connect(): Promise<Session> {
    const session = await this.#open();
    try {
      await session.listen(channel, (text) => this.#received(text));
      await this.#sayOver(session, true);
      return session;
    } catch (error) {
      session.destroy();
      throw error;
    }
  }

  /** Anyone who may use the database can send one: what is none of ours is passed over. */
  #received(text: string): void {
    const message = messageIn(text);
    if (!message || message.node === this.#node) return;
    if (message.asks) {
      this.#said = '';
      this.#soon();
    }
    this.#heard(message.node, message.positions, message.known ?? message.positions);
  }
}

function messageIn(text: string): Message | undefined {
  try {
    const { node, positions, known, asks } = JSON.parse(text) as Partial<Message>;
    const isOurs =
      typeof node === 'string' &&
      typeof asks === 'boolean' &&
      arePositions(positions) &&
      (known === undefined || arePositions(known));
    return isOurs ? { node, positions, asks, ...(known ? { known } : {}) } : undefined;
  } catch {
    return undefined;
  }
}

/** Whether something that was received says how far each writer's events go. */
export const arePositions = (value: unknown): value is Positions =>
  typeof value === 'object' &&
  value !== null &&
  Object.values(value).every((position) => Number.isSafeInteger(position));
