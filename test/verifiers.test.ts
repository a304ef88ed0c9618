import { spawn } from 'node:child_process';
import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { type AddressInfo, connect, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer } from '../ca/client/client.ts';
import { FilterDelta } from '../core/filter/delta.ts';
import { decodeFilter, FilterTables } from '../core/filter/filter.ts';
import { presignedPath } from '../ocsp/sign/presigner.ts';
import { derOf, fetchCrl, ocspRequest, pemOf, until } from './support/actors.ts';
import {
  addClient,
  dataFolder,
  fileOf,
  freePort,
  type Holder,
  issueCard,
  openssl,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
} from './support/harness.ts';
import { recordVerifier, type ShownVerifier } from './support/verifiers.ts';

// The register of verifiers through the whole service: who is answered, and who is not from the next request on.

afterAll(removeScratch);

const sha256 = (content: string | Uint8Array): string => createHash('sha256').update(content).digest('hex');
const newToken = (): string => randomBytes(16).toString('hex');
const tokenOf = (token: string) => ({ type: 'token', sha256: sha256(token) });

/** What an OCSP response says, in words of OpenSSL, or of its status. */
const said = (response: Uint8Array): string => {
  if (response.length === 5) return `error ${response[4]}`;
  const text = openssl('ocsp', '-respin', fileOf(response), '-noverify', '-resp_text');
  return /Cert Status: (\w+)/.exec(text)?.[1] ?? '';
};

interface Answered {
  readonly status: number;
  readonly octets: Buffer;
  readonly cacheControl: string | undefined;
}

interface Sent {
  readonly body?: Buffer;
  readonly headers?: Record<string, string>;
  readonly agent?: HttpAgent | HttpsAgent;
  readonly tls?: { readonly key?: string; readonly cert?: string };
}

/** Sends one request, on a connection that is kept where there is an agent. */
const send = (url: string, { body, headers = {}, agent, tls = {} }: Sent = {}): Promise<Answered> =>
  new Promise((resolve, reject) => {
    const type = body ? { 'content-type': 'application/ocsp-request' } : {};
    const options = {
      ...{ method: body ? 'POST' : 'GET', headers: { ...type, ...headers } },
      ...{ ...tls, agent: agent ?? false, rejectUnauthorized: false },
    };
    const request = url.startsWith('https:') ? httpsRequest : httpRequest;
    const sent = request(url, options as object, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          octets: Buffer.concat(chunks),
          cacheControl: response.headers['cache-control'],
        }),
      );
    });
    sent.on('error', reject);
    sent.end(body);
  });

let test: TestService;
let holder: Holder;
let questions: { readonly signing: Buffer; readonly authentication: Buffer };
let [ocspTls, crlTls] = [0, 0];
let leaf: { key: string; cert: string };
/** Of the card's signing certificate. */
let crlPath: string;
const ocsp = (path = ''): string => `${test.service.addresses.ocsp}${path}`;
const crl = (path = ''): string => `${test.service.addresses.crl}${path}`;
const act = (verifier: { readonly verifierId: string }, what: string, body: object | undefined = undefined) =>
  test.api.post<ShownVerifier>(`/verifiers/${verifier.verifierId}/${what}`, body);

beforeAll(async () => {
  [ocspTls, crlTls] = [await freePort(), await freePort()];
  const folder = await dataFolder();
  const first = await startTestService({ folder });
  await first.close();
  const file = join(folder, 'warifu.json');
  const config = JSON.parse(readFileSync(file, 'utf8'));
  const shown = { key: 'tls/api.key', cert: 'tls/api.pem', ca: 'tls/operations-ca.pem' };
  config.ocsp.verifiers = { required: true, tls: { port: ocspTls, ...shown } };
  config.crl.verifiers = { required: true, tls: { port: crlTls, ...shown } };
  writeFileSync(file, JSON.stringify(config));
  test = await startTestService({ folder });
  const read = (name: string): string => readFileSync(join(folder, 'clients', name), 'utf8');
  leaf = { key: read('first.key'), cert: read('first.pem') };
  holder = await issueCard(test.api);
  const question = async (kind: string, ca: string): Promise<Buffer> =>
    Buffer.from(await ocspRequest(derOf(pemOf(holder.card, kind)), await fetchCrl(crl(`/ca/${ca}.cer`))));
  questions = {
    signing: await question('card-signing', 'signing-1'),
    authentication: await question('card-authentication', 'authentication-1'),
  };
  crlPath = '/crl/card-signing/1/13113/0.crl';
});
afterAll(() => test?.close());

