import 'reflect-metadata';
import {
  createHash,
  generateKeyPairSync,
  randomBytes,
  randomInt,
  webcrypto,
  X509Certificate,
} from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import { SerialCipher } from '../../core/crypto/serial.ts';
import type { NodeCredential, VerifierFacts } from '../../core/model/verifier.ts';
import { freePort } from '../../test/support/service-process.ts';
import { cores, cpuMicros, median, outputOf, spawnOn, startScript } from '../load/measure.ts';
import type { SitesLoad } from '../load/sites-load.ts';
import { noteDisturbance } from '../report/steadiness.ts';
import { tell } from '../report/told.ts';
import { asker } from '../rivals/rivals.ts';
import { rawSignatures } from './ocsp.ts';
import type { OcspServerOptions, OcspServerSaid } from './ocsp-server.ts';

export interface SitesBenchOptions {
  readonly rounds: number;
  readonly seconds: number;
  /** Certificates in the index, from which those asked about are drawn. */
  readonly certificates: number;
  /** Sites that ask directly, each with a credential of its own. */
  readonly sites: number;
}

/** Medical institutions, kiosks and private verifiers of the nation. */
export const sitesOfNation = 229_018 + 56_285 + 1300;
/** Checks a second in the morning hours, and by how much they come in bursts. */
const peakPerSecond = 245 * 5;
const platforms = 20;
const connectionsOfPlatform = 4;
const direct = { newShare: 0.3, tlsShare: 0.2, connections: 64 } as const;
/** Certificates that are shown over TLS: those of the other sites are on the register alone. */
const certificatesShown = 500;
/** Below it the figure says more of the load generator than of the server. */
const busyAtLeast = 0.8;

/** OCSP as it will be asked by verifiers: few over kept connections, or each site by itself; answers signed on the spot, on one core. */
export async function benchSites(options: SitesBenchOptions): Promise<Record<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), 'warifu-bench-sites-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const platform = await Mix.start(join(folder, 'platform'), options, { verifiers: platforms, tlsShare: 0 });
  const sites = await Mix.start(join(folder, 'direct'), options, {
    ...{ verifiers: options.sites, tlsShare: direct.tlsShare },
  });
  const results = { platform: [] as Outcome[], direct: [] as Outcome[], raw: [] as number[] };
  for (let round = 0; round <= options.rounds; round += 1) {
    tell(`sites, round ${round} of ${options.rounds}`);
    const of = {
      platform: await platform.measure({ newShare: 0, connections: platforms * connectionsOfPlatform }),
      direct: await sites.measure(direct),
      raw: await rawSignatures(join(folder, 'platform', 'softhsm'), platform.said, options.seconds),
    };
    // The first round warms up.
    if (round === 0) continue;
    results.platform.push(of.platform);
    results.direct.push(of.direct);
    results.raw.push(of.raw);
  }
  const rawSignPerSecond = median(results.raw);
  return {
    ...figures('platform', results.platform, rawSignPerSecond),
    ...figures('direct', results.direct, rawSignPerSecond),
    directSites: options.sites,
    peakPerSecond,
    rawSignPerSecond,
  };
}

interface Outcome {
  /** As many as the server can answer. */
  readonly perSecond: number;
  readonly serverBusy: number;
  /** At the nation's peak. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly refused: number;
}

function figures(prefix: string, outcomes: readonly Outcome[], raw: number): Record<string, number> {
  const of = (key: keyof Outcome): number => median(outcomes.map((outcome) => outcome[key]));
  const [perSecond, serverBusy] = [of('perSecond'), of('serverBusy')];
  if (serverBusy < busyAtLeast)
    noteDisturbance(`the server was busy for ${serverBusy.toFixed(2)} of the time only in ${prefix}`);
  return {
    [`${prefix}RequestsPerSecond`]: perSecond,
    [`${prefix}HeadroomToPeak`]: perSecond / peakPerSecond,
    [`${prefix}P50Ms`]: of('p50Ms'),
    [`${prefix}P99Ms`]: of('p99Ms'),
    [`${prefix}Refused`]: outcomes.reduce((sum, { refused }) => sum + refused, 0),
    [`${prefix}ToRawSign`]: perSecond / raw,
    [`${prefix}ServerBusy`]: serverBusy,
  };
}

interface Files {
  readonly requests: string;
  readonly paths: string;
  readonly certificates: string;
}

/** A responder with a register of verifiers, and what asks it. */
class Mix {
  readonly said: OcspServerSaid;
  readonly #pid: number;
  readonly #folder: string;
  readonly #files: Files;
  readonly #tlsPort: number;
  readonly #seconds: number;
  readonly #tlsShare: number;

  private constructor(of: {
    readonly said: OcspServerSaid;
    readonly pid: number;
    readonly folder: string;
    readonly files: Files;
    readonly tlsPort: number;
    readonly seconds: number;
    readonly tlsShare: number;
  }) {
    this.said = of.said;
    this.#pid = of.pid;
    this.#folder = of.folder;
    this.#files = of.files;
    this.#tlsPort = of.tlsPort;
    this.#seconds = of.seconds;
    this.#tlsShare = of.tlsShare;
  }

