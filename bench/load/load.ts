import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cores, cpuMicros, hasCommand, outputOf, spawnOn } from './measure.ts';

/** Whole HTTP requests, sent one after the other, round and round. */
export interface Load {
  readonly url: string;
  readonly requests: readonly Uint8Array[];
  /**
   * wrk begins with a connection on which it says nothing, over which OpenSSL's responder falls into an endless loop:
   * for new connections it is ours, for either side of the ratio.
   */
  readonly by?: 'wrk' | 'own';
}

export interface LoadResult {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU time of the server for each request. */
  readonly serverMicros: number;
  /** Shares of a core that server and generator were busy: the figure says something only where the server's is full. */
  readonly serverBusy: number;
  readonly loadBusy: number;
}

const folder = mkdtempSync(join(tmpdir(), 'warifu-bench-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));

/** wrk reads requests from a file: each behind its length in four octets. */
const script = (file: string): string => `
local requests, at, count = {}, 0, 0
local file = assert(io.open(${JSON.stringify(file)}, 'rb'))
while true do
  local head = file:read(4)
  if not head then break end
  local a, b, c, d = head:byte(1, 4)
  count = count + 1
  requests[count] = file:read(((a * 256 + b) * 256 + c) * 256 + d)
end
file:close()
request = function()
  at = at % count + 1
  return requests[at]
end
done = function(summary, latency)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format('RESULT {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"bad":%d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), bad))
  if bad > 0 then
    print(string.format('FAILED status %d connect %d read %d write %d timeout %d', summary.errors.status,
      summary.errors.connect, summary.errors.read, summary.errors.write, summary.errors.timeout))
  end
end
`;

let files = 0;

/** Prepared once: writing and reading hundreds of thousands of requests takes longer than a run. */
export class Generator {
  readonly #url: string;
  readonly #script: string;
  readonly #file: string;
  readonly #byWrk: boolean;

  constructor({ url, requests, by = 'wrk' }: Load) {
    this.#byWrk = by === 'wrk' && hasWrk;
    files += 1;
    this.#url = url;
    this.#file = join(folder, `${files}.requests`);
    this.#script = join(folder, `${files}.lua`);
    const parts = requests.flatMap((request) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(request.length);
      return [length, request];
    });
    writeFileSync(this.#file, Buffer.concat(parts));
    writeFileSync(this.#script, script(this.#file));
  }

  /** Asks for so long over so many connections, and sees how busy that keeps the server. */
  async run(serverPid: number, seconds: number, connections = 64): Promise<LoadResult> {
    const child = this.#byWrk
      ? spawnOn(cores.load, 'wrk', [
          '-t1',
          `-c${connections}`,
          `-d${seconds}s`,
          '--latency',
          '-s',
          this.#script,
          this.#url,
        ])
      : spawnOn(cores.load, process.execPath, [
          ownGenerator,
          this.#url,
          this.#file,
          String(seconds),
          String(connections),
        ]);
    const output = outputOf(child);
    // Reading the requests is over by then, and the connections are made.
    await pause(seconds * 250);
    const [server, load, startMs] = [cpuMicros(serverPid), cpuMicros(child.pid ?? 0), performance.now()];
    await pause(seconds * 500);
    const wallMicros = (performance.now() - startMs) * 1000;
    const serverUsed = cpuMicros(serverPid) - server;
    const loadUsed = cpuMicros(child.pid ?? 0) - load;
    const text = await output;
    const result = JSON.parse(/RESULT (.*)/.exec(text)?.[1] ?? '{}') as Record<string, number>;
    const { requests = 0, micros = Number.NaN, p50 = Number.NaN, p99 = Number.NaN, bad = 1 } = result;
    if (bad > 0) throw new Error(`${bad} requests to ${this.#url} failed: ${/FAILED (.*)/.exec(text)?.[1]}`);
    const perSecond = (requests * 1e6) / micros;
    const serverBusy = serverUsed / wallMicros;
    return {
      perSecond,
      p50Ms: p50 / 1000,
      p99Ms: p99 / 1000,
      serverMicros: (serverBusy * 1e6) / perSecond,
      serverBusy,
      loadBusy: loadUsed / wallMicros,
    };
  }
}

const hasWrk = hasCommand('wrk');
const ownGenerator = new URL('./load-generator.ts', import.meta.url).pathname;
const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

/** A POST as OCSP clients send it. */
export function post(
  body: Uint8Array,
  path: string,
  connection: 'keep-alive' | 'close' = 'keep-alive',
): Uint8Array {
  const close = connection === 'close' ? 'Connection: close\r\n' : '';
  const head = `POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${close}Content-Type: application/ocsp-request\r\nContent-Length: ${body.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), body]);
}

export function get(path: string): Uint8Array {
  return Buffer.from(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`, 'latin1');
}