describe('a verifier that is suspended', () => {
  it('is answered nothing from the next request on, on connections that are kept and of answers that are cached', async () => {
    const token = newToken();
    const verifier = await recordVerifier(test.api, {
      credentials: [tokenOf(token), { type: 'certificate', sha256: sha256(derOf(leaf.cert)) }],
    });
    // Each sends one head again and again.
    const kept = { keepAlive: true, maxSockets: 1 };
    const agents = {
      posting: new HttpAgent(kept),
      getting: new HttpAgent(kept),
      traced: new HttpAgent(kept),
      lists: new HttpAgent(kept),
      overTls: new HttpsAgent(kept),
      listsOverTls: new HttpsAgent(kept),
    };
    const body = questions.signing;
    const asGet = `/v/${token}/${encodeURIComponent(body.toString('base64'))}`;
    const requests: [string, Sent][] = [
      [ocsp(`/v/${token}`), { body, agent: agents.posting }],
      [ocsp(asGet), { agent: agents.getting }],
      [ocsp(`/v/${token}`), { body, agent: agents.traced, headers: { 'x-trace': '1' } }],
      [`https://127.0.0.1:${ocspTls}`, { body, agent: agents.overTls, tls: leaf }],
      [crl(`/v/${token}${crlPath}`), { agent: agents.lists }],
      [`https://127.0.0.1:${crlTls}${crlPath}`, { agent: agents.listsOverTls, tls: leaf }],
    ];
    const statuses = async (): Promise<number[]> => {
      const all: number[] = [];
      for (const [url, sent] of requests) all.push((await send(url, sent)).status);
      return all;
    };
    for (let i = 0; i < 2; i += 1) expect(await statuses()).toEqual([200, 200, 200, 200, 200, 200]);
    expect((await act(verifier, 'suspension')).body.suspendedAt).not.toBeNull();
    expect(await statuses()).toEqual([403, 403, 403, 403, 403, 403]);
    // Whom a node knows is not a stranger where strangers are served, either.
    expect((await act(verifier, 'resumption')).body.suspendedAt).toBeNull();
    expect(await statuses()).toEqual([200, 200, 200, 200, 200, 200]);
    for (const agent of Object.values(agents)) agent.destroy();
  });

  it('gets no file of a server in front, which asks before it gives one out', async () => {
    const [token, port] = [newToken(), await freePort()];
    const verifier = await recordVerifier(test.api, { credentials: [tokenOf(token)] });
    const asked = presignedPath(questions.signing);
    const nginx = await startNginx(port, {
      [crlPath]: Buffer.from('published'),
      [`/${asked}`]: Buffer.from('signed'),
    });
    try {
      const list = `http://127.0.0.1:${port}/v/${token}${crlPath}`;
      const answer = `http://127.0.0.1:${port}/v/${token}/${asked}`;
      expect((await send(list)).octets.toString()).toBe('published');
      expect((await send(answer)).octets.toString()).toBe('signed');
      const at = `http://127.0.0.1:${port}`;
      expect((await send(`${at}/v/${newToken()}${crlPath}`)).status).toBe(403);
      // Strangers with headers of a verifier, and addresses that mean another file than they seem to.
      const shown = { 'x-client-verify': 'SUCCESS', 'x-client-certificate': encodeURIComponent(leaf.cert) };
      const detour = `${'a/'.repeat(10)}${'../'.repeat(10)}`;
      for (const path of [`/v/x/${asked}`, `/v/${newToken()}/${asked}`, `/v/x/${detour}${asked}`])
        expect((await send(`${at}${path}`, { headers: { ...shown, 'x-original-port': '1' } })).status).toBe(
          403,
        );
      const limited = newToken();
      await recordVerifier(test.api, { kinds: ['authentication'], credentials: [tokenOf(limited)] });
      for (const path of [asked, `${detour}${asked}`, `./${asked}`])
        expect((await sendRaw(port, `/v/${limited}/${path}`)).split('\r\n', 1)[0]).toMatch(/ 40[03] /);
      await act(verifier, 'suspension');
      expect([(await send(list)).status, (await send(answer)).status]).toEqual([403, 403]);
    } finally {
      await nginx.stop();
    }
  });

  it('is answered nothing where it is suspended while the body of its request arrives', async () => {
    const token = newToken();
    const verifier = await recordVerifier(test.api, { credentials: [tokenOf(token)] });
    const { hostname: host, port, pathname: path } = new URL(ocsp(`/v/${token}`));
    const headers = { 'content-type': 'application/ocsp-request', 'transfer-encoding': 'chunked' };
    const answer = Promise.withResolvers<number>();
    const sent = httpRequest({ host, port, path, method: 'POST', headers, agent: false }, (response) => {
      response.resume();
      answer.resolve(response.statusCode ?? 0);
    });
    sent.on('error', answer.reject);
    await new Promise((resolve) => sent.write(questions.signing.subarray(0, 10), resolve));
    await act(verifier, 'suspension');
    sent.end(questions.signing.subarray(10));
    expect(await answer.promise).toBe(403);
  });

  it('may not act by its client of the API', async () => {
    const { client } = await addClient(test, 'bank', { roles: ['verifier'] });
    const verifier = await recordVerifier(test.api, { credentials: [{ type: 'client', client: 'Bank' }] });
    const [certificate] = holder.card.certificates;
    const path = `/certificates/${certificate?.authority}/${certificate?.serialNumber}/uses`;
    const use = (): Promise<Answer<{ title?: string }>> => client.post(path, undefined);
    expect((await use()).status).toBe(200);
    await act(verifier, 'suspension');
    expect(await use()).toMatchObject({ status: 403, body: { title: 'forbidden' } });
    await client.close();
  });

  it('stays so over a restart', async () => {
    const [token, other] = [newToken(), newToken()];
    const verifier = await recordVerifier(test.api, { credentials: [tokenOf(token)] });
    await recordVerifier(test.api, { credentials: [tokenOf(other)] });
    await act(verifier, 'suspension');
    await test.close();
    test = await startTestService({ folder: test.folder });
    const body = questions.signing;
    expect((await send(ocsp(`/v/${token}`), { body })).status).toBe(403);
    expect((await send(crl(`/v/${token}${crlPath}`))).status).toBe(403);
    expect((await send(ocsp(`/v/${other}`), { body })).status).toBe(200);
    expect((await send(crl(`/v/${other}${crlPath}`))).status).toBe(200);
  });
});

