// The load of sites that ask by OCSP, each with a credential of its own: over kept connections and new ones, in the clear and over TLS.
// Argument: a file with `SitesLoad`. Every answer is looked at: what is no successful OCSPResponse counts as refused.
import { readFileSync } from 'node:fs';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

export interface SitesLoad {
  readonly port: number;
  readonly tlsPort: number;
  /** OCSP requests, DER, each behind its length in four octets. */
  readonly requests: string;
  /** Paths of those that ask with a token, one a line. */
  readonly paths: string;
  /** PEM of those that ask over TLS with a certificate: a JSON array. */
  readonly certificates: string;
  /** Shares of the requests that come on a connection of their own, and over TLS. */
  readonly newShare: number;
  readonly tlsShare: number;
  readonly connections: number;
  readonly seconds: number;
  /** Requests a second, whether or not those before were answered; null: each connection asks again at once. */
  readonly perSecond: number | null;
}

interface Site {
  readonly path: string;
  readonly tls: { readonly key: string; readonly cert: string } | null;
}

const load = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as SitesLoad;
const framed = readFileSync(load.requests);
const bodies: Buffer[] = [];
for (let at = 0; at < framed.length; ) {
  const length = framed.readUInt32BE(at);
  bodies.push(framed.subarray(at + 4, at + 4 + length));
  at += 4 + length;
}
const paths = readFileSync(load.paths, 'utf8').trim().split('\n');
const certificates = JSON.parse(readFileSync(load.certificates, 'utf8')) as { key: string; cert: string }[];

let [sites, tlsSites, asked] = [0, 0, 0];
const siteOf = (isTls: boolean): Site => {
  const tls = isTls ? (certificates[tlsSites++ % certificates.length] ?? null) : null;
  return { path: tls ? '/' : (paths[sites++ % paths.length] ?? '/'), tls };
};

/** A whole HTTP request; what is asked is another certificate each time, with a nonce. */
function requestBy({ path }: Site): Buffer {
  const body = bodies[asked++ % bodies.length] ?? Buffer.alloc(0);
  const head = `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/ocsp-request\r\nContent-Length: ${body.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), body]);
}

function connect({ tls }: Site): Socket {
  // From many addresses: each has its own ports, and those that were closed rest for a while.
  const from = { host: '127.0.0.1', localAddress: `127.0.0.${2 + (asked % 250)}` };
  const socket = tls
    ? connectTls({ ...from, port: load.tlsPort, ...tls, rejectUnauthorized: false })
    : connectTcp({ ...from, port: load.port });
  return socket.setNoDelay(true);
}

/** Whether an answer is a successful OCSPResponse: SEQUENCE { ENUMERATED 0, … }. */
function isAnswer(answer: Buffer, end: number): boolean {
  const der = answer.subarray(end);
  return answer.toString('latin1', 9, 12) === '200' && der[0] === 0x30 && der.includes('0a0100', 2, 'hex');
}

/** One request on a connection; rejects where it ends before its answer. */
function ask(socket: Socket, request: Buffer): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    let [received, wanted, bodyAt] = [0, -1, 0];
    const leave = (): void => {
      socket.off('data', onData).off('error', fail).off('close', fail);
    };
    const fail = (error?: unknown): void => {
      leave();
      reject(error instanceof Error ? error : new Error('the connection ended before its answer'));
    };
    const onData = (chunk: Buffer): void => {
      parts.push(chunk);
      received += chunk.length;
      if (wanted < 0) {
        const all = parts.length === 1 ? chunk : Buffer.concat(parts);
        const end = all.indexOf('\r\n\r\n');
        if (end < 0) return;
        bodyAt = end + 4;
        wanted = bodyAt + Number(/content-length: (\d+)/i.exec(all.toString('latin1', 0, end))?.[1] ?? 0);
      }
      if (received < wanted) return;
      leave();
      resolve(isAnswer(parts.length === 1 ? chunk : Buffer.concat(parts), bodyAt));
    };
    socket.on('data', onData).on('error', fail).on('close', fail);
    socket.write(request);
  });
}

const latencies: number[] = [];
let [answered, refused] = [0, 0];

/** A connection that is kept, and the site that has it. */
class Slot {
  readonly #kept = new Map<boolean, { readonly site: Site; readonly socket: Socket }>();

  /** Asks once, as the mix has it; `sinceMs`: when it was to be asked. */
  async ask(sinceMs: number): Promise<void> {
    const [isNew, isTls] = [Math.random() < load.newShare, Math.random() < load.tlsShare];
    const found = isNew ? undefined : this.#kept.get(isTls);
    const site = found?.site ?? siteOf(isTls);
    const socket = found?.socket ?? connect(site);
    try {
      if (await ask(socket, requestBy(site))) answered += 1;
      else refused += 1;
      latencies.push(performance.now() - sinceMs);
    } catch {
      refused += 1;
      this.#kept.delete(isTls);
      socket.destroy();
      return;
    }
    if (isNew) socket.destroy();
    else this.#kept.set(isTls, { site, socket });
  }
}

const startMs = performance.now();
const endMs = startMs + load.seconds * 1000;
const slots = Array.from({ length: load.connections }, () => new Slot());

async function untilOver(slot: Slot): Promise<void> {
  while (performance.now() < endMs) await slot.ask(performance.now());
}

/** Requests come when they come: those that find no free connection wait, and the wait counts. */
async function paced(perSecond: number): Promise<void> {
  const free = [...slots];
  const due: number[] = [];
  const running = new Set<Promise<void>>();
  let made = 0;
  const serve = (): void => {
    for (;;) {
      const slot = due.length > 0 ? free.pop() : undefined;
      if (!slot) return;
      const work = slot.ask(due.shift() ?? 0).then(() => {
        free.push(slot);
        running.delete(work);
        serve();
      });
      running.add(work);
    }
  };
  while (performance.now() < endMs) {
    for (; made < ((performance.now() - startMs) / 1000) * perSecond; made += 1)
      due.push(startMs + (made / perSecond) * 1000);
    serve();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(running);
  refused += due.length;
}

await (load.perSecond === null ? Promise.all(slots.map(untilOver)) : paced(load.perSecond));
const seconds = (performance.now() - startMs) / 1000;
latencies.sort((a, b) => a - b);
const percentile = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? Number.NaN;
const result = { perSecond: answered / seconds, p50Ms: percentile(0.5), p99Ms: percentile(0.99), refused };
process.stdout.write(`${JSON.stringify(result)}\n`);
process.exit(0);
