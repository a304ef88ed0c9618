// Asks a CA for pairs and says, in one line, how it went: a LoadOrder in argv, a line of JSON out.
import { readFileSync } from 'node:fs';
import { connect, type TLSSocket } from 'node:tls';
import { namedClient } from '../../test/support/actors.ts';
import { cpuMicros, median } from '../load/measure.ts';

export interface LoadOrder {
  readonly mode: 'batch' | 'single';
  readonly folder: string;
  readonly address: string;
  /** NDJSON of BatchLines, and which of them are to be used. */
  readonly file: string;
  readonly first: number;
  readonly count: number;
  readonly connections: number;
  /** Length of the run, and how much of its beginning does not count. */
  readonly seconds: number;
  readonly warmUpSeconds: number;
}

export interface LoadReport {
  /** Pairs that were answered, in all and in the part that counts. */
  readonly used: number;
  readonly pairs: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuMicros: number;
}

const order = JSON.parse(process.argv[2] ?? '{}') as LoadOrder;
const startMs = performance.now();
const sinceMs = (): number => performance.now() - startMs;
const fromMs = order.warmUpSeconds * 1000;
const untilMs = order.seconds * 1000;
const latencies: number[] = [];
let used = 0;
let pairs = 0;

/** What is answered while it counts. */
function answered(sentMs: number): void {
  const nowMs = sinceMs();
  if (nowMs < fromMs || nowMs > untilMs) return;
  pairs += 1;
  latencies.push(nowMs - sentMs);
}

function* take(): Generator<Buffer> {
  const all = readFileSync(order.file);
  let at = 0;
  for (let i = 0; i < order.first + order.count; i++) {
    const end = all.indexOf(0x0a, at) + 1;
    if (end === 0) return;
    if (i >= order.first) {
      if (sinceMs() > untilMs) return;
      used += 1;
      yield all.subarray(at, end);
    }
    at = end;
  }
}

async function batch(): Promise<void> {
  const client = namedClient(order.folder, order.address, 'first');
  const sent: number[] = [];
  const sending = function* (): Generator<Buffer> {
    for (const line of take()) {
      sent.push(sinceMs());
      yield line;
    }
  };
  for await (const answer of client.batch(sending())) {
    const head = answer.toString('latin1', 0, 120);
    const number = Number(/"line":(\d+)/.exec(head)?.[1]);
    if (!head.includes('"status":201,')) throw new Error(answer.toString('utf8').slice(0, 400));
    answered(sent[number - 1] ?? 0);
  }
  await client.close();
}

/** Whole requests over sockets of its own: what is measured is the server, and the machine is shared with it. */
async function single(): Promise<void> {
  const { hostname, port } = new URL(order.address);
  const pem = (name: string): Buffer => readFileSync(`${order.folder}/${name}`);
  const files = {
    key: pem('clients/first.key'),
    cert: pem('clients/first.pem'),
    ca: pem('tls/operations-ca.pem'),
  };
  const lines = take();
  const one = async (): Promise<void> => {
    const socket = connect({ host: hostname, port: Number(port), ...files });
    socket.setNoDelay(true);
    for (const line of lines) {
      const { idempotencyKey, card } = JSON.parse(line.toString('utf8')) as {
        idempotencyKey: string;
        card: object;
      };
      const body = Buffer.from(JSON.stringify(card));
      const head = `POST /v1/card-certificates HTTP/1.1\r\nHost: ca\r\nContent-Type: application/json\r\nIdempotency-Key: ${idempotencyKey}\r\nContent-Length: ${body.length}\r\n\r\n`;
      const sentMs = sinceMs();
      socket.write(Buffer.concat([Buffer.from(head), body]));
      await answerOf(socket);
      answered(sentMs);
    }
    socket.end();
  };
  await Promise.all(Array.from({ length: order.connections }, one));
}

/** Reads one answer; rejects where it is not 201. */
function answerOf(socket: TLSSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = '';
    const onData = (chunk: Buffer): void => {
      text += chunk.toString('latin1');
      const end = text.indexOf('\r\n\r\n');
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1]);
      if (end < 0 || text.length < end + 4 + length) return;
      socket.off('data', onData);
      socket.off('close', gone);
      if (text.startsWith('HTTP/1.1 201')) resolve();
      else reject(new Error(text.slice(0, 600)));
    };
    const gone = (): void => reject(new Error('the connection was closed'));
    socket.on('data', onData);
    socket.once('close', gone);
  });
}

await (order.mode === 'batch' ? batch() : single());
latencies.sort((a, b) => a - b);
const report: LoadReport = {
  used,
  pairs,
  seconds: Math.min(untilMs, sinceMs()) / 1000 - order.warmUpSeconds,
  p50Ms: median(latencies),
  p99Ms: latencies[Math.floor(latencies.length * 0.99)] ?? Number.NaN,
  cpuMicros: cpuMicros(process.pid),
};
process.stdout.write(`${JSON.stringify(report)}\n`);
process.exit();