describe('a verifier of one kind', () => {
  it('is answered about certificates of that kind alone', async () => {
    const token = newToken();
    await recordVerifier(test.api, { kinds: ['authentication'], credentials: [tokenOf(token)] });
    const ask = async (body: Buffer) => said((await send(ocsp(`/v/${token}`), { body })).octets);
    expect(await ask(questions.authentication)).toBe('good');
    // unauthorized (RFC 6960 §2.3), whatever way it is asked.
    expect(await ask(questions.signing)).toBe('error 6');
    const headers = {
      'x-original-uri': `/v/${token}/${encodeURIComponent(questions.signing.toString('base64'))}`,
    };
    expect((await send(ocsp('/authorize'), { headers })).status).toBe(403);
    expect((await send(crl(`/v/${token}${crlPath}`))).status).toBe(403);
    const own = crlPath.replace('signing', 'authentication');
    expect((await send(crl(`/v/${token}${own}`))).status).toBe(200);
    expect((await send(crl(`/v/${token}/ca/signing-1.cer`))).status).toBe(200);
  });
});

describe('credentials of a verifier', () => {
  it('are replaced without a moment in which it is not known', async () => {
    const [before, after] = [newToken(), newToken()];
    const body = questions.signing;
    const verifier = await recordVerifier(test.api, { credentials: [tokenOf(before)] });
    const statuses = async () => [
      (await send(ocsp(`/v/${before}`), { body })).status,
      (await send(ocsp(`/v/${after}`), { body })).status,
    ];
    expect(await statuses()).toEqual([200, 403]);
    const added = await act(verifier, 'credentials', tokenOf(after));
    expect(await statuses()).toEqual([200, 200]);
    const [old] = added.body.credentials;
    const end = `credentials/${old?.credentialId}/end`;
    expect((await act(verifier, end, {})).body.credentials[0]?.validTo).not.toBeNull();
    expect(await statuses()).toEqual([403, 200]);
    expect(await act(verifier, end, {})).toMatchObject({
      status: 409,
      body: { title: 'illegal-transition' },
    });
    // What was one verifier's never is another's.
    const reused = await test.api.post('/verifiers', {
      ...{ name: 'Another', type: 'private', kinds: ['signing'], purposes: [] },
      credentials: [tokenOf(before)],
    });
    expect(reused).toMatchObject({ status: 409, body: { title: 'in-use' } });
  });

  it('end at the time that is given', async () => {
    const token = newToken();
    const validTo = new Date(test.clock.wallMs() + 60_000).toISOString();
    await recordVerifier(test.api, { credentials: [{ ...tokenOf(token), validTo }] });
    const status = async () => (await send(crl(`/v/${token}${crlPath}`))).status;
    expect(await status()).toBe(200);
    test.clock.advance(61_000);
    expect(await status()).toBe(403);
  });

  it('end no later than was allowed, and by every clock', async () => {
    const token = newToken();
    const validTo = new Date(test.clock.wallMs() + 60_000).toISOString();
    const verifier = await recordVerifier(test.api, { credentials: [{ ...tokenOf(token), validTo }] });
    const end = `credentials/${verifier.credentials[0]?.credentialId}/end`;
    const later = await act(verifier, end, { at: '2099-01-01T00:00:00Z' });
    expect(later.body.credentials[0]?.validTo).toBe(validTo);
    const status = async () => (await send(crl(`/v/${token}${crlPath}`))).status;
    expect(await status()).toBe(200);
    await act(verifier, end, {});
    test.clock.step(-30_000);
    expect(await status()).toBe(403);
    test.clock.step(30_000);
  });

  it('can be a port, which is listened at from then on, and no longer once it has ended', async () => {
    const port = await freePort();
    const verifier = await recordVerifier(test.api);
    const added = await act(verifier, 'credentials', { type: 'port', port });
    const ask = () => send(`http://127.0.0.1:${port}`, { body: questions.signing });
    expect(said((await ask()).octets)).toBe('good');
    const at = new Date(test.clock.wallMs() + 5000).toISOString();
    await act(verifier, `credentials/${added.body.credentials[0]?.credentialId}/end`, { at });
    expect((await ask()).status).toBe(200);
    test.clock.advance(6000);
    expect((await ask()).status).toBe(403);
  });

  it('that cannot be had at this machine are an alarm, and all others are answered', async () => {
    const { port } = new URL(test.service.addresses.crl);
    const token = newToken();
    const body = { type: 'port', port: Number(port) };
    const verifier = await recordVerifier(test.api, { credentials: [tokenOf(token)] });
    expect(await act(verifier, 'credentials', body)).toMatchObject({ status: 400 });
    const { port: api } = new URL(test.service.addresses.api);
    expect(await act(verifier, 'credentials', { type: 'port', port: Number(api) })).toMatchObject({
      status: 400,
    });
    const taken = createServer().listen(await freePort(), '127.0.0.1');
    await once(taken, 'listening');
    const at = (taken.address() as AddressInfo).port;
    expect((await act(verifier, 'credentials', { type: 'port', port: at })).status).toBe(200);
    taken.close();
    expect((await send(ocsp(`/v/${token}`), { body: questions.signing })).status).toBe(200);
  });

  it('are tokens over TLS alone where that is configured', async () => {
    const token = newToken();
    await recordVerifier(test.api, { credentials: [tokenOf(token)] });
    const file = join(test.folder, 'warifu.json');
    const config = JSON.parse(readFileSync(file, 'utf8'));
    const over = async (tokensOver: string): Promise<void> => {
      for (const each of [config.ocsp, config.crl]) each.verifiers.tokensOver = tokensOver;
      writeFileSync(file, JSON.stringify(config));
      await test.service.reload();
    };
    await over('tls');
    const body = questions.signing;
    expect((await send(ocsp(`/v/${token}`), { body })).status).toBe(403);
    expect((await send(crl(`/v/${token}${crlPath}`))).status).toBe(403);
    expect((await send(`https://127.0.0.1:${ocspTls}/v/${token}`, { body })).status).toBe(200);
    expect((await send(`https://127.0.0.1:${crlTls}/v/${token}${crlPath}`)).status).toBe(200);
    expect((await send(`https://127.0.0.1:${crlTls}${crlPath}`)).status).toBe(403);
    await over('any');
  });

  it('of a CA that the service does not know are none', async () => {
    const made = scratch();
    const [key, cert] = [join(made, 'k.pem'), join(made, 'c.pem')];
    const subject = ['-subj', '/CN=first', '-days', '2', '-nodes'];
    openssl('req', '-x509', '-newkey', 'rsa:2048', ...subject, '-keyout', key, '-out', cert);
    const tls = { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
    await recordVerifier(test.api, {
      credentials: [{ type: 'certificate', sha256: sha256(derOf(tls.cert)) }],
    });
    expect((await send(`https://127.0.0.1:${crlTls}${crlPath}`, { tls })).status).toBe(403);
  });
});

describe('a quota of a verifier', () => {
  it('answers 429 beyond it, and nothing of others', async () => {
    const [token, other] = [newToken(), newToken()];
    await recordVerifier(test.api, { requestsPerSecond: 5, credentials: [tokenOf(token)] });
    await recordVerifier(test.api, { credentials: [tokenOf(other)] });
    const body = questions.signing;
    const all = (of: string) =>
      Promise.all(Array.from({ length: 20 }, async () => (await send(ocsp(`/v/${of}`), { body })).status));
    const limited = await all(token);
    expect(limited.filter((status) => status === 200).length).toBeGreaterThanOrEqual(5);
    expect(limited.filter((status) => status === 429).length).toBeGreaterThanOrEqual(5);
    expect(new Set(await all(other))).toEqual(new Set([200]));
  });
});

describe('the register', () => {
  it.each([
    ['no kind', { kinds: [] }, /kinds/],
    ['a name that cannot be read', { name: 'A\u200bBank' }, /name/],
    ['a service provider without a platform', { type: 'provider' }, /platformId/],
    ['a platform of what is none', { type: 'private', platformId: 'none' }, /platformId/],
    ['an end before its beginning', { validTo: '2001-01-01T00:00:00Z' }, /validTo/],
    ['an address that is none', { url: 'https://[' }, /url/],
    [
      'a token in the place of its hash',
      { credentials: [{ type: 'token', sha256: newToken() }] },
      /credentials/,
    ],
  ])('refuses %s', async (_what, facts, detail) => {
    const body = { name: 'A Bank', type: 'private', kinds: ['signing'], purposes: [] };
    const answer = await test.api.post<{ detail: string }>('/verifiers', { ...body, ...facts });
    expect(answer.status).toBe(400);
    expect(answer.body.detail).toMatch(detail);
  });

  it('has service providers behind platforms, which ask for them and are suspended with them', async () => {
    const platform = await recordVerifier(test.api, { type: 'platform', kinds: ['signing'] });
    const facts = { type: 'provider', platformId: platform.verifierId, purposes: [] };
    const wide = await test.api.post('/verifiers', { name: 'Shop', ...facts, kinds: ['authentication'] });
    expect(wide).toMatchObject({ status: 400, body: { detail: expect.stringMatching(/kinds/) } });
    const provider = await recordVerifier(test.api, { ...facts, kinds: ['signing'] });
    expect(await act(provider, 'credentials', tokenOf(newToken()))).toMatchObject({ status: 400 });
    await act(platform, 'suspension');
    const { body } = await test.api.get(`/verifiers/${provider.verifierId}`);
    expect(body).toMatchObject({ suspendedAt: null, platformSuspendedAt: expect.any(String) });
    const { body: page } = await test.api.get<{ verifiers: ShownVerifier[] }>('/verifiers');
    expect(page.verifiers.map(({ verifierId }) => verifierId)).toContain(provider.verifierId);
  });

  it('keeps a verifier of the type that it was notified as, and answers for no other than there is', async () => {
    const { verifierId } = await recordVerifier(test.api);
    const facts = { name: 'A Bank', kinds: ['signing'], purposes: [] };
    const changed = await test.api.post(`/verifiers/${verifierId}`, { ...facts, type: 'private' });
    expect(changed).toMatchObject({ status: 200, body: { kinds: ['signing'] } });
    const other = await test.api.post(`/verifiers/${verifierId}`, { ...facts, type: 'court' });
    expect(other).toMatchObject({ status: 409, body: { title: 'illegal-transition' } });
    expect((await test.api.post('/verifiers/none', { ...facts, type: 'court' })).status).toBe(404);
    expect((await test.api.post('/verifiers/none/suspension', undefined)).status).toBe(404);
  });

  it('has no answer kept by caches that several share, where verifiers must be known', async () => {
    const token = newToken();
    await recordVerifier(test.api, { credentials: [tokenOf(token)] });
    const asGet = `/v/${token}/${encodeURIComponent(questions.signing.toString('base64'))}`;
    expect((await send(ocsp(asGet))).cacheControl).toMatch(/private/);
    expect((await send(crl(`/v/${token}${crlPath}`))).cacheControl).toMatch(/private/);
  });
});

describe('lists of verifiers in the configuration of an earlier version', () => {
  it('are taken over by the first start, and read no more', async () => {
    const [token, cert] = [newToken(), sha256('certificate')];
    const listed = { name: 'clinic', tokenSha256: sha256(token) };
    const overrides = {
      ocsp: { verifiers: { required: true, list: [{ ...listed, certificateSha256: cert }] } },
      crl: { verifiers: { list: [listed] } },
      notices: { verifiers: [{ name: 'bank', url: 'http://127.0.0.1:1/', title: '例銀行' }] },
    };
    let own = await startTestService({ overrides });
    const shown = async () =>
      (await own.api.get<{ verifiers: ShownVerifier[] }>('/verifiers')).body.verifiers;
    const [bank, clinic, ...others] = await shown();
    expect(others).toEqual([]);
    expect(bank).toMatchObject({ verifierId: 'bank', name: '例銀行', url: 'http://127.0.0.1:1/' });
    expect(bank?.credentials).toMatchObject([{ type: 'client', value: 'bank' }]);
    expect(new Map(clinic?.credentials.map(({ type, value }) => [type, value]))).toEqual(
      new Map([
        ['token', sha256(token)],
        ['certificate', cert],
      ]),
    );
    await own.api.post('/verifiers/clinic/suspension', undefined);
    await own.close();
    const file = join(own.folder, 'warifu.json');
    const config = JSON.parse(readFileSync(file, 'utf8'));
    config.ocsp.verifiers.list.push({ name: 'late', tokenSha256: sha256('late') });
    writeFileSync(file, JSON.stringify(config));
    own = await startTestService({ folder: own.folder });
    expect((await shown()).map(({ suspendedAt }) => suspendedAt === null)).toEqual([true, false]);
    expect(own.log()).toMatch(/"verifierId":"late".*not on the register/);
    await own.close();
  });
});

describe('a revocation filter', () => {
  it('is published hourly, signed, for verifiers of the register alone, with what changes between two', async () => {
    const token = newToken();
    const own = await startTestService({ overrides: { filters: { use: 'on', every: '300ms' } } });
    const at = (kind: string, of = `/v/${token}`) =>
      `${own.service.addresses.crl}${of}/filter/${kind}.filter`;
    const limited = newToken();
    await recordVerifier(own.api, { credentials: [tokenOf(token)] });
    await recordVerifier(own.api, { kinds: ['authentication'], credentials: [tokenOf(limited)] });
    const revoked = await issueCard(own.api);
    await own.api.post('/events', { event: 'died', holderId: revoked.holderId });
    const good = await issueCard(own.api);
    const serialOf = (of: Holder) =>
      Buffer.from(
        of.card.certificates.find(({ kind }) => kind === 'card-signing')?.serialNumber ?? '',
        'hex',
      );
    const fetched = async (kind: string) => decodeFilter((await send(at(kind))).octets);
    await until('there is a filter', async () => (await send(at('signing-delta'))).status === 200);
    const [base, delta] = [await fetched('signing'), await fetched('signing-delta')];
    expect([base.head.type, delta.head.type, delta.head.base]).toEqual(['base', 'delta', base.head.sequence]);
    for (const { signed, signature } of [base, delta])
      expect(
        openssl(
          ...['dgst', '-sha256', '-verify', join(own.folder, 'outbox.pem')],
          ...['-signature', fileOf(signature), fileOf(signed, 'signed')],
        ),
      ).toMatch(/Verified OK/);
    const says = async (of: Holder): Promise<boolean> => {
      const tables = new FilterTables(base.head, base.body);
      const changes = new FilterDelta((await fetched('signing-delta')).body);
      return changes.isRevoked(serialOf(of)) ?? tables.isRevoked(serialOf(of));
    };
    await until('it says that the first is revoked', () => says(revoked));
    expect(await says(good)).toBe(false);
    await own.api.post('/events', { event: 'card-lost', cardId: good.cardId });
    await until('it says that the other is held', () => says(good));
    const later = await fetched('signing-delta');
    expect(later.head.sequence).toBeGreaterThan(delta.head.sequence);
    expect(Date.parse(later.head.believeUntil)).toBeGreaterThan(Date.parse(delta.head.believeUntil));
    expect(later.head.covers).toBe(base.head.covers);
    // What is issued after a base is not covered by it, although notBefore is backdated.
    const since = new X509Certificate(pemOf((await issueCard(own.api)).card, 'card-signing'));
    expect(since.validFromDate.getTime()).toBeLessThan(Date.parse(base.head.knownAt));
    expect(since.validFromDate.getTime()).toBeGreaterThan(Date.parse(base.head.covers));
    // Also where strangers may ask for CRLs.
    expect((await send(at('signing', ''))).status).toBe(403);
    expect((await send(at('signing', `/v/${limited}`))).status).toBe(403);
    expect((await send(at('authentication', `/v/${limited}`))).status).toBe(200);
    await own.close();
  });
});

/** Sends a path as it is, without what libraries make of it; the answer as text. */
const sendRaw = async (port: number, path: string): Promise<string> => {
  const socket = connect(port, '127.0.0.1');
  socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('latin1');
};

/** nginx in front of both services, as docs/VERIFIERS.md has it, with files of its own. */
async function startNginx(
  port: number,
  files: Readonly<Record<string, Buffer>>,
): Promise<{ stop(): Promise<void> }> {
  const folder = scratch();
  const root = join(folder, 'files');
  for (const [path, content] of Object.entries(files)) {
    const file = join(root, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
  }
  const documented = readFileSync(new URL('../docs/VERIFIERS.md', import.meta.url), 'utf8');
  const [, sample = ''] = /```nginx\n([\s\S]*?)```/.exec(documented) ?? [];
  const server = sample
    .replace('listen 80;', `listen 127.0.0.1:${port};`)
    .replaceAll(/root \/srv\/warifu\/[a-z]+;/g, `root ${root};`)
    .replaceAll('http://127.0.0.1:8080', ocsp())
    .replaceAll('http://127.0.0.1:8081', crl());
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  );
  const config = `daemon off; user root; pid ${folder}/pid; error_log ${folder}/error.log; events {} http { access_log off; ${temporary.join(' ')} ${server} }`;
  writeFileSync(join(folder, 'nginx.conf'), config);
  const nginx = spawn('nginx', ['-c', join(folder, 'nginx.conf')], {
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` },
    stdio: 'ignore',
  });
  const ended = new Promise((resolve) => nginx.once('exit', resolve));
  await until('nginx listens', async () => {
    if (nginx.exitCode !== null) throw new Error(readFileSync(join(folder, 'error.log'), 'utf8'));
    return send(`http://127.0.0.1:${port}/`).then(
      () => true,
      () => false,
    );
  });
  return {
    stop: async () => {
      nginx.kill('SIGTERM');
      await ended;
    },
  };
}
