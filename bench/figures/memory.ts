import { randomBytes, randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SerialCipher } from '../../core/crypto/serial.ts';
import { Generator, get, post } from '../load/load.ts';
import { cores, residentOctets, startScript } from '../load/measure.ts';
import { asker } from '../rivals/rivals.ts';
import type { OcspServerOptions, OcspServerSaid } from './ocsp-server.ts';

/** Seconds of each kind of load in turn. */
const spell = 5;

/**
 * Mixed load on a responder for so many minutes, and how its memory grows: the slope of a line through what it held on average in each round of
 * all kinds of load after the first third, which fills caches and compiles code, with the standard error of that slope. What it holds
 * differs by some 40 MiB between kinds of load.
 */
export async function benchMemory({
  minutes,
}: {
  readonly minutes: number;
}): Promise<Record<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), 'warifu-bench-memory-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const certificates = 10_000_000;
  const ocsp = { responderSuites: ['p256-sha256'], cacheBytes: 50_000_000 };
  const options: OcspServerOptions = { folder: join(folder, 'data'), certificates, ocsp };
  const { said, pid } = await startScript<OcspServerSaid>(
    cores.server,
    new URL('./ocsp-server.ts', import.meta.url),
    [JSON.stringify(options)],
  );
  const ask = asker(Buffer.from(said.certificate, 'base64'));
  const cipher = new SerialCipher(1, Buffer.from(said.epochKey, 'base64'));
  const any = () => cipher.encrypt(randomInt(certificates));
  const many = <T>(make: () => T): T[] => Array.from({ length: 100_000 }, make);
  const url = said.address;
  const path = (body: Uint8Array): string => `/${encodeURIComponent(Buffer.from(body).toString('base64'))}`;
  const loads = [
    // More certificates than the cache holds: it fills, and lets go of others.
    many(() => post(ask(any()), '/')),
    many(() => post(ask(any(), randomBytes(32)), '/')),
    many(() => get(path(ask(any())))),
    many(() => post(randomBytes(80), '/')),
    many(() => post(ask(any()), '/', 'close')),
    // By node:http.
    many(() => withHeader(post(ask(any()), '/'), 'X-Other: 1')),
  ].map((requests) => new Generator({ url, requests }));
  const samples: { atMinutes: number; octets: number }[] = [];
  const startMs = performance.now();
  const atMinutes = (): number => (performance.now() - startMs) / 60_000;
  for (let i = 0; atMinutes() < minutes; i++) {
    await loads[i % loads.length]?.run(pid, spell);
    samples.push({ atMinutes: atMinutes(), octets: residentOctets(pid) });
  }
  const rounds = roundsOf(
    samples.filter((sample) => sample.atMinutes > minutes / 3),
    loads.length,
  );
  return {
    minutes,
    residentMiB: (rounds.at(-1)?.octets ?? 0) / 2 ** 20,
    mebibytesPerMinute: slope(rounds) / 2 ** 20,
    mebibytesPerMinuteError: errorOfSlope(rounds) / 2 ** 20,
  };
}

/** Behind the request line, of which the octets are Latin-1 like all others here. */
function withHeader(request: Uint8Array, header: string): Uint8Array {
  return Buffer.from(Buffer.from(request).toString('latin1').replace('\r\n', `\r\n${header}\r\n`), 'latin1');
}

interface Sample {
  readonly atMinutes: number;
  readonly octets: number;
}

/** The mean of each round of so many samples; what is left at the end makes none. */
function roundsOf(samples: readonly Sample[], length: number): Sample[] {
  const rounds = Math.floor(samples.length / length);
  return Array.from({ length: rounds }, (_, i) => {
    const round = samples.slice(i * length, (i + 1) * length);
    return { atMinutes: mean(round, (each) => each.atMinutes), octets: mean(round, (each) => each.octets) };
  });
}

const mean = (samples: readonly Sample[], of: (sample: Sample) => number): number =>
  samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length;

/** Of the slope that `slope` gives, where the samples lie about a line by chance. */
function errorOfSlope(samples: readonly Sample[]): number {
  const [x, y, perMinute] = [
    mean(samples, ({ atMinutes }) => atMinutes),
    mean(samples, ({ octets }) => octets),
    slope(samples),
  ];
  const residual = mean(samples, ({ atMinutes, octets }) => (octets - y - perMinute * (atMinutes - x)) ** 2);
  const spread = mean(samples, ({ atMinutes }) => (atMinutes - x) ** 2);
  return Math.sqrt(residual / spread / Math.max(1, samples.length - 2));
}

/** Least squares. */
function slope(samples: readonly Sample[]): number {
  const [x, y] = [mean(samples, ({ atMinutes }) => atMinutes), mean(samples, ({ octets }) => octets)];
  const covariance = mean(samples, ({ atMinutes, octets }) => (atMinutes - x) * (octets - y));
  return covariance / mean(samples, ({ atMinutes }) => (atMinutes - x) ** 2);
}
