import type { Socket } from 'node:net';
import { parseSimpleHead, type SimpleHead } from './http-head.ts';

/** How requests in simple forms are answered: `Target` is what a head asks for, `Answer` what it gets. */
export interface SimpleHandler<Target, Answer> {
  /** Content type of the requests that come by POST; null where none do. */
  readonly posted: string | null;
  /** What a head asks for; undefined where node:http is to answer. */
  recognize(head: SimpleHead): Target | undefined;
  /** Answers by `done`, now or later. `body` is empty for GET. */
  ask(target: Target, head: SimpleHead, body: Buffer, done: (answer: Answer) => void): void;
  /** Appends an answer, head and body, to what is about to be written. */
  append(out: Buffer[], answer: Answer, head: SimpleHead): void;
}

/** What the connections of one thread share. */
export interface ConnectionContext<Target, Answer> {
  readonly handler: SimpleHandler<Target, Answer>;
  /** Monotonic milliseconds, as of a second ago at most: for the patience with clients. */
  coarseMs(): number;
  /** Has `flush` called soon, once for all that is answered by then. */
  flushSoon(connection: Connection<Target, Answer>): void;
  /** For whatever is not one of the simple forms: node:http goes on with the connection from its next octet. */
  handOver(socket: Socket): void;
}

const endOfHead = '\r\n\r\n';
const bareLineFeed = /(^|[^\r])\n/;
/** As node:http allows. */
const headOctetsMax = 16_384;
/** Parts of answers that are gathered for one client before they are written. */
const answersMax = 64;
/** How long a request may take to arrive, and how long a client may take to read a slice of its answer. */
const patienceMs = 10_000;
/** A slice: of a large answer the client gets one when it has taken the one before. */
const sliceOctets = 262_144;
/** How long a connection may be idle. */
const idleMs = 60_000;

interface KnownHead<Target> {
  readonly octets: Buffer;
  readonly head: SimpleHead;
  readonly target: Target;
}

/**
 * A client's connection, for as long as it sends requests in the simple forms that most clients use; one request at a
 * time, answered in the order in which they came. Answers are gathered and written once a turn: writing between two
 * signatures costs a third of their number.
 */
export class Connection<Target, Answer> {
  readonly #socket: Socket;
  readonly #context: ConnectionContext<Target, Answer>;
  readonly #done: () => void;
  #unread: Buffer | undefined;
  #known: KnownHead<Target> | undefined;
  #current: SimpleHead | undefined;
  #out: Buffer[] = [];
  /** Slices that the client is not ready for yet. */
  #slices: Buffer[] = [];
  #isProceeding = false;
  /** Nothing more is read. */
  #isEnding = false;
  #hasEnded = false;
  /** It is node:http's now. */
  #isHandedOver = false;
  #isBlocked = false;
  /** Since when something is awaited of the client. */
  #sinceMs: number;

