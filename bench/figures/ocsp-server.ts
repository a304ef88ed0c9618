// The responder of the OCSP bench, in a process of its own: the real listening threads, token and index; of the index
// only the content is made up.
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { performCeremony } from '../../ca/node/ceremony.ts';
import { openNode } from '../../ca/node/wiring.ts';
import { suites } from '../../core/asn1/algorithms.ts';
import type { VerifierFacts } from '../../core/model/verifier.ts';
import { configuredResponders } from '../../core/node/responder-file.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { ClassTable } from '../../ocsp/index/class-table.ts';
import { code, Segment, segmentLength } from '../../ocsp/index/segment.ts';
import { StatusIndex } from '../../ocsp/index/status-index.ts';
import { Listeners } from '../../ocsp/node/listeners.ts';
import { recordedAuthorities } from '../../store/rules/token-memory.ts';
import { freePort } from '../../test/support/service-process.ts';

export interface OcspServerOptions {
  readonly folder: string;
  /** Certificates in the index, all good. */
  readonly certificates: number;
  /** Over the defaults of `ocsp`. */
  readonly ocsp: object;
  /** A file with who may ask: a JSON array of `VerifierFacts`. */
  readonly verifiers?: string;
  /** PEM, for `ocsp.verifiers.tls`. */
  readonly tls?: { readonly key: string; readonly cert: string; readonly ca: string };
}

export interface OcspServerSaid {
  readonly address: string;
  readonly authority: string;
  /** DER, base64. */
  readonly certificate: string;
  /** Of epoch 1, base64. */
  readonly epochKey: string;
  readonly keyLabel: string;
  readonly tokenLabel: string;
  readonly pinFile: string;
}

const authority = 'signing-1';

async function serve({ folder, certificates, ocsp, verifiers, tls }: OcspServerOptions): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const port = await freePort();
  writeFileSync(join(folder, 'warifu.json'), JSON.stringify({ ocsp: { ...ocsp, port } }));
  await performCeremony({ folder, clock: systemClock });
  const node = await openNode({ folder, clock: systemClock, mode: 'open' });
  const { config, layout: paths, pool, gate, ocspToken } = node;
  const { pkcs11 } = config;
  const recorded = await recordedAuthorities(node.database);
  const certificate = recorded.find((row) => row.authority === authority)?.certificate;
  if (!certificate) throw new Error('the ceremony made no such authority');
  const rows = configuredResponders(paths.responders, config.ocsp.responderSuites).filter(
    (row) => row.authority === authority,
  );
  const epochKey = randomBytes(16);
  const index = new StatusIndex({ epochKey: async () => epochKey }, systemClock);
  const encoded = Buffer.from(certificate).toString('base64');
  await index.setAuthority(authority, encoded);
  for (let number = 0; number * segmentLength < certificates; number++) {
    const segment = Segment.empty(new ClassTable());
    segment.fill(code.good);
    await index.restore({ authority, epoch: 1, number, notAfterMs: 0, memory: segment.memory });
  }
  const apply = (events: Parameters<StatusIndex['apply']>[0]['events']) =>
    index.apply({ events, cursor: { incarnation: '', positions: {} }, watermarkMs: systemClock.wallMs() });
  const heartbeat = () => apply([]);
  const facts =
    verifiers === undefined ? [] : (JSON.parse(readFileSync(verifiers, 'utf8')) as VerifierFacts[]);
  await apply(facts.map((each) => ({ type: 'verifier', ...each })));
  setInterval(() => void heartbeat(), 1000);
  const listeners = await Listeners.start({
    config: config.ocsp,
    pkcs11,
    gate,
    index,
    keys: rows.map((row) => ({
      authority,
      certificate: Buffer.from(row.certificate, 'base64'),
      key: pool.keySpec(ocspToken.label, row.keyLabel, suites[row.suite]),
      publicKey: ocspToken.findKeyPair(row.keyLabel, suites[row.suite]).publicKey,
    })),
    logger: pino({ base: null }, pino.destination(2)),
    tls: tls ?? null,
    askedFolder: join(folder, 'asked'),
    shift: null,
    niceness: 0,
  });
  const said: OcspServerSaid = {
    address: listeners.address,
    authority,
    certificate: encoded,
    epochKey: epochKey.toString('base64'),
    keyLabel: rows[0]?.keyLabel ?? '',
    tokenLabel: pkcs11.ocspToken.label,
    pinFile: paths.pin(pkcs11.ocspToken.pinFile),
  };
  process.stdout.write(`${JSON.stringify(said)}\n`);
}

await serve(JSON.parse(process.argv[2] ?? '{}') as OcspServerOptions);
