// A load generator over raw sockets, for machines without wrk: one request at a time on each connection.
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

const [url = '', file = '', seconds = '', connections = ''] = process.argv.slice(2);
const { hostname, port } = new URL(url);
const content = readFileSync(file);
const requests: Buffer[] = [];
for (let at = 0; at < content.length; ) {
  const length = content.readUInt32BE(at);
  requests.push(content.subarray(at + 4, at + 4 + length));
  at += 4 + length;
}

const latencies: number[] = [];
let [next, answered, bad] = [0, 0, 0];
const startMs = performance.now();
const endMs = startMs + Number(seconds) * 1000;

const closes = requests[0]?.includes('Connection: close') ?? false;
const isGood = (head: Buffer): boolean => head.toString('latin1', 9, 12) === '200';

function open(): void {
  const socket = connect({ host: hostname, port: Number(port), noDelay: true, allowHalfOpen: true });
  let sentMs = performance.now();
  /** Octets of the answer still to come; -1 before its head. */
  let awaited = -1;
  let done = false;
  const send = (): void => {
    const request = requests[next++ % requests.length];
    sentMs = performance.now();
    if (request) socket.write(request);
  };
  const finish = (): void => {
    if (done) return;
    done = true;
    socket.destroy();
    if (performance.now() < endMs) open();
  };
  const count = (): void => {
    answered += 1;
    latencies.push(performance.now() - sentMs);
  };
  send();
  socket.on('data', (chunk) => {
    if (awaited < 0) {
      if (!isGood(chunk)) bad += 1;
      // Where the connection ends with the answer nothing need be counted.
      awaited = closes ? Number.POSITIVE_INFINITY : lengthOf(chunk);
    }
    awaited -= chunk.length;
    if (awaited > 0) return;
    awaited = -1;
    count();
    if (performance.now() >= endMs) finish();
    else send();
  });
  socket.on('end', () => {
    if (awaited === Number.POSITIVE_INFINITY) count();
    finish();
  });
  socket.on('error', () => {
    bad += 1;
    finish();
  });
  socket.on('close', finish);
}

/** Head and body of an answer; heads come in one piece. */
function lengthOf(chunk: Buffer): number {
  const end = chunk.indexOf('\r\n\r\n');
  return end + 4 + Number(/content-length: (\d+)/i.exec(chunk.toString('latin1', 0, end))?.[1] ?? 0);
}

for (let i = 0; i < Number(connections); i++) open();
setTimeout(() => {
  const micros = Math.round((performance.now() - startMs) * 1000);
  latencies.sort((a, b) => a - b);
  const percentile = (share: number): number =>
    Math.round((latencies[Math.floor(latencies.length * share)] ?? 0) * 1000);
  const result = { requests: answered, micros, p50: percentile(0.5), p99: percentile(0.99), bad };
  process.stdout.write(`RESULT ${JSON.stringify(result)}\n`);
  process.exit(0);
}, Number(seconds) * 1000);
