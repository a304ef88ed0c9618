import { execFile } from 'node:child_process';
import { createPublicKey, X509Certificate } from 'node:crypto';
import { DatabaseSync } from 'node:sqlite';
import { promisify } from 'node:util';
import * as pkijs from 'pkijs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Issued } from '../../ca/client/client.ts';
import { linkGenerations } from '../../ca/node/generation.ts';
import { makeGeneration } from '../../ca/node/guarded-acts.ts';
import { layout } from '../../ca/node/layout.ts';
import { openNode } from '../../ca/node/wiring.ts';
import {
  askOcsp,
  cardRequest,
  derOf,
  exact,
  fetchCrl,
  ocspRequest,
  pemOf,
  until,
} from '../support/actors.ts';
import {
  dataFolder,
  dayInJapan,
  fileOf,
  type Holder,
  issueCard,
  openssl,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

// A CA's key ends, and others take its place: anyone who trusts any living generation gets to trust what every other issued.

const dayMs = 86_400_000;
// The API's TLS certificate is of the drill's time, and our client's clock is not.
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
let test: TestService;
beforeAll(async () => {
  test = await startTestService({
    folder: await dataFolder({ caValidityYears: 7 } as unknown as Record<string, object>),
  });
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

/** Stops the service, adds a generation or does something else with its folder, and starts it again. */
async function meanwhile<T>(act: (node: Awaited<ReturnType<typeof openNode>>) => Promise<T>): Promise<T> {
  const { folder, clock } = test;
  await test.close();
  const node = await openNode({ folder, clock, mode: 'open' });
  const done = await act(node);
  await node.close();
  test = await startTestService({ folder, clock });
  return done;
}

const pemFile = (der: Uint8Array): string => fileOf(new X509Certificate(der).toString(), 'certificate.pem');
const fetched = (path: string): Promise<Uint8Array> => fetchCrl(`${test.service.addresses.crl}/${path}`);
const root = (name: string): Promise<Uint8Array> => fetched(`ca/${name}.cer`);
/** The same of what is published a moment after it was asked for. */
async function published(path: string): Promise<Uint8Array> {
  await until(`${path} is published`, () =>
    fetched(path).then(
      () => true,
      () => false,
    ),
  );
  return fetched(path);
}
const keyOf = (der: Uint8Array): Buffer =>
  createPublicKey(new X509Certificate(der).toString()).export({ type: 'spki', format: 'der' });
const at = (): string[] => ['-attime', String(Math.floor(test.clock.wallMs() / 1000))];

/** Whether openssl builds the path from a certificate to the root that is trusted, with CRLs where they are given. */
function verifies(certificate: string, trusted: Uint8Array, ...crls: string[]): boolean {
  const checked = crls.length === 0 ? [] : ['-crl_check', ...crls.flatMap((file) => ['-CRLfile', file])];
  const given = ['-x509_strict', ...at(), '-CAfile', pemFile(trusted), ...checked];
  try {
    return openssl('verify', ...given, certificate).includes('OK');
  } catch (error) {
    return (error as Error).message.includes('never');
  }
}

/** What a relying party does that trusts one generation and meets another: by the link it trusts the other's certificate. */
async function trustedBy(trusted: string, other: string): Promise<Uint8Array> {
  if (trusted === other) return root(trusted);
  const link = await published(`ca/${other}-by-${trusted.split('-')[1]}.cer`);
  const [by, certificate] = [await root(trusted), await root(other)];
  const crl = openssl('crl', '-inform', 'DER', '-in', fileOf(await fetched(`crl/authority/${trusted}.crl`)));
  expect(verifies(pemFile(link), by, fileOf(crl))).toBe(true);
  expect(keyOf(link).equals(keyOf(certificate))).toBe(true);
  // A second opinion.
  const engine = new pkijs.CertificateChainValidationEngine({
    trustedCerts: [pkijs.Certificate.fromBER(exact(by))],
    certs: [pkijs.Certificate.fromBER(exact(link))],
    checkDate: new Date(test.clock.wallMs()),
  });
  expect((await engine.verify()).result).toBe(true);
  return certificate;
}

/** Every relying party: one that trusts each of these generations builds the path of a certificate, with its CRL. */
async function everybodyBuilds(issued: Issued, generations: readonly number[], path: string): Promise<void> {
  const [signing] = issued.certificates.filter(({ kind }) => kind === 'card-signing');
  const certificate = fileOf(pemOf(issued, 'card-signing'), 'leaf.pem');
  const crl = fileOf(openssl('crl', '-inform', 'DER', '-in', fileOf(await published(path))));
  for (const generation of generations) {
    const trusted = await trustedBy(`signing-${generation}`, signing?.authority ?? '');
    expect(verifies(certificate, trusted, crl), `by one that trusts generation ${generation}`).toBe(true);
  }
}

async function status(issued: Issued): Promise<string> {
  const [signing] = issued.certificates.filter(({ kind }) => kind === 'card-signing');
  const certificate = derOf(pemOf(issued, 'card-signing'));
  const issuer = await root(signing?.authority ?? '');
  const response = await askOcsp(test.service.addresses.ocsp, await ocspRequest(certificate, issuer));
  const text = openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text');
  return /Cert Status: (\w+)/.exec(text)?.[1] ?? '';
}

/** A card with P-384 keys. */
async function issueP384(name: string): Promise<Issued> {
  const request = (): string => {
    const key = fileOf('', 'p384.key');
    openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384', '-out', key);
    return openssl('req', '-new', '-sha384', '-key', key, '-subj', '/CN=x').replace(
      /-----[^-]+-----|\s/g,
      '',
    );
  };
  const requests = { signing: request(), authentication: request() };
  const cardExpiresOn = dayInJapan(test.clock.wallMs() + 3000 * dayMs);
  const overrides = { holderId: name, cardId: name, cardExpiresOn, requests };
  const { status: code, body } = await test.api.post<Issued>(
    '/card-certificates',
    cardRequest({}, overrides),
  );
  expect(code, JSON.stringify(body)).toBe(201);
  return body;
}
const issueRsa = (): Promise<Holder> =>
  issueCard(test.api, {
    cardExpiresOn: dayInJapan(test.clock.wallMs() + 3000 * dayMs),
  });
const authoritiesOf = ({ certificates }: Issued): string[] =>
  certificates.map(({ authority }) => authority).sort();

describe('a drill of rollover', () => {
  let old: Holder;
  let third: Holder;
  let both: { rsa: Holder; p384: Issued };

  it('begins with one generation', async () => {
    old = await issueRsa();
    const path = 'crl/card-signing/1/13113/0.crl';
    await everybodyBuilds(old.card, [1], path);
    expect((await fetch(`${test.service.addresses.crl}/ca/signing-1-by-1.cer`)).status).toBe(404);
  });

  it('adds a second, of another suite: both issue and revoke, and both are linked, either way', async () => {
    test.clock.advance(365 * dayMs);
    const lines = await meanwhile((node) => makeGeneration(node, 'p384-sha384', []));
    expect(lines.slice(2).sort()).toEqual([
      'authentication-1-by-2',
      'authentication-2-by-1',
      'signing-1-by-2',
      'signing-2-by-1',
    ]);
    both = { rsa: await issueRsa(), p384: await issueP384('p384') };
    expect(authoritiesOf(both.rsa.card)).toEqual(['authentication-1', 'signing-1']);
    expect(authoritiesOf(both.p384)).toEqual(['authentication-2', 'signing-2']);
    await everybodyBuilds(old.card, [1, 2], 'crl/card-signing/1/13113/0.crl');
    await everybodyBuilds(both.p384, [1, 2], 'crl/card-signing/2/13113/0.crl');
    const gone = { rsa: await issueRsa(), p384: await issueP384('p384-gone') };
    await test.api.post('/events', { event: 'card-returned', cardId: gone.rsa.cardId });
    await test.api.post('/events', { event: 'card-returned', cardId: 'p384-gone' });
    expect([await status(gone.rsa.card), await status(gone.p384)]).toEqual(['revoked', 'revoked']);
    expect([await status(both.rsa.card), await status(both.p384)]).toEqual(['good', 'good']);
    for (const [issued, authority, generation] of [
      [gone.rsa.card, 'signing-1', 1],
      [gone.p384, 'signing-2', 2],
    ] as const) {
      const path = `crl/card-signing/${generation}/13113/0.crl`;
      const listed = async () => {
        const crl = fileOf(openssl('crl', '-inform', 'DER', '-in', fileOf(await fetched(path))));
        return !verifies(fileOf(pemOf(issued, 'card-signing'), 'gone.pem'), await root(authority), crl);
      };
      await expect.poll(listed).toBe(true);
    }
  });

  it('says what a link is: a CA’s key, its name, until the earlier end, revocable by its issuer', async () => {
    const link = await fetched('ca/signing-2-by-1.cer');
    const text = openssl('x509', '-in', pemFile(link), '-noout', '-text');
    expect(text).toMatch(/CA:TRUE/);
    expect(text).toMatch(/Certificate Sign, CRL Sign/);
    expect(text).toContain('/crl/authority/signing-1.crl');
    const [made, one, two] = [link, await root('signing-1'), await root('signing-2')].map(
      (der) => new X509Certificate(der),
    );
    expect([made?.subject, made?.issuer]).toEqual([one?.subject, one?.subject]);
    expect([made?.validFrom, made?.validTo]).toEqual([two?.validFrom, one?.validTo]);
    const serialNumber = made?.serialNumber.toLowerCase() ?? '';
    type Detail = { kind: string; status: { state: string } };
    const { body } = await test.api.get<Detail>(`/certificates/signing-1/${serialNumber}`);
    expect(body).toMatchObject({ kind: 'authority-link', status: { state: 'good' } });
    const path = `/certificates/signing-1/${serialNumber}/changes`;
    expect((await test.api.post(path, { action: 'revoke', reason: 'superseded' })).status).toBe(403);
  });

  it('links nothing twice', async () => {
    expect(await meanwhile(linkGenerations)).toEqual([]);
  });

  it('adds a third before the first is too old: it issues in its place', async () => {
    test.clock.advance(2 * 365 * dayMs);
    const lines = await meanwhile((node) => makeGeneration(node, 'rsa2048-sha256', []));
    expect(lines.filter((line) => line.startsWith('signing-') && line.includes('-by-'))).toHaveLength(4);
    third = await issueRsa();
    expect(authoritiesOf(third.card)).toEqual(['authentication-3', 'signing-3']);
    await everybodyBuilds(third.card, [1, 2, 3], 'crl/card-signing/3/13113/0.crl');
    await everybodyBuilds(both.rsa.card, [1, 2, 3], 'crl/card-signing/1/13113/0.crl');
    await everybodyBuilds(both.p384, [1, 2, 3], 'crl/card-signing/2/13113/0.crl');
    expect(await status(both.rsa.card)).toBe('good');
  });

  it('lets the first retire: anyone who trusts one of the others goes on', async () => {
    test.clock.advance(4 * 365 * dayMs + 2 * dayMs);
    await meanwhile(async () => undefined);
    await everybodyBuilds(third.card, [2, 3], 'crl/card-signing/3/13113/0.crl');
    expect(verifies(pemFile(await root('signing-1')), await root('signing-1'))).toBe(false);
    expect(await status(third.card)).toBe('good');
    await test.api.post('/events', { event: 'card-returned', cardId: third.cardId });
    expect(await status(third.card)).toBe('revoked');
  });
});

describe('the command links', () => {
  it('runs without a service too, and says what it made', async () => {
    const other = await startTestService();
    const { folder } = other;
    await other.close();
    const main = new URL('../../ca/main.ts', import.meta.url).pathname;
    const run = (...args: string[]) =>
      promisify(execFile)(process.execPath, [main, ...args, '--data', folder]);
    expect((await run('links')).stdout).toBe('');
    const made = await run('generation', '--suite', 'p384-sha384');
    expect(made.stdout).toContain('signing-2-by-1\n');
    expect((await run('links')).stdout).toBe('');
    // As a process leaves it that died before the links: the next run finishes the generation, and begins no other.
    const record = new DatabaseSync(layout(folder).record);
    record.exec("DELETE FROM authorityLink WHERE link LIKE 'signing%'");
    record.close();
    const again = await run('generation', '--suite', 'p384-sha384');
    expect(again.stdout).toContain('signing-2-by-1\n');
    expect(again.stdout).not.toContain('signing-3');
  });
});
