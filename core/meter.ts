import type { Socket } from 'node:net';

// node:http works off whatever a connection has sent in one turn of the event loop, and a connection may have sent tens of
// thousands of small requests: nobody else is heard meanwhile. So each connection that node:http reads is given to it in
// slices, in turns with all others of the thread, and with few answers outstanding.

/** Octets of a connection that node:http gets at once: some dozen of the smallest requests. */
const sliceOctets = 1024;
/** Requests of a connection that may wait for their answers before more is read. */
const unansweredMax = 16;
/** How long slices are given out in one turn. */
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
    // That it has ended is news only once all before it has been read.
    for (const listener of ends) socket.off('end', listener);
    socket.on('data', (octets: Buffer) => {
      this.#waiting.push(octets);
      socket.pause();
      turns.wants(this);
    });
    // node:http resumes as answers leave; what waits here comes first.
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

  /** A request was read; its answer is outstanding until `answered`. */
  asked(): void {
    this.#unanswered += 1;
  }

  answered(): void {
    this.#unanswered -= 1;
    if (this.#waiting.length > 0 || this.#isEnded) this.#turns.wants(this);
  }

  /** Gives node:http the next slice. Whether there is another that it may have. */
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

/** The turns that the connections of a thread take. */
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
      // Behind all others, where it wants more.
      if (connection.giveSlice()) this.#wanting.add(connection);
      if (this.#clock.monotonicMs() >= endMs) break;
    }
    if (this.#wanting.size === 0) return;
    this.#isScheduled = true;
    setImmediate(() => this.#take());
  }
}
