import type { Socket } from 'node:net';
import { parseSimpleHead, type SimpleHead } from './http-head.ts';
import { ReceiveBuffer } from './receive-buffer.ts';

/** How requests in simple forms are answered: `Target` is what a head asks for, `Answer` what it gets. */
export interface SimpleHandler<Target, Answer> {
  /** Content type of the requests that come by POST; null where none do. */
  readonly posted: string | null;
  /** What is answered where `ask` throws. */
  readonly failure: Answer;
  /** What a head asks for; undefined where node:http is to answer. */
  recognize(head: SimpleHead): Target | undefined;
  /** Whether a request for what was recognized is answered now: asked for each, for a head is read once and sent many times. */
  admits(target: Target): boolean;
  /** Answers by `done`, once, now or later. `body` is empty for GET. */
  ask(target: Target, head: SimpleHead, body: Buffer, done: (answer: Answer) => void): void;
  /** Appends an answer, head and body, to what is about to be written. */
  append(out: Buffer[], answer: Answer, head: SimpleHead): void;
}

/** What the connections of one thread share. */
export interface ConnectionContext<Target, Answer> {
  readonly handler: SimpleHandler<Target, Answer>;
  /** Monotonic milliseconds, as of a second ago at most: for time limits. */
  coarseMs(): number;
  /** Has `flush` called soon, once for all that is answered by then. */
  flushSoon(connection: Connection<Target, Answer>): void;
  /** For whatever is not one of the simple forms: node:http continues with the connection from its next octet. */
  handOver(socket: Socket): void;
  /** Receives what was thrown while a connection was served. */
  failed(error: unknown): void;
  /** Receives +1 when a connection begins to hold octets that the kernel has not taken, -1 when it holds none. */
  unsentChanged(by: 1 | -1): void;
}

const endOfHead = '\r\n\r\n';
/** As node:http allows. */
const headOctetsMax = 16_384;
/** Parts of answers that are gathered for one client before they are written. */
const answersMax = 64;
/** How long a request may take to arrive, and how long a client may take to read a slice of its answer. */
const timeoutMs = 10_000;
/** A slice: of a large answer the client gets one when it has taken the one before. */
const sliceOctets = 262_144;
/** How long a connection may be idle. */
const idleMs = 60_000;
/** Octets that are read and dropped behind the last request of a connection, before it is cut. */
const discardedMax = 65_536;

interface KnownHead<Target> {
  readonly octets: Buffer;
  readonly head: SimpleHead;
  target: Target;
}

/**
 * A client's connection, for as long as it sends requests in the simple forms that most clients use; one request at a
 * time, answered in the order in which they came. Answers are gathered and written once a turn: writing between two
 * signatures costs a third of their number.
 *
 * Invariants:
 * - Whatever is thrown while a connection is served ends that request or that connection, never the thread.
 * - Input is read only while it can be used. What arrived and cannot be used yet goes back to the socket, which is paused:
 *   the end of input is then seen behind it, and memory is bounded by one request and one chunk.
 * - Each octet is copied and searched a bounded number of times, however small the pieces in which a request arrives.
 */
export class Connection<Target, Answer> {
  readonly #socket: Socket;
  readonly #context: ConnectionContext<Target, Answer>;
  readonly #done: () => void;
  /** The beginning of a request; while the socket is paused, empty. */
  readonly #received = new ReceiveBuffer();
  /** How far `#received` was searched for the end of a head. */
  #searched = 0;
  #known: KnownHead<Target> | undefined;
  #current: SimpleHead | undefined;
  #out: Buffer[] = [];
  /** Slices that the client is not ready for yet. */
  #slices: Buffer[] = [];
  /** Requests taken: the number of one identifies its answer. */
  #requests = 0;
  #isTaking = false;
  #isPaused = false;
  /** No further request is read. */
  #isEnding = false;
  /** The client sends no more. */
  #hasEnded = false;
  /** It is node:http's now. */
  #isHandedOver = false;
  #isBlocked = false;
  #hasUnsent = false;
  #discarded = 0;
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
    socket.on('close', this.#onClose);
    socket.on('error', this.#destroy);
  }

  /** Cuts a connection whose client keeps it waiting too long. */
  checkTimeout(nowMs: number): void {
    if (this.#current && !this.#isBlocked) return;
    const isIdle = this.#received.length === 0 && !this.#isBlocked && !this.#isEnding && !this.#isPaused;
    if (nowMs - this.#sinceMs > (isIdle ? idleMs : timeoutMs)) this.#socket.destroy();
  }

  /** Ends once what has been asked is answered and written. */
  close(): void {
    this.#isEnding = true;
    if (!this.#isAtWork && !this.#isBlocked) this.#socket.destroy();
  }

  /** Ends now. */
  destroy(): void {
    this.#socket.destroy();
  }

  /** Writes what has been answered, and continues with what has been sent since. */
  flush(): void {
    this.#guarded(() => {
      if (!this.#socket.writable || this.#isHandedOver) return;
      this.#write();
      this.#proceed();
    });
  }

  /** Whether something is still to be answered, or to be written. */
  get #isAtWork(): boolean {
    return this.#current !== undefined || this.#out.length > 0 || this.#slices.length > 0;
  }

  /** Whether the next request could be taken now. */
  get #isReady(): boolean {
    return !this.#current && !this.#isBlocked && !this.#isEnding && this.#out.length < answersMax;
  }

  #guarded(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    this.#context.failed(error);
    this.#socket.destroy();
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
    this.#countUnsent();
  }

