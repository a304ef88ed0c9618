import autocannon from 'autocannon';

/** One request, and how its answer is judged. */
export interface CheckedRequest {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer | null;
  /** What is wrong with an answer; undefined where it is right. */
  readonly wrong: (status: number, body: Buffer) => string | undefined;
}

export interface CheckedLoad {
  /** Address of the server, without a path. */
  readonly url: string;
  /** Called for each request, before it is sent. */
  readonly next: () => CheckedRequest;
  readonly connections: number;
  /** Whether each request has a connection of its own. */
  readonly newConnections: boolean;
  /** Requests a second over all connections; null for as many as there can be. */
  readonly rate: number | null;
  readonly seconds: number;
  /** How long an answer may take. */
  readonly timeoutSeconds: number;
  readonly tls: { readonly cert?: string; readonly key?: string; readonly ca?: string } | null;
  /** Called once a second. */
  readonly progress: (second: Second) => void;
}

/** What happened within one second. */
export interface Second {
  readonly correct: number;
  readonly wrong: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface CheckedResult {
  readonly seconds: number;
  readonly correct: number;
  /** How many answers were wrong, by what was wrong. */
  readonly wrong: ReadonlyMap<string, number>;
  /** Why connections failed. */
  readonly failures: ReadonlyMap<string, number>;
  /** Connections that failed, and answers that did not come in time. */
  readonly errors: number;
  readonly timeouts: number;
  /** Of right answers, sorted, milliseconds. */
  readonly latenciesMs: Float64Array;
  readonly perSecond: readonly Second[];
}

interface State {
  request: CheckedRequest;
  status: number;
  sentMs: number;
  readonly parts: Buffer[];
}

/**
 * Loads a server by autocannon, and looks at each answer: what is wrong is no success, however fast it comes. One request at a time on each
 * connection.
 */
export async function loadAndCheck(load: CheckedLoad): Promise<CheckedResult> {
  const tally = new Tally();
  // autocannon builds a request of a client in the same turn in which that says that it will send one.
  let turn: State | undefined;
  let first: CheckedRequest | undefined;
  const setupRequest = (request: object): object => {
    const chosen = load.next();
    if (turn) turn.request = chosen;
    else first = chosen;
    turn = undefined;
    const { method, path, headers, body } = chosen;
    return { ...request, method, path, headers: { ...headers }, ...(body ? { body } : {}) };
  };
  const setupClient = (client: autocannon.Client): void => {
    const emitter = client as unknown as NodeJS.EventEmitter;
    const state: State = { request: first ?? load.next(), parts: [], status: 0, sentMs: performance.now() };
    const answered = (): void => {
      tally.add(
        state.request.wrong(state.status, Buffer.concat(state.parts)),
        performance.now() - state.sentMs,
      );
      state.parts.length = 0;
    };
    emitter.on('request', () => {
      // The first is built with its client.
      if ((client as unknown as { reqsMade: number }).reqsMade > 0) turn = state;
      state.sentMs = performance.now();
      state.parts.length = 0;
    });
    emitter.on('headers', ({ statusCode }: { readonly statusCode: number }) => {
      state.status = statusCode;
    });
    emitter.on('body', (part: Buffer) => state.parts.push(part));
    emitter.on('response', answered);
    emitter.on('connError', (error: NodeJS.ErrnoException) => tally.failed(error.code ?? error.message));
    // Of a connection that it ends after an answer autocannon does not tell the answer.
    const own = client as unknown as { _resetConnection(): void };
    const reset = own._resetConnection.bind(client);
    own._resetConnection = () => {
      answered();
      reset();
    };
  };
  const { url, connections, rate, seconds, timeoutSeconds, tls } = load;
  const startMs = performance.now();
  const ticking = setInterval(() => load.progress(tally.tick()), 1000);
  try {
    const result = await autocannon({
      ...{ url, connections, duration: seconds, timeout: timeoutSeconds, pipelining: 1 },
      ...{ requests: [{ setupRequest } as autocannon.Request], setupClient },
      ...(rate === null ? {} : { overallRate: rate }),
      ...(load.newConnections ? { reconnectRate: 1 } : {}),
      ...(tls ? { tlsOptions: tls } : {}),
    });
    return tally.result((performance.now() - startMs) / 1000, result);
  } finally {
    clearInterval(ticking);
  }
}

/** Counts answers as they come. */
class Tally {
  #latencies = new Float64Array(1024);
  #correct = 0;
  #from = 0;
  #wrongBefore = 0;
  #wrongAll = 0;
  readonly #wrong = new Map<string, number>();
  readonly #failures = new Map<string, number>();
  readonly #seconds: Second[] = [];

  add(wrong: string | undefined, ms: number): void {
    if (wrong !== undefined) {
      this.#wrongAll += 1;
      this.#wrong.set(wrong, (this.#wrong.get(wrong) ?? 0) + 1);
      return;
    }
    if (this.#correct === this.#latencies.length) {
      const larger = new Float64Array(this.#latencies.length * 2);
      larger.set(this.#latencies);
      this.#latencies = larger;
    }
    this.#latencies[this.#correct] = ms;
    this.#correct += 1;
  }

  failed(why: string): void {
    this.#failures.set(why, (this.#failures.get(why) ?? 0) + 1);
  }

  /** One second is over. */
  tick(): Second {
    const own = this.#latencies.slice(this.#from, this.#correct).sort();
    const second = {
      correct: own.length,
      wrong: this.#wrongAll - this.#wrongBefore,
      ...{ p50Ms: percentile(own, 0.5), p99Ms: percentile(own, 0.99) },
    };
    this.#from = this.#correct;
    this.#wrongBefore = this.#wrongAll;
    this.#seconds.push(second);
    return second;
  }

  result(
    seconds: number,
    { errors, timeouts }: { readonly errors: number; readonly timeouts: number },
  ): CheckedResult {
    return {
      ...{
        seconds,
        correct: this.#correct,
        wrong: this.#wrong,
        failures: this.#failures,
        errors: errors - timeouts,
        timeouts,
      },
      latenciesMs: this.#latencies.slice(0, this.#correct).sort(),
      perSecond: this.#seconds,
    };
  }
}

/** Of sorted values; NaN where there are none. */
export const percentile = (sorted: Float64Array, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