  constructor(socket: Socket, context: ConnectionContext<Target, Answer>, done: () => void) {
    this.#socket = socket;
    this.#context = context;
    this.#done = done;
    this.#sinceMs = context.coarseMs();
    socket.on('data', this.#onData);
    socket.on('end', this.#onEnd);
    socket.on('drain', this.#onDrain);
    socket.on('close', this.#done);
    socket.on('error', this.#onError);
  }

  /** Cuts off whoever keeps us waiting. */
  checkPatience(nowMs: number): void {
    if (this.#current && !this.#isBlocked) return;
    const isIdle = !this.#unread && !this.#isBlocked;
    if (nowMs - this.#sinceMs > (isIdle ? idleMs : patienceMs)) this.#socket.destroy();
  }

  /** Ends once what has been asked is answered and written. */
  close(): void {
    this.#isEnding = true;
    if (!this.#isAtWork && !this.#isBlocked) this.#socket.destroy();
  }

  /** Ends now. */
  cutOff(): void {
    this.#socket.destroy();
  }

  /** Writes what has been answered, and goes on with what has been sent since. */
  flush(): void {
    const socket = this.#socket;
    if (!socket.writable || this.#isHandedOver) return;
    this.#write();
    this.#proceed();
    if (this.#isAtWork || this.#isHandedOver) return;
    if (this.#isEnding || this.#hasEnded) this.#end();
    else if (this.#isBlocked) socket.pause();
  }

  /**
   * A client that wanted one answer waits for our end alone: a connection costs a good deal less if we do not wait for
   * its. Only where everything is with the kernel, and nothing that came from the client is lost by it.
   */
  #end(): void {
    const socket = this.#socket;
    if (socket.writableLength === 0 && !this.#unread) setImmediate(this.#destroy);
    else if (!socket.writableEnded) socket.end();
  }

  /** Whether something is still to be answered, or to be written. */
  get #isAtWork(): boolean {
    return this.#current !== undefined || this.#out.length > 0 || this.#slices.length > 0;
  }

  #write(): void {
    const out = this.#out;
    this.#out = [];
    if (out.length > 1) this.#socket.cork();
    for (const octets of out) {
      if (octets.length <= sliceOctets && this.#slices.length === 0)
        this.#isBlocked = !this.#socket.write(octets);
      else this.#slices.push(...slicesOf(octets));
    }
    if (out.length > 1) this.#socket.uncork();
    if (this.#slices.length > 0) this.#writeSlice();
  }

  #writeSlice(): void {
    const slice = this.#slices.shift();
    // Blocked until the last is written too: what is asked meanwhile is answered behind it.
    if (slice) this.#isBlocked = !this.#socket.write(slice) || this.#slices.length > 0;
    if (slice && this.#slices.length > 0 && !this.#socket.writableNeedDrain) setImmediate(this.#onDrain);
  }

  readonly #onData = (chunk: Buffer): void => {
    if (!this.#unread) this.#sinceMs = this.#context.coarseMs();
    this.#unread = this.#unread ? Buffer.concat([this.#unread, chunk]) : chunk;
    // A client that sends ahead waits until we have caught up.
    if (this.#current) this.#socket.pause();
    else this.#proceed();
  };

  /** The client sends no more; what it has sent is answered. */
  readonly #onEnd = (): void => {
    this.#hasEnded = true;
    if (!this.#isAtWork && !this.#socket.writableEnded) this.#socket.end();
  };

  readonly #onDrain = (): void => {
    this.#isBlocked = false;
    this.#sinceMs = this.#context.coarseMs();
    if (this.#slices.length > 0) {
      this.#writeSlice();
      if (this.#isBlocked) return;
    }
    this.#socket.resume();
    this.#proceed();
    if (!this.#isAtWork && (this.#isEnding || this.#hasEnded) && !this.#isHandedOver) this.#end();
  };

  readonly #destroy = (): void => {
    this.#socket.destroy();
  };

  /** The client has gone, and with it whoever could be told. */
  readonly #onError = this.#destroy;

  readonly #onAnswer = (answer: Answer): void => {
    const head = this.#current;
    this.#current = undefined;
    if (!head || this.#socket.destroyed) return;
    if (!head.keepAlive) this.#isEnding = true;
    this.#sinceMs = this.#context.coarseMs();
    this.#context.handler.append(this.#out, answer, head);
    this.#context.flushSoon(this);
    if (this.#isProceeding) return;
    this.#socket.resume();
    this.#proceed();
  };

  /** Asks what has arrived whole, as far as each is answered at once. */
  #proceed(): void {
    this.#isProceeding = true;
    while (this.#unread && !this.#current && !this.#isEnding && !this.#isBlocked) {
      if (this.#out.length >= answersMax || !this.#takeRequest(this.#unread)) break;
    }
    this.#isProceeding = false;
  }

  /** Takes one request off what is unread; false where it is not there yet, or is for node:http. */
  #takeRequest(unread: Buffer): boolean {
    const known = this.#headOf(unread);
    if (!known) return false;
    const { head, target, octets } = known;
    const end = octets.length + head.length;
    if (unread.length < end) return false;
    this.#unread = unread.length === end ? undefined : unread.subarray(end);
    this.#current = head;
    this.#context.handler.ask(target, head, unread.subarray(octets.length, end), this.#onAnswer);
    return true;
  }

  /** A client sends one head again and again: comparing is cheaper than reading. */
  #headOf(unread: Buffer): KnownHead<Target> | undefined {
    const known = this.#known;
    if (
      known &&
      unread.length >= known.octets.length &&
      unread.compare(known.octets, 0, known.octets.length, 0, known.octets.length) === 0
    ) {
      return known;
    }
    const end = unread.indexOf(endOfHead);
    if (end < 0) {
      // Lines that end otherwise may never come to what we look for.
      if (unread.length > headOctetsMax || bareLineFeed.test(unread.toString('latin1'))) this.#handOver();
      return undefined;
    }
    const { handler } = this.#context;
    const head = parseSimpleHead(unread.toString('latin1', 0, end), handler.posted);
    const target = head && handler.recognize(head);
    if (!head || target === undefined) {
      this.#handOver();
      return undefined;
    }
    this.#known = { octets: Buffer.from(unread.subarray(0, end + endOfHead.length)), head, target };
    return this.#known;
  }

  #handOver(): void {
    const socket = this.#socket;
    socket.off('data', this.#onData);
    socket.off('end', this.#onEnd);
    socket.off('drain', this.#onDrain);
    socket.off('close', this.#done);
    socket.off('error', this.#onError);
    this.#write();
    // What is answered next is behind all of it.
    for (const slice of this.#slices.splice(0)) socket.write(slice);
    this.#isHandedOver = true;
    this.#isEnding = true;
    this.#done();
    const unread = this.#unread;
    this.#unread = undefined;
    // Paused, so that what is put back comes before what the parser then takes from the socket itself.
    socket.pause();
    this.#context.handOver(socket);
    if (unread) socket.unshift(unread);
    socket.resume();
  }
}

function* slicesOf(octets: Buffer): Iterable<Buffer> {
  for (let at = 0; at < octets.length; at += sliceOctets) yield octets.subarray(at, at + sliceOctets);
}
