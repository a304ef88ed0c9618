import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { layout } from '../../ca/node/layout.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { configure, freePort, startProcess } from '../../test/support/service-process.ts';
import { ocspRequests } from '../load/answer-checks.ts';
import { loadAndCheck } from '../load/checked-load.ts';
import { median } from '../load/measure.ts';
import type { Curve } from '../report/html.ts';
import { IssuingLoad, makeLines, warmUpSeconds } from './issue-service.ts';

/** One setting that is swept: what is asked of a service with each value, and what it does a second. */
interface Sweep {
  /** As the configuration names it. */
  readonly setting: string;
  readonly unit: string;
  readonly values: readonly number[];
  readonly configure: (value: number) => Record<string, object>;
  readonly measure: 'pairs' | 'answers';
}

/** One, the cores, and around them: more threads than twice the cores have never helped. */
function valuesAround(cores: number): number[] {
  const all = [1, Math.ceil(cores / 2), cores, cores + 1, cores * 2];
  return [...new Set(all)].filter((value) => value >= 1).sort((a, b) => a - b);
}

const sweeps = (cores: number): readonly Sweep[] => [
  {
    ...{ setting: 'pkcs11.signingThreads', unit: 'pairs a second', values: valuesAround(cores) },
    configure: (signingThreads) => ({ pkcs11: { signingThreads } }),
    measure: 'pairs',
  },
  {
    ...{ setting: 'issuing.checkThreads', unit: 'pairs a second', values: valuesAround(cores) },
    configure: (checkThreads) => ({ issuing: { checkThreads } }),
    measure: 'pairs',
  },
  {
    ...{ setting: 'ocsp.threads', unit: 'signed answers a second', values: valuesAround(cores) },
    configure: (threads) => ({ ocsp: { threads } }),
    measure: 'answers',
  },
];

/** A setting that does as much as the best within this is as good, and the smallest of those is said. */
const within = 0.03;
/** For each run of each value, lines of a batch a second. */
const linesPerSecond = 1300;

/**
 * Sweeps sizes of thread pools on this machine, load generator and all, and says what to set: the smallest value that comes within 3 % of
 * the best. Each value is measured `rounds` times, in turn with the others; the median counts.
 */
export async function benchTune(
  { seconds, rounds }: { readonly seconds: number; readonly rounds: number },
  progress: (text: string) => void,
): Promise<{
  readonly figures: Readonly<Record<string, number | string>>;
  readonly curves: readonly Curve[];
}> {
  const scratch = mkdtempSync(join(tmpdir(), 'warifu-bench-tune-'));
  try {
    const file = join(scratch, 'lines.ndjson');
    const count = Math.ceil(linesPerSecond * (seconds + warmUpSeconds));
    writeFileSync(file, await makeLines('rsa2048', count));
    const figures: Record<string, number | string> = {};
    const curves: Curve[] = [];
    for (const sweep of sweeps(cpus().length)) {
      const found = new Map<number, number[]>(sweep.values.map((value) => [value, []]));
      for (let round = 0; round < rounds; round++)
        for (const value of sweep.values) {
          const folder = join(scratch, `${sweep.setting}-${value}-${round}`);
          const perSecond = await measured(folder, sweep, value, { file, count, seconds });
          found.get(value)?.push(perSecond);
          progress(`${sweep.setting} ${value}: ${perSecond.toFixed(0)} ${sweep.unit}`);
        }
      const points = [...found].map(([value, rates]): [number, number] => [value, median(rates)]);
      const best = Math.max(...points.map(([, rate]) => rate));
      const [chosen = 1] = points.find(([, rate]) => rate >= best * (1 - within)) ?? [];
      for (const [value, rate] of points) figures[`${sweep.setting}=${value}`] = rate;
      figures[`set ${sweep.setting}`] = chosen;
      curves.push({ title: sweep.setting, x: 'threads', y: sweep.unit, points });
    }
    return { figures, curves };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** What a service with one value does a second: started for it, on a data folder of its own. */
async function measured(
  folder: string,
  { configure: of, measure }: Sweep,
  value: number,
  load: { readonly file: string; readonly count: number; readonly seconds: number },
): Promise<number> {
  const metricsPort = await freePort();
  const { ocsp, crl, ...own } = of(value) as { ocsp?: object; crl?: object };
  const addresses = await configure(folder, {
    ...{ metrics: { host: '127.0.0.1', port: metricsPort }, ...own },
  });
  if (ocsp) merge(layout(folder).config, { ocsp });
  if (crl) merge(layout(folder).config, { crl });
  const service = await startProcess(folder, addresses);
  try {
    if (measure === 'answers') return await answersPerSecond(addresses, load.seconds);
    const { pairs, seconds } = await new IssuingLoad({ folder, service, metricsPort, ...load }).run();
    return pairs / seconds;
  } finally {
    await service.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** `configure` gives the ports of these; what else they say is put beside. */
function merge(file: string, more: Readonly<Record<string, object>>): void {
  const config = JSON.parse(readFileSync(file, 'utf8')) as Record<string, object>;
  for (const [name, value] of Object.entries(more)) config[name] = { ...config[name], ...value };
  writeFileSync(file, JSON.stringify(config));
}

/** OCSP answers that are signed for each request, for it has a nonce. */
async function answersPerSecond(
  { ocsp, crl }: { readonly ocsp: string; readonly crl: string },
  seconds: number,
): Promise<number> {
  const issuer = new Uint8Array(await (await fetch(`${crl}/ca/signing-1.cer`)).arrayBuffer());
  const serials = [parseCertificate(issuer).serial];
  const result = await loadAndCheck({
    ...{
      url: ocsp,
      connections: 64,
      newConnections: false,
      rate: null,
      seconds,
      timeoutSeconds: 10,
      tls: null,
    },
    next: ocspRequests({ issuer, serials, path: '/', method: 'POST', nonce: true }),
    progress: () => undefined,
  });
  if (result.wrong.size > 0) throw new Error(`answers were wrong: ${[...result.wrong.keys()].join('; ')}`);
  return result.correct / result.seconds;
}
