import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { type Logger, pino } from 'pino';
import { type SuiteName, suites } from '../core/algorithms.ts';
import { parseCertificate } from '../core/certificate-reader.ts';
import { type Clock, systemClock } from '../core/clock.ts';
import { durationMs } from '../core/config.ts';
import { PkiError } from '../core/errors.ts';
import { slots } from '../core/kinds.ts';
import type { Signer } from '../core/signer.ts';
import { startCrl } from '../crl/main.ts';
import { startOcsp } from '../ocsp/main.ts';
import type { ResponderKey } from '../ocsp/responder.ts';
import { pem } from './api/present.ts';
import { buildApi } from './api/server.ts';
import { createAuthority, fingerprintOf, issueResponder, performCeremony } from './ceremony.ts';
import type { CertificateAuthority } from './issue.ts';
import { ensureServerLeaf, issueTlsLeaf, type OperationsAuthority } from './operations.ts';
import { Recovery } from './recovery.ts';
import {
  keyLabel,
  layout,
  type Node,
  openAuthorities,
  openNode,
  operationsSuite,
  readResponders,
  signerFor,
} from './wiring.ts';

/** How often the feed's watermark moves on while nothing happens. */
const heartbeatMs = 1000;

export interface Service {
  readonly addresses: { readonly api: string; readonly ocsp: string; readonly crl: string };
  readonly ca: CertificateAuthority;
  /** Stops accepting, finishes what has begun, closes everything. */
  close(): Promise<void>;
}

/** The whole service in one process: CA API, OCSP responder, CRL publisher. The first start is a ceremony. */
export async function startService(options: {
  readonly folder: string;
  readonly clock: Clock;
  readonly logger: Logger;
}): Promise<Service> {
  const { folder, clock, logger } = options;
  if (!existsSync(layout(folder).ceremony)) {
    logger.info({ folder }, 'performing the ceremony');
    await performCeremony({ folder, clock });
  }
  const node = await openNode({ folder, clock, mode: 'open' });
  const ca = await openAuthorities(node);
  const recovery = new Recovery(ca, logger);
  await recovery.start();
  await renewResponders(node, ca);
  const { feed, config } = node;
  const ocsp = await startOcsp({ config: config.ocsp, feed, keys: responderKeys(node), clock });
  const signers = crlSigners(node, ca);
  const crl = await startCrl({ config: config.crl, feed, signers, folder: node.layout.crl, clock, logger });
  const heartbeat = setInterval(() => {
    feed
      .deliver()
      .catch((error: Error) => logger.error({ reason: error.message }, 'the feed cannot be read'));
  }, heartbeatMs).unref();
  const operations = openOperations(node);
  const leaf = await ensureServerLeaf(operations, { folder: node.layout.tls, host: config.api.host });
  const api = await buildApi({
    ca,
    tls: { ...leaf, ca: readFileSync(node.layout.operationsCa, 'utf8') },
    logger,
  });
  const address = await api.listen({ host: config.api.host, port: config.api.port });
  return {
    ca,
    addresses: { api: address, ocsp: ocsp.address, crl: crl.address },
    close: async () => {
      await api.close();
      clearInterval(heartbeat);
      await recovery.stop();
      await ocsp.close();
      await crl.close();
      await node.close();
    },
  };
}

function openOperations(node: Node): OperationsAuthority {
  const signer = signerFor(node, node.caToken, keyLabel.operations, operationsSuite, 'certificate');
  const certificate = new X509Certificate(readFileSync(node.layout.operationsCa)).raw;
  return { signer, certificate, clock: node.clock };
}

function responderKeys(node: Node): ResponderKey[] {
  return readResponders(node.layout).map(({ authority, keyLabel: label, suite, certificate }) => {
    const der = Buffer.from(certificate, 'base64');
    const signer = signerFor(node, node.ocspToken, label, suite, 'ocsp');
    return { authority, signer, certificate: der, notAfterMs: parseCertificate(der).notAfterMs };
  });
}

/** Responder certificates are short-lived: at start, those in their last third are replaced. */
async function renewResponders(node: Node, ca: CertificateAuthority): Promise<void> {
  const thirdMs = durationMs(node.config.ocsp.responderValidity) / 3;
  const fresh = new Set(
    readResponders(node.layout)
      .filter(
        ({ certificate }) =>
          parseCertificate(Buffer.from(certificate, 'base64')).notAfterMs - node.clock.wallMs() > thirdMs,
      )
      .map(({ authority }) => authority),
  );
  for (const authority of ca.authorities.all)
    if (!fresh.has(authority.name)) await issueResponder(node, authority);
}

function crlSigners(node: Node, ca: CertificateAuthority): Map<string, Signer<'crl'>> {
  return new Map(
    ca.authorities.all.map(({ name, signer }) => [
      name,
      signerFor(node, node.caToken, name, signer.suite.name, 'crl'),
    ]),
  );
}

async function start(folder: string): Promise<void> {
  const logger = pino({ base: null }, pino.destination(2));
  const service = await startService({ folder, clock: systemClock, logger });
  process.stdout.write(await greeting(folder, service));
  const stop = (signal: string) => {
    logger.info({ signal }, 'stopping');
    service.close().then(
      () => logger.info('stopped'),
      (error: Error) => {
        logger.error({ reason: error.message }, 'stopping failed');
        process.exitCode = 1;
      },
    );
  };
  process.once('SIGTERM', () => stop('SIGTERM'));
  process.once('SIGINT', () => stop('SIGINT'));
}

