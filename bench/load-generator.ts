// A load generator over raw sockets, for machines without wrk: one request at a time on each connection.
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';

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

function open(): void {
  const socket = connect({ host: hostname, port: Number(port), noDelay: true }, () => send(socket));
  let sentMs = performance.now();
  let unread = Buffer.alloc(0);
  let done = false;
  const send = (to: Socket): void => {
    const request = requests[next++ % requests.length];
    sentMs = performance.now();
    if (request) to.write(request);
  };
  const finish = (): void => {
    if (done) return;
    done = true;
    socket.destroy();
    if (performance.now() < endMs) open();
  };
  socket.on('data', (chunk) => {
    unread = unread.length === 0 ? chunk : Buffer.concat([unread, chunk]);
    const end = unread.indexOf('\r\n\r\n');
    if (end < 0) return;
    const head = unread.toString('latin1', 0, end);
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
    if (unread.length < end + 4 + length) return;
    unread = Buffer.alloc(0);
    if (!head.startsWith('HTTP/1.1 200') && !head.startsWith('HTTP/1.0 200')) bad += 1;
    answered += 1;
    latencies.push(performance.now() - sentMs);
    if (performance.now() >= endMs) finish();
    else if (/connection: close/i.test(head) || head.startsWith('HTTP/1.0')) finish();
    else send(socket);
  });
  socket.on('error', () => {
    bad += 1;
    finish();
  });
  socket.on('close', finish);
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
