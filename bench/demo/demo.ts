// `npm run demo`: a holder's story told through the real service, each answer checked by openssl from outside.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import type { Issued } from '../../ca/client/client.ts';
import {
  askOcsp,
  base64,
  cardRequest,
  crlAddress,
  defaultDevice,
  derOf,
  enrolmentContent,
  fetchCrl,
  listed,
  makeChipKey,
  namedClient,
  ocspRequest,
  pemOf,
  signEnrolment,
  until,
} from '../../test/support/actors.ts';
import { configure, type ServiceProcess, startProcess } from '../../test/support/service-process.ts';

const kinds = ['card-signing', 'card-authentication', 'phone-signing', 'phone-authentication'] as const;
type Kind = (typeof kinds)[number];

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

function openssl(...args: string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function expectText(text: string, wanted: string, what: string): void {
  if (!text.includes(wanted)) throw new Error(`${what}: openssl does not say "${wanted}":\n${text}`);
}

/** The demo's artefacts, as files. */
class Artefacts {
  readonly folder: string;

  constructor(folder: string) {
    this.folder = folder;
    mkdirSync(folder, { recursive: true });
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  write(name: string, octets: Uint8Array | string): string {
    writeFileSync(this.path(name), octets);
    return this.path(name);
  }
}

const issuerOf = (kind: Kind): 'signing' | 'authentication' =>
  kind.endsWith('-signing') ? 'signing' : 'authentication';

async function askAll(
  out: Artefacts,
  ocsp: string,
  prefix: 'good' | 'revoked',
  certificates: Record<Kind, string>,
) {
  for (const kind of kinds) {
    const caFile = out.path(`${issuerOf(kind)}-ca.pem`);
    const issuer = derOf(openssl('x509', '-in', caFile));
    const response = await askOcsp(ocsp, await ocspRequest(derOf(certificates[kind]), issuer));
    const file = out.write(`${prefix}-${kind}.ocsp`, response);
    const args = [
      '-sha256',
      '-issuer',
      caFile,
      '-cert',
      out.path(`${kind}.pem`),
      '-CAfile',
      caFile,
      '-no_nonce',
    ];
    const text = openssl('ocsp', '-respin', file, ...args);
    expectText(text, `: ${prefix}`, `OCSP of ${kind}`);
    say(`  OCSP says ${prefix.padEnd(7)} for ${kind.padEnd(20)} (openssl ocsp agrees)`);
  }
}

/** Fetches a CA certificate from where the certificates' AIA says it is. */
async function fetchAuthority(
  out: Artefacts,
  base: string,
  slot: 'signing' | 'authentication',
): Promise<void> {
  const certificate = await fetchCrl(`${base}/ca/${slot}-1.cer`);
  const der = out.write(`${slot}-ca.cer`, certificate);
  out.write(`${slot}-ca.pem`, openssl('x509', '-inform', 'DER', '-in', der));
  rmSync(der);
}

async function tell(folder: string, { addresses }: ServiceProcess, out: Artefacts): Promise<void> {
  const api = namedClient(folder, addresses.api, 'first');
  say(
    '1. The ceremony made two CAs, their OCSP responders and an operations CA; every key is in a PKCS#11 token.',
  );

  const cardSigning = await makeChipKey();
  const cardAuthentication = await makeChipKey();
  const request = cardRequest({ signing: cardSigning, authentication: cardAuthentication });
  const card = await api.post<Issued>('/card-certificates', request);
  if (card.status !== 201) throw new Error(`issuing to the card: ${JSON.stringify(card.body)}`);
  say('2. The counter has a pair of certificates issued to the card.');

  const cardCertificate = derOf(pemOf(card.body, 'card-signing'));
  const { origin } = new URL(crlAddress(cardCertificate));
  for (const slot of ['signing', 'authentication'] as const) await fetchAuthority(out, origin, slot);

  const { body } = await api.post<{ challenge: string }>('/phone-challenges', undefined);
  const parts = {
    cardSigningKey: cardSigning.privateKey,
    cardSigningCertificate: cardCertificate,
    challenge: Buffer.from(body.challenge, 'base64'),
    device: defaultDevice,
    signing: await makeChipKey(),
    authentication: await makeChipKey(),
  };
  const signedEnrolment = base64(signEnrolment(enrolmentContent(parts), parts));
  const phone = await api.post<Issued>('/phone-certificates', {
    deviceId: defaultDevice.deviceId,
    signedEnrolment,
  });
  if (phone.status !== 201) throw new Error(`issuing to the phone: ${JSON.stringify(phone.body)}`);
  say('3. The phone has its pair issued online: the request is signed with the card.');

  const certificates = {
    'card-signing': pemOf(card.body, 'card-signing'),
    'card-authentication': pemOf(card.body, 'card-authentication'),
    'phone-signing': pemOf(phone.body, 'phone-signing'),
    'phone-authentication': pemOf(phone.body, 'phone-authentication'),
  };
  for (const kind of kinds) {
    const file = out.write(`${kind}.pem`, certificates[kind]);
    expectText(
      openssl('verify', '-x509_strict', '-CAfile', out.path(`${issuerOf(kind)}-ca.pem`), file),
      'OK',
      kind,
    );
  }
  say('4. openssl verifies all four certificates.');

  say('5. A relying party asks for their status:');
  await askAll(out, addresses.ocsp, 'good', certificates);

  const event = { event: 'card-returned', cardId: 'card-1' };
  const plan = await api.post<{ changes: unknown[] }>('/events', { ...event, dryRun: true });
  say(`6. A dry run of "card returned" plans ${plan.body.changes.length} revocations and acts on none.`);
  const changed = await api.post<{ changes: unknown[]; orders: unknown[] }>('/events', event);
  say(
    `7. The card is returned: ${changed.body.changes.length} certificates revoked, the phone's by cascade, and its remote deletion ordered.`,
  );

  say('8. The relying party asks again:');
  await askAll(out, addresses.ocsp, 'revoked', certificates);

  say("9. So do the CRLs at the certificates' own distribution points:");
  for (const kind of kinds) await checkCrl(out, kind, certificates[kind]);
  await api.close();
}

async function checkCrl(out: Artefacts, kind: Kind, certificatePem: string): Promise<void> {
  const certificate = derOf(certificatePem);
  const serial =
    openssl('x509', '-in', out.path(`${kind}.pem`), '-noout', '-serial')
      .trim()
      .split('=')[1] ?? '';
  let crl: Uint8Array = new Uint8Array();
  await until(`the CRL lists ${kind}`, async () => {
    crl = await fetchCrl(crlAddress(certificate));
    return listed(crl).has(serial.toLowerCase());
  });
  const file = out.write(`${kind}.crl`, crl);
  const caFile = out.path(`${issuerOf(kind)}-ca.pem`);
  const args = ['crl', '-inform', 'DER', '-in', file, '-CAfile', caFile, '-noout', '-text'];
  const { stdout: text, stderr } = spawnSync('openssl', args, { encoding: 'utf8' });
  expectText(stderr, 'verify OK', `CRL of ${kind}`);
  expectText(text, serial, `CRL of ${kind}`);
  say(`  the CRL lists ${kind.padEnd(20)} (openssl crl agrees)`);
}

async function main(): Promise<void> {
  const program = new Command('demo').option(
    '--out <folder>',
    'leave certificates, OCSP responses and CRLs there',
  );
  const { out } = program.parse().opts<{ out?: string }>();
  const scratch = mkdtempSync(join(tmpdir(), 'warifu-demo-'));
  const folder = join(scratch, 'data');
  const service = await startProcess(folder, await configure(folder));
  try {
    await tell(folder, service, new Artefacts(out ?? join(scratch, 'out')));
  } finally {
    await service.stop();
    rmSync(scratch, { recursive: true });
  }
  say(out ? `Done. See ${out}.` : 'Done.');
}

await main();