/** What a person needs next: addresses, and one line each that works. */
async function greeting(folder: string, { addresses: { api, ocsp, crl }, ca }: Service): Promise<string> {
  const { clients, tls, crl: published, example: exampleFolder } = layout(folder);
  // The libraries behind it are slow to load, and only the greeting wants them.
  const { writeExample } = await import('./example.ts');
  const example = await writeExample({
    folder: exampleFolder,
    municipalityCode: ca.config.municipalities[0]?.code ?? '',
    nowMs: ca.clock.wallMs(),
    certificate: ca.authorities.byName('signing-1').certificate,
  });
  const mtls = `--cert ${clients}/first.pem --key ${clients}/first.key --cacert ${tls}/operations-ca.pem`;
  return [
    'Warifu is running.',
    `  CA API  ${api}/v1   (TLS, client certificate ${clients}/first.pem)`,
    `  OCSP    ${ocsp}`,
    `  CRL     ${crl}     (files in ${published})`,
    '',
    'Issue to a card:',
    `  curl -s ${mtls} -H 'Content-Type: application/json' -H 'Idempotency-Key: first' -d @${example.cardRequest} ${api}/v1/card-certificates`,
    'Ask OCSP about the signing CA’s own certificate:',
    `  curl -s -H 'Content-Type: application/ocsp-request' --data-binary @${example.ocspRequest} ${ocsp} | openssl ocsp -respin /dev/stdin -noverify -text`,
    'Fetch a CRL:',
    `  curl -s ${crl}/crl/authority/signing-1.crl | openssl crl -inform DER -noout -text`,
    '',
  ].join('\n');
}

async function addGeneration(folder: string, suite: string): Promise<void> {
  if (!Object.hasOwn(suites, suite) || suites[suite as SuiteName].holderKey === null) {
    throw new PkiError('bad-request', `${suite} is no suite for holders' certificates`);
  }
  const node = await openNode({ folder, clock: systemClock, mode: 'open' });
  try {
    const { authorities } = await openAuthorities(node);
    const generation = Math.max(...authorities.all.map((authority) => authority.generation)) + 1;
    for (const slot of slots) await createAuthority(node, slot, generation, suite as SuiteName);
    for (const authority of (await openAuthorities(node)).authorities.all) {
      if (authority.generation !== generation) continue;
      await issueResponder(node, authority);
      const sha256 = fingerprintOf(pem(authority.certificate));
      process.stdout.write(`${authority.name} ${suite} sha256 ${sha256}\n`);
    }
  } finally {
    await node.close();
  }
}

/** Issues a client certificate; an administrator binds its fingerprint to roles through the API. */
async function issueClient(folder: string, name: string): Promise<void> {
  const node = await openNode({ folder, clock: systemClock, mode: 'open' });
  try {
    const { cert } = await issueTlsLeaf(openOperations(node), {
      kind: 'tls-client',
      commonName: name,
      subjectAltName: null,
      folder: node.layout.clients,
      name,
    });
    process.stdout.write(`${join(node.layout.clients, `${name}.pem`)}\nfingerprint ${fingerprintOf(cert)}\n`);
  } finally {
    await node.close();
  }
}

function cli(): Command {
  const program = new Command('warifu').description(
    'A certificate authority for paired card and phone certificates',
  );
  const folder = ['--data <folder>', 'data folder', 'data'] as const;
  program
    .command('start')
    .description('run CA API, OCSP and CRL; the first start performs the ceremony')
    .option(...folder)
    .action(async ({ data }: { data: string }) => start(resolve(data)));
  program
    .command('ceremony')
    .description('make tokens, CAs, record and a first client in an empty data folder')
    .option(...folder)
    .action(async ({ data }: { data: string }) =>
      performCeremony({ folder: resolve(data), clock: systemClock }),
    );
  program
    .command('generation')
    .description(
      'add a generation: a new key for both CAs, under the same names; the service takes it up at its next start',
    )
    .requiredOption('--suite <name>', 'rsa2048-sha256 or p384-sha384')
    .option(...folder)
    .action(async ({ data, suite }: { data: string; suite: string }) => addGeneration(resolve(data), suite));
  program
    .command('client <name>')
    .description('issue a TLS client certificate')
    .option(...folder)
    .action(async (name: string, { data }: { data: string }) => {
      if (!/^[a-z0-9-]{1,32}$/.test(name)) throw new PkiError('bad-request', 'a name is of a–z, 0–9 and -');
      await issueClient(resolve(data), name);
    });
  program
    .command('openapi')
    .description('print the OpenAPI document of the CA API')
    .action(async () => {
      const { openApiDocument } = await import('./api/openapi.ts');
      process.stdout.write(await openApiDocument());
    });
  return program;
}

if (import.meta.main) {
  try {
    await cli().parseAsync();
  } catch (error) {
    const what = error instanceof PkiError ? `${error.code}: ${error.message}` : (error as Error).stack;
    process.stderr.write(`warifu: ${what}\n`);
    process.exitCode = 1;
  }
}
