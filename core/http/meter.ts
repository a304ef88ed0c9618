import type { Socket } from 'node:net';

// node:http processes all requests that a connection has buffered in one turn of the event loop. A client that pipelines tens
// of thousands of small requests blocks all other connections of the thread. Therefore node:http receives the octets of each
// connection in slices, scheduled round-robin, and a limited number of unanswered requests for each connection.

/** Octets in one slice: some dozen of the smallest requests. */
const sliceOctets = 1024;
/** Unanswered requests of one connection before it is read further. */
const unansweredMax = 16;
/** Time for slices in one turn of the event loop, in milliseconds. */
const turnMs = 2;

type Receive = (octets: Buffer) => void;

/** A connection that node:http reads. */
export class Metered {
  readonly #socket: Socket;
  readonly #receive: Receive;
  readonly #turns: Turns;
  #waiting: Buffer[] = [];
  #unanswered = 0;
  #isEnded = false;

  constructor(socket: Socket, turns: Turns) {
    this.#socket = socket;
    this.#turns = turns;
    const listeners = socket.listeners('data') as Receive[];
    const ends = socket.listeners('end') as (() => void)[];
    this.#receive = (octets) => {
      for (const listener of listeners) listener.call(socket, octets);
    };
    for (const listener of listeners) socket.off('data', listener);
    // node:http must see the end of input after all octets before it.
    for (const listener of ends) socket.off('end', listener);
    socket.on('data', (octets: Buffer) => {
      this.#waiting.push(octets);
      socket.pause();
      turns.wants(this);
    });
    // node:http resumes the socket when responses drain; buffered octets have to be processed first.
    socket.on('resume', () => {
      if (this.#waiting.length > 0) socket.pause();
    });
    socket.on('end', () => {
      this.#isEnded = true;
      this.#end = () => {
        for (const listener of ends) listener.call(socket);
      };
      turns.wants(this);
    });
  }

  #end: () => void = () => undefined;

  /** Counts a request that was read; `answered` ends it. */
  asked(): void {
    this.#unanswered += 1;
  }

  answered(): void {
    this.#unanswered -= 1;
    if (this.#waiting.length > 0 || this.#isEnded) this.#turns.wants(this);
  }

  /** Passes the next slice to node:http. Returns whether another slice is ready. */
  giveSlice(): boolean {
    if (this.#socket.destroyed) {
      this.#waiting = [];
      return false;
    }
    if (this.#unanswered >= unansweredMax) return false;
    const next = this.#waiting[0];
    if (next === undefined) {
      if (this.#isEnded) this.#finish();
      else this.#socket.resume();
      return false;
    }
    if (next.length > sliceOctets) this.#waiting[0] = next.subarray(sliceOctets);
    else this.#waiting.shift();
    this.#receive(next.length > sliceOctets ? next.subarray(0, sliceOctets) : next);
    return true;
  }

  #finish(): void {
    const end = this.#end;
    this.#end = () => undefined;
    end();
  }
}

/** Round-robin scheduler for the metered connections of a thread. */
export class Turns {
  readonly #clock: { monotonicMs(): number };
  readonly #wanting = new Set<Metered>();
  #isScheduled = false;

  constructor(clock: { monotonicMs(): number }) {
    this.#clock = clock;
  }

  wants(connection: Metered): void {
    this.#wanting.add(connection);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => this.#take());
  }

  #take(): void {
    this.#isScheduled = false;
    const endMs = this.#clock.monotonicMs() + turnMs;
    for (const connection of this.#wanting) {
      this.#wanting.delete(connection);
      // Re-queue behind all other connections.
      if (connection.giveSlice()) this.#wanting.add(connection);
      if (this.#clock.monotonicMs() >= endMs) break;
    }
    if (this.#wanting.size === 0) return;
    this.#isScheduled = true;
    setImmediate(() => this.#take());
  }
}
