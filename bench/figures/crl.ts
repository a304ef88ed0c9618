import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createWriteStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { suites } from '../../core/asn1/algorithms.ts';
import { integer } from '../../core/asn1/der-writer.ts';
import { distributionPointName } from '../../core/asn1/extension.ts';
import { encodeName, uriName } from '../../core/asn1/name.ts';
import { encodeCrlEntry, prepareCrl } from '../../crl/encode/encode.ts';
import { Generator, get } from '../load/load.ts';
import { cores, hasCommand, median, outputOf, spawnOn, startScript } from '../load/measure.ts';
import { tell } from '../report/told.ts';
import { runNginx } from '../rivals/rivals.ts';
import type { PublisherOptions, PublisherSaid } from './crl-publisher.ts';

export interface CrlBenchOptions {
  readonly entries: number;
  readonly partitions: number;
  readonly revocations: number;
  readonly rounds: number;
  readonly seconds: number;
}

/** The comparison with `openssl ca`, which makes one CRL, is at one million entries. */
const million = 1_000_000;

export async function benchCrl(options: CrlBenchOptions): Promise<Record<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), 'warifu-bench-crl-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const { entries, partitions, revocations } = options;
  // First: what the others leave for the disk to do would be in the way.
  const served = await serve(join(folder, 'served'), options);
  const nation = await publish({ folder: join(folder, 'nation'), entries, partitions, revocations });
  rmSync(join(folder, 'nation'), { recursive: true, force: true });
  const one = await publish({ folder: join(folder, 'one'), entries: million, partitions: 1, revocations: 0 });
  rmSync(join(folder, 'one'), { recursive: true, force: true });
  const opensslSeconds = await openssl(join(folder, 'openssl'));
  return {
    entries: nation.entries,
    partitions: nation.partitions,
    fullRebuildSeconds: nation.fullRebuildSeconds,
    entriesPerSecond: nation.entries / nation.fullRebuildSeconds,
    sha256Seconds: nation.sha256Seconds,
    rebuildToSha256: nation.fullRebuildSeconds / nation.sha256Seconds,
    signSeconds: nation.signSeconds,
    incrementalMsP50: median(nation.incrementalMs),
    incrementalMsP99: p99(nation.incrementalMs),
    incrementalMsP99DuringRebuild: p99(nation.incrementalMsDuringRebuild),
    peakMemoryBytes: nation.peakMemoryBytes,
    opensslSecondsAtOneMillion: opensslSeconds,
    oursSecondsAtOneMillion: one.fullRebuildSeconds,
    toOpenssl: opensslSeconds / one.fullRebuildSeconds,
    ...served,
  };
}

const p99 = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length * 0.99)] ?? Number.NaN;

/** On all cores: a publisher has them to itself while it rebuilds. */
async function publish(options: PublisherOptions): Promise<PublisherSaid> {
  const script = new URL('./crl-publisher.ts', import.meta.url).pathname;
  const all = [...new Set(Object.values(cores))].join(',');
  const run = async (what: string): Promise<string> =>
    outputOf(spawnOn(all, process.execPath, [script, what, JSON.stringify(options)]));
  await run('make');
  return JSON.parse(await run('run')) as PublisherSaid;
}

/** Seconds in which `openssl ca` makes a CRL of a million entries from its own database. */
async function openssl(folder: string): Promise<number> {
  mkdirSync(folder);
  const run = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
  };
  const subject = ['-subj', '/C=JP/CN=ca', '-keyout', 'ca.key', '-out', 'ca.pem'];
  run('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '9', ...subject);
  const index = createWriteStream(join(folder, 'index.txt'));
  for (let i = 0; i < million; i += 10_000) {
    const rows = Array.from({ length: 10_000 }, () => {
      const serial = `01${randomBytes(16).toString('hex').toUpperCase()}`;
      return `R\t310101000000Z\t260101000000Z,affiliationChanged\t${serial}\tunknown\t/CN=${serial}\n`;
    });
    index.write(rows.join(''));
  }
  index.end();
  await finished(index);
  writeFileSync(
    join(folder, 'ca.cnf'),
    '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ncertificate=ca.pem\nprivate_key=ca.key\ndefault_md=sha256\ndefault_crl_days=2\ncrlnumber=crlnumber\ncrl_extensions=x\n[x]\nauthorityKeyIdentifier=keyid\n',
  );
  writeFileSync(join(folder, 'crlnumber'), '01\n');
  const startMs = performance.now();
  run('ca', '-config', 'ca.cnf', '-gencrl', '-out', 'crl.pem');
  return (performance.now() - startMs) / 1000;
}

/** A CRL of about so many octets, as it is published; its signature is not checked here. */
function crlOf(octets: number): Uint8Array {
  const issuer = encodeName([['CN', 'ca']]);
  const entry = (i: number): Uint8Array =>
    encodeCrlEntry({
      serial: Buffer.concat([Buffer.of(1), createHash('sha256').update(String(i)).digest().subarray(0, 16)]),
      revokedMs: Date.UTC(2026, 0, 1),
      reason: 'affiliationChanged',
      invalidityMs: null,
    });
  const entries = Array.from({ length: Math.floor((octets - 700) / entry(0).length) }, (_, i) => entry(i));
  const prepared = prepareCrl(
    {
      suite: suites['rsa2048-sha256'],
      issuer,
      reference: { subject: issuer, serialNumber: integer(1), subjectKeyIdentifier: new Uint8Array(20) },
      thisUpdateMs: Date.now(),
      nextUpdateMs: Date.now() + 86_400_000,
      number: Date.now(),
      baseNumber: null,
      distributionPointName: distributionPointName(uriName('http://crl.example/crl/bench.crl')),
      scope: 'onlyContainsUserCerts',
      freshest: null,
    },
    entries,
  );
  return prepared.seal(new Uint8Array(256));
}

/** How often two files are given a second, by us and by nginx, each on one core. */
async function serve(folder: string, { rounds, seconds }: CrlBenchOptions): Promise<Record<string, number>> {
  mkdirSync(join(folder, 'crl'), { recursive: true });
  const files = { '20k': crlOf(20_000), '1M': crlOf(1_048_576) } as const;
  for (const [name, octets] of Object.entries(files))
    writeFileSync(join(folder, 'crl', `${name}.crl`), octets);
  const ours = await startScript<string>(cores.server, new URL('./crl-listener.ts', import.meta.url), [
    folder,
  ]);
  const servers = [{ name: 'served', url: ours.said, pid: ours.pid }];
  if (hasCommand('nginx')) {
    const nginx = await runNginx(folder, {
      root: folder,
      filesOpen: 10,
      type: 'application/pkix-crl',
      path: '/crl/20k.crl',
    });
    servers.push({ name: 'nginx', ...nginx });
  }
  const results = new Map<string, number[]>();
  const targets = servers.flatMap(({ name, url, pid }) =>
    Object.keys(files).map((file) => ({
      key: `${name}PerSecond${file}`,
      pid,
      generator: new Generator({ url, requests: [get(`/crl/${file}.crl`)] }),
    })),
  );
  for (let round = 0; round <= rounds; round++) {
    tell(`servers, round ${round} of ${rounds}`);
    for (const { key, pid, generator } of targets) {
      const { perSecond } = await generator.run(pid, seconds, 32);
      if (round > 0) results.set(key, [...(results.get(key) ?? []), perSecond]);
    }
  }
  return Object.fromEntries([...results].map(([key, values]) => [key, median(values)]));
}
