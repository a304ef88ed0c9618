// What a stranger can do to a running service through its ports: mutated requests by every way there is, cut in pieces,
// pipelined and half-closed, while other clients keep connections of their own. They must not notice.
import { readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import fc from 'fast-check';

export interface SocketTarget {
  readonly ocspPort: number;
  readonly crlPort: number;
  /** OCSPRequests, DER. */
  readonly requests: readonly Uint8Array[];
  /** Paths of published files. */
  readonly paths: readonly string[];
  /** A well-formed request that is answered with a signature. */
  readonly valid: Uint8Array;
}

export interface SocketFuzzReport {
  readonly sent: number;
  readonly answered: number;
  /** Answers that the other clients' kept connections got. */
  readonly bystanders: number;
}

const bystanderCount = 8;
/** Connections under attack at once. */
const attackers = 8;
/** A connection that says nothing for so long is left. */
const patienceMs = 400;

const postOf = (body: Uint8Array, headers = ''): string =>
  `POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\n${headers}Content-Length: ${body.length}\r\n\r\n${Buffer.from(body).toString('latin1')}`;
const getOf = (path: string, headers = ''): string => `GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}\r\n`;

/** A client of its own, which asks again and again over one connection. Throws once it is not answered as it should be. */
class Bystander {
  readonly #socket: Socket;
  readonly #body: Uint8Array;
  #waiting: PromiseWithResolvers<void> | undefined;
  answers = 0;

  constructor(port: number, body: Uint8Array) {
    this.#body = body;
    this.#socket = connect({ host: '127.0.0.1', port });
    this.#socket.on('data', (chunk) => {
      if (!chunk.toString('latin1').startsWith('HTTP/1.1 200')) return;
      this.answers += 1;
      this.#waiting?.resolve();
    });
    this.#socket.on('error', (error) => this.#waiting?.reject(error));
    this.#socket.on('close', () => this.#waiting?.reject(new Error('a kept connection was closed')));
  }

  async ask(): Promise<void> {
    this.#waiting = Promise.withResolvers();
    const timer = setTimeout(
      () => this.#waiting?.reject(new Error('a kept connection got no answer')),
      10_000,
    );
    this.#socket.write(Buffer.from(postOf(this.#body), 'latin1'));
    try {
      await this.#waiting.promise;
    } finally {
      clearTimeout(timer);
      this.#waiting = undefined;
    }
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** Threads of this process, by the kernel's ids. */
export const threadIds = (): string[] => readdirSync('/proc/self/task');

interface Attack {
  readonly octets: Buffer;
  readonly pieces: number;
  readonly port: 'ocsp' | 'crl';
  readonly end: 'half-close' | 'reset' | 'wait';
}

const step = fc.record({
  kind: fc.constantFrom('set', 'flip', 'cut', 'double', 'truncate', 'append'),
  at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
  value: fc.oneof(fc.constantFrom(0x00, 0x0a, 0x0d, 0x20, 0x30, 0x80, 0x84, 0xff, 0x02), fc.nat(255)),
  length: fc.integer({ min: 1, max: 12 }),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Octets changed, cut out, doubled, and lengths made to lie: what breaks parsers. */
export function mutated(seed: Uint8Array, steps: readonly Step[]): Uint8Array {
  return steps.reduce((octets: Uint8Array, { kind, at, value, length }) => {
    const offset = Math.floor(at * octets.length);
    const [head, tail] = [octets.subarray(0, offset), octets.subarray(offset)];
    if (kind === 'cut') return Buffer.concat([head, tail.subarray(length)]);
    if (kind === 'double') return Buffer.concat([head, tail.subarray(0, length), tail]);
    if (kind === 'truncate') return Uint8Array.from(head);
    if (kind === 'append') return Buffer.concat([octets, Buffer.alloc(length, value)]);
    const copy = Uint8Array.from(octets);
    if (copy.length > 0) copy[offset] = kind === 'flip' ? (copy[offset] ?? 0) ^ (1 << (value & 7)) : value;
    return copy;
  }, seed);
}

/** Between one and four changes. */
export const mutationSteps = fc.array(step, { minLength: 1, maxLength: 4 });

function attackOf({ requests, paths }: SocketTarget): fc.Arbitrary<Attack> {
  const headers = fc.constantFrom(
    '',
    '',
    'X-Trace: 1\r\n',
    'Expect: 100-continue\r\n',
    'Connection: close\r\n',
    'Accept-Encoding: *;q=0.1, br\r\n',
    'Range: bytes=5-\r\n',
    'If-None-Match: "x"\r\n',
    'Transfer-Encoding: chunked\r\n',
  );
  const request = fc
    .record({ body: fc.constantFrom(...requests), steps: mutationSteps, isWhole: fc.boolean() })
    .map(({ body, steps, isWhole }) => (isWhole ? body : mutated(body, steps)));
  const asked = fc.oneof(
    fc.tuple(request, headers).map(([body, each]) => postOf(body, each)),
    fc
      .tuple(request, headers)
      .map(([body, each]) => getOf(`/${encodeURIComponent(Buffer.from(body).toString('base64'))}`, each)),
    fc.tuple(fc.constantFrom(...paths), headers).map(([path, each]) => getOf(path, each)),
  );
  const broken = fc
    .record({ text: asked, steps: mutationSteps })
    .map(({ text, steps }) => Buffer.from(mutated(Buffer.from(text, 'latin1'), steps)).toString('latin1'));
  return fc.record({
    octets: fc
      .array(fc.oneof(asked, broken), { minLength: 1, maxLength: 4 })
      .map((texts) => Buffer.from(texts.join(''), 'latin1')),
    pieces: fc.constantFrom(1, 1, 2, 7),
    port: fc.constantFrom('ocsp', 'ocsp', 'crl'),
    end: fc.constantFrom('half-close', 'half-close', 'reset', 'wait'),
  });
}

/** Sends one attack; resolves with whether anything came back, when the connection has ended or says no more. */
function send({ octets, pieces, end }: Attack, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    let isAnswered = false;
    const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
    socket.setTimeout(patienceMs, () => socket.destroy());
    socket.on('data', () => {
      isAnswered = true;
    });
    socket.on('end', () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => resolve(isAnswered));
    socket.on('connect', async () => {
      const size = Math.max(1, Math.ceil(octets.length / pieces));
      for (let at = 0; at < octets.length && socket.writable; at += size) {
        socket.write(octets.subarray(at, at + size));
        if (pieces > 1) await new Promise((done) => setImmediate(done));
      }
      if (end === 'half-close' && socket.writable) socket.end();
      if (end === 'reset') socket.resetAndDestroy();
    });
  });
}

/** Attacks for so long. Throws where another client was hurt, naming the seed that does it again. */
export async function fuzzSockets(target: SocketTarget, ms: number, seed: number): Promise<SocketFuzzReport> {
  const bystanders = Array.from(
    { length: bystanderCount },
    () => new Bystander(target.ocspPort, target.valid),
  );
  const attacks = fc.sample(attackOf(target), { seed, numRuns: 4000 });
  const deadline = performance.now() + ms;
  let [sent, answered] = [0, 0];
  const attack = async (): Promise<void> => {
    while (performance.now() < deadline) {
      const each = attacks[sent++ % attacks.length];
      if (each && (await send(each, each.port === 'ocsp' ? target.ocspPort : target.crlPort))) answered += 1;
    }
  };
  const watch = async (): Promise<void> => {
    while (performance.now() < deadline) {
      await Promise.all(bystanders.map((bystander) => bystander.ask()));
      await new Promise((done) => setTimeout(done, 20));
    }
  };
  try {
    await Promise.all([watch(), ...Array.from({ length: attackers }, attack)]);
  } catch (error) {
    throw new Error(`seed ${seed}, within the first ${sent} attacks: ${(error as Error).message}`, {
      cause: error,
    });
  } finally {
    for (const bystander of bystanders) bystander.close();
  }
  return { sent, answered, bystanders: bystanders.reduce((sum, { answers }) => sum + answers, 0) };
}