  static async start(
    folder: string,
    { certificates, seconds }: SitesBenchOptions,
    { verifiers, tlsShare }: { readonly verifiers: number; readonly tlsShare: number },
  ): Promise<Mix> {
    const tlsPort = await freePort();
    const shown = await TlsSites.make(tlsShare === 0 ? 0 : certificatesShown);
    const overTls = Math.round(verifiers * tlsShare);
    const tokens = Array.from({ length: verifiers - overTls }, () => randomBytes(16).toString('hex'));
    const register = [
      ...tokens.map((token) => credential('token', createHash('sha256').update(token).digest('hex'))),
      ...Array.from({ length: overTls }, (_, i) =>
        credential('certificate', shown.fingerprints[i] ?? randomBytes(32).toString('hex')),
      ),
    ].map(factsOf);
    const files = {
      requests: `${folder}.requests`,
      paths: `${folder}.paths`,
      certificates: `${folder}.certificates`,
    };
    writeFileSync(`${folder}.verifiers`, JSON.stringify(register));
    const server: OcspServerOptions = {
      ...{ folder, certificates, verifiers: `${folder}.verifiers`, tls: shown.server },
      ocsp: {
        ...{ responderSuites: ['p256-sha256'], responseValidity: '12h', cacheBytes: 1_000_000 },
        verifiers: { required: true, tls: { port: tlsPort, key: 'key', cert: 'cert', ca: 'ca' } },
      },
    };
    const { said, pid } = await startScript<OcspServerSaid>(
      cores.server,
      new URL('./ocsp-server.ts', import.meta.url),
      [JSON.stringify(server)],
    );
    const ask = asker(Buffer.from(said.certificate, 'base64'));
    const cipher = new SerialCipher(1, Buffer.from(said.epochKey, 'base64'));
    const bodies = Array.from({ length: 50_000 }, () =>
      ask(cipher.encrypt(randomInt(certificates)), randomBytes(32)),
    );
    writeFileSync(files.requests, framed(bodies));
    writeFileSync(files.paths, tokens.map((token) => `/v/${token}`).join('\n'));
    writeFileSync(files.certificates, JSON.stringify(shown.clients));
    return new Mix({ said, pid, folder, files, tlsPort, seconds, tlsShare });
  }

  async measure(of: { readonly newShare: number; readonly connections: number }): Promise<Outcome> {
    const most = await this.#load({ ...of, perSecond: null });
    const peak = await this.#load({ ...of, perSecond: peakPerSecond });
    const { perSecond, serverBusy } = most;
    return {
      ...{ perSecond, serverBusy, p50Ms: peak.p50Ms, p99Ms: peak.p99Ms },
      refused: most.refused + peak.refused,
    };
  }

  async #load(of: Pick<SitesLoad, 'newShare' | 'connections' | 'perSecond'>) {
    const load: SitesLoad = {
      ...{ ...of, ...this.#files, tlsShare: this.#tlsShare, seconds: this.#seconds },
      ...{ port: Number(new URL(this.said.address).port), tlsPort: this.#tlsPort },
    };
    const file = `${this.#folder}.load`;
    writeFileSync(file, JSON.stringify(load));
    const [before, startMs] = [cpuMicros(this.#pid), performance.now()];
    const child = spawnOn(cores.load, process.execPath, [siteLoad, file]);
    const said = JSON.parse(await outputOf(child)) as Omit<Outcome, 'serverBusy'>;
    // Reading the requests is part of the time, and of little of it.
    const serverBusy = (cpuMicros(this.#pid) - before) / ((performance.now() - startMs) * 1000);
    return { ...said, serverBusy };
  }
}

const siteLoad = new URL('../load/sites-load.ts', import.meta.url).pathname;

const credential = (type: NodeCredential['type'], value: string): NodeCredential => ({
  ...{ type, value, fromMs: 0, toMs: null },
});
const factsOf = (each: NodeCredential, i: number): VerifierFacts => ({
  ...{ verifierId: `site-${i}`, version: 1, kinds: ['signing', 'authentication'], fromMs: 0, toMs: null },
  ...{ suspendedMs: null, requestsPerSecond: null, credentials: [each] },
});

function framed(parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    parts.flatMap((part) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(part.length);
      return [length, part];
    }),
  );
}

/** A CA for verifiers, the responder's certificate, and those of sites. */
class TlsSites {
  readonly server: { readonly key: string; readonly cert: string; readonly ca: string };
  readonly clients: readonly { readonly key: string; readonly cert: string }[];
  readonly fingerprints: readonly string[];

  private constructor(of: Pick<TlsSites, 'server' | 'clients'>) {
    this.server = of.server;
    this.clients = of.clients;
    this.fingerprints = of.clients.map(({ cert }) =>
      new X509Certificate(cert).fingerprint256.replaceAll(':', '').toLowerCase(),
    );
  }

  static async make(sites: number): Promise<TlsSites> {
    x509.cryptoProvider.set(webcrypto as never);
    const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
    const keys = () => webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
    const caKeys = await keys();
    const name = 'CN=CA of verifiers';
    const validity = { notBefore: new Date(Date.now() - 3_600_000), notAfter: new Date(Date.now() + 864e5) };
    const ca = await x509.X509CertificateGenerator.createSelfSigned({
      ...{ name, keys: caKeys as never, signingAlgorithm: algorithm, ...validity },
      extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
    });
    const issue = async (subject: string) => {
      const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const spki = publicKey.export({ format: 'der', type: 'spki' });
      const cert = await x509.X509CertificateGenerator.create({
        ...{ subject, issuer: name, signingAlgorithm: algorithm, ...validity },
        signingKey: caKeys.privateKey as never,
        publicKey: (await webcrypto.subtle.importKey('spki', spki, algorithm, true, ['verify'])) as never,
      });
      return { key: String(privateKey.export({ format: 'pem', type: 'pkcs8' })), cert: cert.toString('pem') };
    };
    const server = { ...(await issue('CN=127.0.0.1')), ca: ca.toString('pem') };
    const clients = [];
    for (let i = 0; i < sites; i += 1) clients.push(await issue(`CN=site ${i}`));
    return new TlsSites({ server, clients });
  }
}