  #writeSlice(): void {
    const slice = this.#slices.shift();
    // Blocked until the last is written too: what is asked meanwhile is answered behind it.
    if (slice) this.#isBlocked = !this.#socket.write(slice) || this.#slices.length > 0;
    if (slice && this.#slices.length > 0 && !this.#socket.writableNeedDrain) setImmediate(this.#onDrain);
  }

  #countUnsent(): void {
    const hasUnsent = this.#socket.writableLength > 0 && !this.#socket.destroyed;
    if (hasUnsent === this.#hasUnsent) return;
    this.#hasUnsent = hasUnsent;
    this.#context.unsentChanged(hasUnsent ? 1 : -1);
    // Below the mark at which the stream would emit 'drain' nothing else shows that the kernel has taken it.
    if (hasUnsent) this.#socket.write('', this.#onSent);
  }

  readonly #onSent = (): void => {
    if (!this.#isHandedOver) this.#countUnsent();
  };

  readonly #onData = (chunk: Buffer): void => {
    try {
      if (this.#received.length === 0 && !this.#isEnding) this.#sinceMs = this.#context.coarseMs();
      this.#received.append(chunk);
      this.#proceed();
    } catch (error) {
      this.#fail(error);
    }
  };

  /**
   * What follows the last request is read and dropped, since closing on unread input would take the answer back that is
   * under way (RFC 9112 §9.6); more than a little is not read.
   */
  #discard(): void {
    this.#discarded += this.#received.length;
    this.#received.clear();
    if (this.#discarded <= discardedMax) return;
    if (this.#isAtWork || this.#isBlocked) this.#pause();
    else this.#socket.destroy();
  }

  /** The client sends no more; what it has sent is answered. */
  readonly #onEnd = (): void => {
    this.#guarded(() => {
      this.#hasEnded = true;
      this.#endIfDone();
    });
  };

  readonly #onDrain = (): void => {
    this.#guarded(() => {
      if (this.#isHandedOver || this.#socket.destroyed) return;
      this.#isBlocked = false;
      this.#sinceMs = this.#context.coarseMs();
      if (this.#slices.length > 0) this.#writeSlice();
      this.#proceed();
    });
  };

  readonly #onClose = (): void => {
    if (this.#hasUnsent) this.#context.unsentChanged(-1);
    this.#hasUnsent = false;
    this.#done();
  };

  readonly #destroy = (): void => {
    this.#socket.destroy();
  };

  #onAnswer(id: number, head: SimpleHead, answer: Answer): void {
    // A second answer to one request, or one that comes after the connection was lost.
    if (!this.#current || id !== this.#requests || this.#socket.destroyed) return;
    try {
      this.#current = undefined;
      if (!head.keepAlive) this.#isEnding = true;
      this.#sinceMs = this.#context.coarseMs();
      this.#context.handler.append(this.#out, answer, head);
      this.#context.flushSoon(this);
      if (!this.#isTaking) this.#proceed();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Takes what can be taken, reads where more can be used, and ends where nothing is left to do. */
  #proceed(): void {
    this.#isTaking = true;
    while (this.#received.length > 0 && this.#isReady && this.#takeRequest());
    this.#isTaking = false;
    if (this.#isHandedOver || this.#socket.destroyed) return;
    if (this.#isEnding) this.#discard();
    else if (this.#isReady) this.#resume();
    else if (this.#received.length > 0) this.#pause();
    this.#endIfDone();
  }

  /** Reads no more for now, and puts back what cannot be used yet. */
  #pause(): void {
    const rest = this.#received.view(0, this.#received.length);
    this.#received.clear();
    this.#searched = 0;
    if (!this.#isPaused) this.#socket.pause();
    this.#isPaused = true;
    if (rest.length > 0) this.#socket.unshift(rest);
  }

  #resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#socket.resume();
  }

  /**
   * A client that wanted one answer waits for our end alone: a connection costs a good deal less if we do not wait for
   * its. Only where everything is with the kernel, and nothing that came from the client is lost by it.
   */
  #endIfDone(): void {
    const socket = this.#socket;
    if (this.#isAtWork || this.#isBlocked || socket.writableEnded) return;
    if (!this.#isEnding && !this.#hasEnded) return;
    const isAllRead = this.#received.length === 0 && this.#discarded === 0 && socket.readableLength === 0;
    if (socket.writableLength === 0 && isAllRead) setImmediate(this.#destroy);
    else {
      socket.end();
      // Read on, so that the client's end is seen; what else it sends is dropped.
      this.#isEnding = true;
      this.#received.clear();
      this.#resume();
    }
  }

  /** Takes one request; not where it is not there yet, or is for node:http. */
  #takeRequest(): boolean | undefined {
    const known = this.#headOf();
    if (!known) return false;
    const { head, octets } = known;
    const end = octets.length + head.length;
    if (this.#received.length < end) return false;
    const target = this.#admitted(known);
    if (target === undefined) return this.#handOver();
    const body = this.#received.view(octets.length, end);
    this.#received.consume(end);
    this.#searched = 0;
    this.#current = head;
    const id = ++this.#requests;
    const done = (answer: Answer): void => this.#onAnswer(id, head, answer);
    try {
      this.#context.handler.ask(target, head, body, done);
    } catch (error) {
      this.#context.failed(error);
      done(this.#context.handler.failure);
    }
    return true;
  }

  /** What a head asks for now; undefined where node:http is to answer. */
  #admitted(known: KnownHead<Target>): Target | undefined {
    const { handler } = this.#context;
    if (handler.admits(known.target)) return known.target;
    // What was recognized may mean something else by now.
    const target = handler.recognize(known.head);
    if (target === undefined || !handler.admits(target)) return undefined;
    known.target = target;
    return target;
  }

  /** A client sends one head again and again: comparing is cheaper than reading. */
  #headOf(): KnownHead<Target> | undefined {
    const known = this.#known;
    if (known && this.#received.startsWith(known.octets)) return known;
    const octets = this.#received.view(0, this.#received.length);
    const from = Math.max(0, this.#searched - endOfHead.length + 1);
    const end = octets.indexOf(endOfHead, from, 'latin1');
    if (end < 0) {
      // Lines that end otherwise may never come to what we look for.
      if (octets.length > headOctetsMax || hasBareLineFeed(octets, this.#searched)) this.#handOver();
      this.#searched = octets.length;
      return undefined;
    }
    const { handler } = this.#context;
    const head = parseSimpleHead(octets.toString('latin1', 0, end), handler.posted);
    const target = head && handler.recognize(head);
    if (!head || target === undefined) return this.#handOver();
    this.#known = { octets: Buffer.from(octets.subarray(0, end + endOfHead.length)), head, target };
    return this.#known;
  }

  #handOver(): undefined {
    const socket = this.#socket;
    socket.off('data', this.#onData);
    socket.off('end', this.#onEnd);
    socket.off('drain', this.#onDrain);
    socket.off('close', this.#onClose);
    socket.off('error', this.#destroy);
    this.#write();
    // What is answered next is behind all of it.
    for (const slice of this.#slices.splice(0)) socket.write(slice);
    this.#isHandedOver = true;
    this.#isEnding = true;
    this.#onClose();
    const rest = this.#received.view(0, this.#received.length);
    this.#received.clear();
    // Paused, so that what is put back comes before what the parser then takes from the socket itself.
    socket.pause();
    this.#context.handOver(socket);
    if (rest.length > 0) socket.unshift(rest);
    socket.resume();
    return undefined;
  }
}

function* slicesOf(octets: Buffer): Iterable<Buffer> {
  for (let at = 0; at < octets.length; at += sliceOctets) yield octets.subarray(at, at + sliceOctets);
}

const [carriageReturn, lineFeed] = [0x0d, 0x0a];

/** Whether a line of what follows `from` ends without a carriage return. */
function hasBareLineFeed(octets: Buffer, from: number): boolean {
  let at = octets.indexOf(lineFeed, from);
  while (at >= 0) {
    if (at === 0 || octets[at - 1] !== carriageReturn) return true;
    at = octets.indexOf(lineFeed, at + 1);
  }
  return false;
}
