import { spawnSync } from 'node:child_process';
import { createHash, createSign, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connect, createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DerReader } from '../core/asn1/der-reader.ts';
import {
  bitString,
  context,
  explicit,
  objectIdentifier,
  octetString,
  sequence,
  tag,
  tlv,
} from '../core/asn1/der-writer.ts';
import { encodeDelta } from '../core/filter/delta.ts';
import { decodeFilter, encodeSigned, type FilterHead } from '../core/filter/filter.ts';
import {
  CrlSource,
  FilterRefused,
  FilterSource,
  OcspSource,
  type Source,
  Verifier,
} from '../core/verifier/index.ts';
import { crlAddress, derOf, fetchCrl, pemOf, until } from './support/actors.ts';
import {
  fileOf,
  type Holder,
  issueCard,
  openssl,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
} from './support/harness.ts';
import { hiding } from './support/hiding.ts';
import { installPackage, useOptions } from './support/package-use.ts';
import { recordVerifier } from './support/verifiers.ts';

// The package `@warifu/verifier`, against the real service, and against servers that lie.

const root = new URL('..', import.meta.url).pathname;
const token = randomBytes(16).toString('hex');
const day = 86_400_000;

let test: TestService;
let authorities: Uint8Array[];
let outboxKey: string;
let good: Holder;
let held: Holder;
let dead: Holder;
const ocspUrl = () => `${test.service.addresses.ocsp}/v/${token}`;
const ownCrl = (url: string) =>
  url.replace(test.service.addresses.crl, `${test.service.addresses.crl}/v/${token}`);
const certificateOf = (of: Holder, kind = 'card-signing'): string => pemOf(of.card, kind);
const filterFile = async (name: string): Promise<Uint8Array> =>
  fetchCrl(`${test.service.addresses.crl}/v/${token}/filter/${name}.filter`);

/** The bytes of a server that answers whatever is asked with the same. */
const servers: Server[] = [];
async function answering(answer: () => { readonly status: number; readonly body: Uint8Array | string }) {
  const server = createServer((request, response) => {
    request.resume();
    const { status, body } = answer();
    response.writeHead(status).end(body);
  }).listen(0, '127.0.0.1');
  servers.push(server);
  await new Promise((done) => server.once('listening', done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const verifierOf = (source: Source | Source[], shiftMs = 0): Verifier =>
  new Verifier({ authorities, sources: [source].flat(), now: () => test.clock.wallMs() + shiftMs });

beforeAll(async () => {
  test = await startTestService({
    overrides: {
      ocsp: { verifiers: { required: true } },
      filters: { use: 'on', every: '300ms', baseEvery: '5min' },
    },
  });
  const names = ['signing-1', 'authentication-1'];
  authorities = await Promise.all(
    names.map((name) => fetchCrl(`${test.service.addresses.crl}/ca/${name}.cer`)),
  );
  outboxKey = readFileSync(join(test.folder, 'outbox.pem'), 'utf8');
  const sha256 = createHash('sha256').update(token).digest('hex');
  await recordVerifier(test.api, { credentials: [{ type: 'token', sha256 }] });
  [good, held, dead] = [await issueCard(test.api), await issueCard(test.api), await issueCard(test.api)];
  await test.api.post('/events', { event: 'card-lost', cardId: held.cardId });
  await test.api.post('/events', { event: 'died', holderId: dead.holderId });
});
afterAll(async () => {
  for (const server of servers) server.close();
  await test?.close();
  removeScratch();
});

const toPem = (der: Uint8Array): string =>
  `-----BEGIN CERTIFICATE-----\n${Buffer.from(der).toString('base64')}\n-----END CERTIFICATE-----\n`;

/** The CRL of a certificate and its delta, as they are now, by address. */
async function filesOf(certificate: string): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  const keeping: typeof fetch = async (url, init) => {
    const response = await fetch(url, init);
    files.set(String(url), Buffer.from(await response.clone().arrayBuffer()));
    return response;
  };
  await verifierOf(new CrlSource({ addressOf: ownCrl, fetch: keeping })).verifyCertificate(
    certificate,
    'signing',
  );
  return files;
}

/** Each way to know, of the service that runs. */
async function sources(): Promise<Record<string, Source>> {
  const filter = new FilterSource({ publicKey: outboxKey });
  // A filter speaks of no certificate that may have been issued since it was built.
  test.clock.advance(10 * 60_000);
  const serial = (of: Holder) =>
    Buffer.from(of.card.certificates.find(({ kind }) => kind === 'card-signing')?.serialNumber ?? '', 'hex');
  await until('the filter knows all three', async () => {
    const files = await Promise.all([filterFile('signing'), filterFile('signing-delta')]).catch(() => null);
    if (!files) return false;
    try {
      filter.load(files[0], files[1], test.clock.wallMs());
    } catch (error) {
      // Between the two a new base was published: both are fetched again.
      expect(String(error)).toContain('the delta is of another base');
      return false;
    }
    const check = async (of: Holder) =>
      (await verifierOf(filter).verifyCertificate(certificateOf(of), 'signing')).status;
    return (
      serial(dead).length > 0 &&
      (await check(dead)) === 'revoked' &&
      (await check(held)) === 'revoked' &&
      (await check(good)) === 'good'
    );
  });
  const crl = new CrlSource({ addressOf: ownCrl, keepMs: 0 });
  await until('the CRLs know all three', async () => {
    const status = async (of: Holder) =>
      (await verifierOf(crl).verifyCertificate(certificateOf(of), 'signing')).status;
    return (await status(dead)) === 'revoked' && (await status(held)) === 'revoked';
  });
  return {
    ocsp: new OcspSource({ url: ocspUrl() }),
    nonce: new OcspSource({ url: ocspUrl(), nonce: true }),
    crl,
    filter,
  };
}

describe('the tarball', () => {
  it('is installed in an empty folder, compiled against with tsc --strict, and runs under the Node of this machine', async () => {
    const work = scratch();
    const tsc = join(root, 'node_modules', '.bin', 'tsc');
    const run = (command: string, args: readonly string[], cwd: string): string => {
      const { status, stdout, stderr } = spawnSync(command, args, {
        cwd,
        encoding: 'utf8',
        env: { ...process.env, PATH: systemPath },
      });
      expect([args, status, status === 0 ? '' : stdout + stderr]).toEqual([args, 0, '']);
      return stdout;
    };
    const use = installPackage('warifu-verifier', root, work);
    const [, sample = ''] =
      /```ts\n([\s\S]*?)```/.exec(
        readFileSync(join(use, 'node_modules/@warifu/verifier/README.md'), 'utf8'),
      ) ?? [];
    const program = `${sample
      .replace('https://ocsp.example/v/TOKEN', ocspUrl())
      .replace('http://crl.example', test.service.addresses.crl)
      .replace('https://crl.example/v/TOKEN', ownCrl(test.service.addresses.crl))}
declare const admit: (at: Date) => void;
declare const pem: string;
`;
    writeFileSync(join(use, 'sample.ts'), program);
    run(process.execPath, [tsc, ...useOptions(root), 'sample.ts'], use);
    authorities.forEach((der, i) => {
      writeFileSync(join(use, ['signing-1.pem', 'authentication-1.pem'][i] ?? ''), toPem(der));
    });
    const source = program
      .replace(/declare .*\n/g, '')
      .replace('admit(outcome.knownAt)', "console.log('good')");
    writeFileSync(
      join(use, 'sample.mjs'),
      `const pem = ${JSON.stringify(certificateOf(good, 'card-authentication'))};\n${source}`,
    );
    expect(run('node', ['sample.mjs'], use).trim()).toBe('good');
  }, 60_000);
});

describe('a certificate', () => {
  it('is good, revoked or held alike by OCSP, CRL with delta, and filter', async () => {
    for (const [name, source] of Object.entries(await sources())) {
      const outcome = (of: Holder) => verifierOf(source).verifyCertificate(certificateOf(of), 'signing');
      const first = await outcome(good);
      expect([name, first]).toMatchObject([name, { status: 'good', knownAt: expect.any(Date) }]);
      if (first.status === 'good')
        expect(first.believeUntil.getTime()).toBeGreaterThan(first.knownAt.getTime());
      const known = name !== 'filter';
      expect([name, await outcome(held)]).toMatchObject([
        name,
        { status: 'revoked', isHeld: known, reason: known ? 'certificateHold' : null },
      ]);
      expect([name, await outcome(dead)]).toMatchObject([
        name,
        { status: 'revoked', isHeld: false, revokedAt: known ? expect.any(Date) : null },
      ]);
    }
  });

  it('is not good for another purpose, before its time, after it, nor from another CA, whatever a source says', async () => {
    const source: Source = {
      name: 'ocsp',
      check: async () => ({ status: 'good', source: 'ocsp', knownAt: new Date(), believeUntil: new Date() }),
    };
    const verifier = verifierOf(source);
    expect(await verifier.verifyCertificate(certificateOf(good), 'authentication')).toMatchObject({
      status: 'invalid',
      why: 'wrong-purpose',
    });
    expect(
      await verifier.verifyCertificate(certificateOf(good, 'card-authentication'), 'signing'),
    ).toMatchObject({ why: 'wrong-purpose' });
    expect(
      await verifier.verifyCertificate(certificateOf(good, 'card-authentication'), 'authentication'),
    ).toMatchObject({ status: 'good' });
    expect(await verifierOf(source, -day).verifyCertificate(certificateOf(good), 'signing')).toMatchObject({
      why: 'not-yet-valid',
    });
    // Clocks differ: a minute is no fault.
    expect(await verifierOf(source, -50_000).verifyCertificate(certificateOf(good), 'signing')).toMatchObject(
      { status: 'good' },
    );
    expect(
      await verifierOf(source, 4000 * day).verifyCertificate(certificateOf(good), 'signing'),
    ).toMatchObject({ status: 'expired' });
    const altered = Buffer.from(derOf(certificateOf(good)));
    altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1;
    const other = new Verifier({ authorities: authorities.slice(1), sources: [source] });
    for (const [by, bad] of [
      [verifier, altered],
      [other, derOf(certificateOf(good))],
      [verifier, 'no certificate'],
      [verifier, authorities[0] ?? ''],
    ] as const)
      expect((await by.verifyCertificate(bad, 'signing')).status).toBe('invalid');
  });

  it('with a signature says whether its key has made it', async () => {
    const verifier = verifierOf(new OcspSource({ url: ocspUrl() }));
    const data = Buffer.from('a contract');
    const signature = createSign('sha256').update(data).sign(good.cardSigning.privateKey);
    const certificate = certificateOf(good);
    expect(await verifier.verifySignature({ certificate, data, signature })).toMatchObject({
      status: 'good',
    });
    for (const wrong of [
      { data: Buffer.from('another') },
      { signature: Buffer.alloc(3) },
      { certificate: certificateOf(held) },
    ])
      expect(await verifier.verifySignature({ certificate, data, signature, ...wrong })).toMatchObject({
        why: 'bad-signature',
      });
    const byAuthentication = createSign('sha256').update(data).sign(good.cardAuthentication.privateKey);
    expect(
      await verifier.verifySignature({
        certificate: certificateOf(good, 'card-authentication'),
        data,
        signature: byAuthentication,
      }),
    ).toMatchObject({ why: 'wrong-purpose' });
  });

  it('of a TLS client is that of its handshake; without one it is not good', async () => {
    const verifier = verifierOf(new OcspSource({ url: ocspUrl() }));
    const read = (name: string) => readFileSync(join(test.folder, name), 'utf8');
    const outcomes: string[] = [];
    const server = createTlsServer(
      {
        key: read('tls/api.key'),
        cert: read('tls/api.pem'),
        requestCert: true,
        rejectUnauthorized: false,
        ca: [],
      },
      (socket: TLSSocket) =>
        void verifier.verifyTlsClient(socket).then(({ status }) => {
          outcomes.push(status);
          socket.end('.');
        }),
    ).listen(0, '127.0.0.1');
    await new Promise((done) => server.once('listening', done));
    const shake = (client: object) =>
      new Promise<void>((resolve, reject) => {
        const socket = connect({
          port: (server.address() as AddressInfo).port,
          host: '127.0.0.1',
          rejectUnauthorized: false,
          ...client,
        });
        socket
          .on('error', reject)
          .on('close', () => resolve())
          .resume();
      });
    const shown = (of: Holder) => ({
      key: of.cardAuthentication.privateKey.export({ type: 'pkcs8', format: 'pem' }),
      cert: certificateOf(of, 'card-authentication'),
    });
    for (const client of [shown(good), shown(dead), {}]) await shake(client);
    server.close();
    expect(outcomes).toEqual(['good', 'revoked', 'invalid']);
  });
});

describe('a certificate that hides another one', () => {
  it('is none: neither its fields nor the key within it count', async () => {
    const [theirs, mine] = [derOf(certificateOf(good)), derOf(certificateOf(dead))];
    const data = Buffer.from('I agree');
    const signature = createSign('sha256').update(data).sign(dead.cardSigning.privateKey);
    for (const source of [new OcspSource({ url: ocspUrl() }), new CrlSource({ addressOf: ownCrl })]) {
      const verifier = verifierOf(source);
      for (const certificate of [hiding(theirs, mine), hiding(theirs, theirs)]) {
        expect(await verifier.verifySignature({ certificate, data, signature })).toMatchObject({
          ...{ status: 'invalid', why: 'untrusted' },
        });
        expect(await verifier.verifyCertificate(certificate, 'signing')).toMatchObject({ status: 'invalid' });
      }
    }
  });

  it('makes no holder an OCSP responder', async () => {
    const mine = derOf(certificateOf(dead));
    const delegation = sequence(
      objectIdentifier('2.5.29.37'),
      octetString(sequence(objectIdentifier('1.3.6.1.5.5.7.3.9'))),
    );
    const responder = hiding(mine, mine, delegation);
    const time = (ms: number) =>
      tlv(tag.generalizedTime, Buffer.from(`${new Date(ms).toISOString().replace(/[-:T]|\.\d+Z/g, '')}Z`));
    const nowMs = test.clock.wallMs();
    const server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const asked = new DerReader(Buffer.concat(chunks)).enter(tag.sequence).enter(tag.sequence);
        const certId = asked.enter(tag.sequence).enter(tag.sequence).whole(tag.sequence);
        const single = sequence(
          certId,
          tlv(context(0, 'primitive')),
          time(nowMs),
          explicit(0, time(nowMs + day)),
        );
        const said = sequence(explicit(2, octetString(Buffer.alloc(20))), time(nowMs), sequence(single));
        const signature = createSign('sha256').update(said).sign(dead.cardSigning.privateKey);
        const algorithm = sequence(objectIdentifier('1.2.840.113549.1.1.11'), tlv(0x05));
        const basic = sequence(said, algorithm, bitString(signature), explicit(0, sequence(responder)));
        const octets = sequence(objectIdentifier('1.3.6.1.5.5.7.48.1.1'), octetString(basic));
        response.end(sequence(tlv(tag.enumerated, Uint8Array.of(0)), explicit(0, octets)));
      });
    }).listen(0, '127.0.0.1');
    servers.push(server);
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const outcome = await verifierOf(new OcspSource({ url })).verifyCertificate(
      certificateOf(dead),
      'signing',
    );
    expect(outcome).toMatchObject({ status: 'undetermined', why: 'not-trusted' });
  });
});

describe('what is not known', () => {
  it('is undetermined with its reason, never good: try later, not allowed, out of reach, or no answer at all', async () => {
    const withStatus = (status: number) =>
      answering(() => ({ status: 200, body: Buffer.of(0x30, 3, 0x0a, 1, status) }));
    const cases: [string, string][] = [
      [await withStatus(3), 'try-later'],
      [await withStatus(2), 'try-later'],
      [await withStatus(6), 'not-allowed'],
      [await answering(() => ({ status: 403, body: '' })), 'not-allowed'],
      [await answering(() => ({ status: 503, body: '' })), 'try-later'],
      [await answering(() => ({ status: 200, body: 'hello' })), 'not-trusted'],
      [await answering(() => ({ status: 200, body: Buffer.alloc(200_000, 0x30) })), 'unreachable'],
      ['http://127.0.0.1:1', 'unreachable'],
      [`${test.service.addresses.ocsp}/v/${'0'.repeat(32)}`, 'not-allowed'],
    ];
    for (const [url, why] of cases)
      expect([
        url,
        await verifierOf(new OcspSource({ url })).verifyCertificate(certificateOf(good), 'signing'),
      ]).toMatchObject([url, { status: 'undetermined', why }]);
    expect(await verifierOf([]).verifyCertificate(certificateOf(good), 'signing')).toMatchObject({
      why: 'not-covered',
    });
    // The next source is asked.
    const both = [new OcspSource({ url: cases[0]?.[0] ?? '' }), new OcspSource({ url: ocspUrl() })];
    expect(await verifierOf(both).verifyCertificate(certificateOf(good), 'signing')).toMatchObject({
      status: 'good',
    });
  });

  it('is an OCSP answer that is too old, from the future, of another certificate, of another request, or altered', async () => {
    let kept = Buffer.alloc(0);
    const keeping: typeof fetch = async (...asked) => {
      const response = await fetch(...asked);
      kept = Buffer.from(await response.clone().arrayBuffer());
      return response;
    };
    const about = (of: Holder, source: OcspSource, shiftMs = 0) =>
      verifierOf(source, shiftMs).verifyCertificate(certificateOf(of), 'signing');
    expect(await about(good, new OcspSource({ url: ocspUrl(), fetch: keeping }))).toMatchObject({
      status: 'good',
    });
    const replaying = await answering(() => ({ status: 200, body: kept }));
    const replay = (options: object = {}) => new OcspSource({ url: replaying, keepMs: 0, ...options });
    expect(await about(good, replay())).toMatchObject({ status: 'good' });
    expect(await about(held, replay())).toMatchObject({ why: 'not-trusted' });
    expect(await about(good, replay({ nonce: true }))).toMatchObject({ why: 'stale' });
    expect(await about(good, replay(), 30 * day)).toMatchObject({
      why: expect.stringMatching(/stale|not-trusted/),
    });
    expect(await about(good, replay({ skewMs: -day }))).toMatchObject({ why: 'stale' });
    const old = kept;
    // From before a revocation that this verifier knows of already.
    const asking = (): OcspSource => new OcspSource({ url: ocspUrl(), fetch: keeping });
    const lost = await issueCard(test.api);
    expect(await about(lost, asking())).toMatchObject({ status: 'good' });
    const before = kept;
    const source = replay();
    expect(await about(lost, source)).toMatchObject({ status: 'good' });
    test.clock.advance(2000);
    await test.api.post('/events', { event: 'card-lost', cardId: lost.cardId });
    await until('it is held', async () => (await about(lost, asking())).status === 'revoked');
    expect(await about(lost, source)).toMatchObject({ status: 'revoked' });
    kept = before;
    expect(await about(lost, source)).toMatchObject({ status: 'undetermined', why: 'stale' });
    for (let at = 20; at < old.length; at += 41) {
      kept = Buffer.from(old);
      kept[at] = (kept[at] ?? 0) ^ 4;
      expect([at, (await about(good, replay())).status === 'good' && !onlyWrapping(old, at)]).toEqual([
        at,
        false,
      ]);
    }
  });

  it('is an OCSP answer that a holder has signed, or one that another server is asked for', async () => {
    const [certificate, issuer] = [fileOf(certificateOf(good)), fileOf(toPem(authorities[0] ?? Buffer.of()))];
    const key = fileOf(good.cardSigning.privateKey.export({ type: 'pkcs8', format: 'pem' }));
    const serial = good.card.certificates.find(({ kind }) => kind === 'card-signing')?.serialNumber ?? '';
    const index = fileOf(`V\t491231235959Z\t\t${serial.toUpperCase()}\tunknown\t/CN=holder\n`);
    const [asked, answer] = [fileOf(''), fileOf('')];
    openssl('ocsp', '-issuer', issuer, '-cert', certificate, '-reqout', asked);
    const signer = ['-rsigner', certificate, '-rkey', key];
    openssl(
      ...[
        'ocsp',
        '-index',
        index,
        '-CA',
        issuer,
        ...signer,
        '-ndays',
        '9',
        '-reqin',
        asked,
        '-respout',
        answer,
      ],
    );
    expect(openssl('ocsp', '-respin', answer, '-noverify', '-resp_text')).toMatch(/Cert Status: good/);
    const forging = await answering(() => ({ status: 200, body: readFileSync(answer) }));
    const about = (url: string) =>
      verifierOf(new OcspSource({ url })).verifyCertificate(certificateOf(good), 'signing');
    expect(await about(forging)).toMatchObject({
      why: 'not-trusted',
      detail: 'the answer is not signed by the CA’s responder',
    });
    const elsewhere = createServer((_request, response) => {
      response.writeHead(307, { location: ocspUrl() }).end();
    }).listen(0, '127.0.0.1');
    servers.push(elsewhere);
    await once(elsewhere, 'listening');
    const { port } = elsewhere.address() as AddressInfo;
    expect(await about(`http://127.0.0.1:${port}`)).toMatchObject({ why: 'unreachable' });
  });

  it('is a CRL of another CA or of other certificates, an older one, or one whose time is over', async () => {
    const own = crlAddress(derOf(certificateOf(good)));
    const other = crlAddress(derOf(certificateOf(good, 'card-authentication')));
    const about = (source: CrlSource, shiftMs = 0) =>
      verifierOf(source, shiftMs).verifyCertificate(certificateOf(good), 'signing');
    expect(await about(new CrlSource({ addressOf: () => ownCrl(other) }))).toMatchObject({
      why: 'not-trusted',
    });
    const [, delta = ''] = [...(await filesOf(certificateOf(good))).keys()];
    expect(await about(new CrlSource({ addressOf: () => delta }))).toMatchObject({
      why: 'not-trusted',
      detail: 'a delta stands where a complete CRL should',
    });
    expect(await about(new CrlSource({ addressOf: () => 'http://127.0.0.1:1/' }))).toMatchObject({
      why: 'unreachable',
    });
    let [isOff, files] = [false, new Map<string, Buffer>()];
    const offline: typeof fetch = async (url, init) => {
      if (isOff) throw new TypeError('off');
      const had = files.get(String(url));
      return had ? new Response(Uint8Array.from(had)) : fetch(url, init);
    };
    const source = new CrlSource({ addressOf: ownCrl, keepMs: 0, fetch: offline });
    expect(await about(source)).toMatchObject({ status: 'good' });
    isOff = true;
    expect(await about(source)).toMatchObject({ status: 'good' });
    expect(await about(source, 30 * day)).toMatchObject({ status: 'undetermined', why: 'unreachable' });
    const fetched = Buffer.from(await fetchCrl(ownCrl(own)));
    expect(
      await about(new CrlSource({ addressOf: ownCrl, fetch: async () => new Response(fetched) }), 30 * day),
    ).toMatchObject({
      status: 'undetermined',
      why: 'stale',
    });
    files = new Map([[ownCrl(own), Buffer.from(fetched).fill(1, fetched.length - 20)]]);
    isOff = false;
    expect(await about(new CrlSource({ addressOf: ownCrl, fetch: offline }))).toMatchObject({
      why: 'not-trusted',
    });
  });

  it('is an older CRL than one that was had, and a delta of other certificates says nothing', async () => {
    const [here, there] = [{ municipalityCode: '13113' }, { municipalityCode: '13104' }];
    const lost = await issueCard(test.api, here);
    /** The CRL of a town and its delta, after one more card of it was lost: higher numbers than all before. */
    const afterLossIn = async (town: object): Promise<Map<string, Buffer>> => {
      const holder = await issueCard(test.api, town);
      const source = new CrlSource({ addressOf: ownCrl, keepMs: 0 });
      await test.api.post('/events', { event: 'card-lost', cardId: holder.cardId });
      const check = () => verifierOf(source).verifyCertificate(certificateOf(holder), 'signing');
      await until('its CRL says so', async () => (await check()).status === 'revoked');
      return filesOf(certificateOf(holder));
    };
    await afterLossIn(there);
    await afterLossIn(here);
    let served = new Map<string, Buffer>();
    const serving: typeof fetch = async (url, init) => {
      const had = served.get(String(url));
      return had ? new Response(Uint8Array.from(had)) : fetch(url, init);
    };
    const about = (source: CrlSource) => verifierOf(source).verifyCertificate(certificateOf(lost), 'signing');
    const options = { addressOf: ownCrl, keepMs: 0, fetch: serving };
    const source = new CrlSource(options);
    expect(await about(source)).toMatchObject({ status: 'good' });
    const before = await filesOf(certificateOf(lost));
    await test.api.post('/events', { event: 'card-lost', cardId: lost.cardId });
    await until('a CRL says so', async () => (await about(source)).status === 'revoked');
    served = before;
    expect(await about(source)).toMatchObject({ status: 'revoked' });
    expect(await about(new CrlSource(options))).toMatchObject({ status: 'good' });
    const [, delta = ''] = [...before.keys()];
    // Its numbers fit: it is newer, and goes on from what is older.
    const [, otherDelta] = [...(await afterLossIn(there)).values()];
    served = new Map([...before, [delta, otherDelta ?? Buffer.alloc(0)]]);
    expect(await about(new CrlSource(options))).toMatchObject({ status: 'undetermined', why: 'stale' });
    served = new Map([...before, [delta, Buffer.from('no CRL')]]);
    expect(await about(new CrlSource(options))).toMatchObject({ status: 'undetermined', why: 'not-trusted' });
  });

  it('is a CRL whose delta is kept away: what was revoked since would be good for days', async () => {
    const withoutDelta: typeof fetch = async (url, init) => {
      if (String(url).includes('-delta')) throw new Error('no such server');
      return fetch(url, init);
    };
    const source = new CrlSource({ addressOf: ownCrl, fetch: withoutDelta });
    const outcome = await verifierOf(source).verifyCertificate(certificateOf(good), 'signing');
    expect(outcome).toMatchObject({ status: 'undetermined', why: 'unreachable' });
  });

  it('is what the CA does not know, and no list makes it good', async () => {
    const unknown: Source = {
      name: 'ocsp',
      check: async () => ({ status: 'undetermined', why: 'unknown', detail: 'not known' }),
    };
    const verifier = verifierOf([unknown, new CrlSource({ addressOf: ownCrl })]);
    expect(await verifier.verifyCertificate(certificateOf(good), 'signing')).toMatchObject({
      why: 'unknown',
    });
  });

  it('is what a source says that fails, and the next one is asked', async () => {
    const failing = new CrlSource({
      addressOf: () => {
        throw new Error('no address');
      },
    });
    const alone = await verifierOf(failing).verifyCertificate(certificateOf(good), 'signing');
    expect(alone).toMatchObject({ status: 'undetermined', detail: 'crl failed: no address' });
    const both = verifierOf([failing, new OcspSource({ url: ocspUrl() })]);
    expect(await both.verifyCertificate(certificateOf(good), 'signing')).toMatchObject({ status: 'good' });
  });

  it('is a filter that is not signed, is older than one that was had, or may not be believed any more', async () => {
    const { filter } = await sources();
    if (!(filter instanceof FilterSource)) throw new Error('no filter');
    const [base, delta] = [await filterFile('signing'), await filterFile('signing-delta')];
    const nowMs = test.clock.wallMs();
    const fresh = () => new FilterSource({ publicKey: outboxKey });
    const refused = (source: FilterSource, ...files: [Uint8Array, Uint8Array | null, number?]) =>
      expect(() => source.load(files[0], files[1], files[2] ?? nowMs)).toThrow(FilterRefused);
    const altered = Buffer.from(base);
    altered[60] = (altered[60] ?? 0) ^ 1;
    refused(fresh(), altered, delta);
    refused(fresh(), base.subarray(0, 40), delta);
    refused(fresh(), Buffer.from('hello'), null);
    refused(fresh(), delta, delta);
    refused(fresh(), base, await filterFile('authentication-delta'));
    refused(fresh(), base, delta, nowMs + 30 * day);
    refused(
      new FilterSource({ publicKey: outboxKey, newest: { signing: Number.MAX_SAFE_INTEGER } }),
      base,
      delta,
    );
    const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const { head } = decodeFilter(delta);
    const signed = encodeSigned(
      { ...head, sequence: head.sequence + 1 } as FilterHead,
      encodeDelta({ revoked: [], released: [] }),
    );
    refused(fresh(), base, Buffer.concat([signed, sign('sha256', signed, stranger.privateKey)]));
    // What was loaded before stays, until it may not be believed any more.
    refused(filter, altered, delta);
    expect(await verifierOf(filter).verifyCertificate(certificateOf(dead), 'signing')).toMatchObject({
      status: 'revoked',
    });
    expect(
      await verifierOf(filter, 30 * day).verifyCertificate(certificateOf(good), 'signing'),
    ).toMatchObject({ why: 'stale' });
    const later = await issueCard(test.api);
    expect(await verifierOf(filter).verifyCertificate(certificateOf(later), 'signing')).toMatchObject({
      status: 'undetermined',
      why: 'not-covered',
    });
    expect(
      await verifierOf(filter).verifyCertificate(
        certificateOf(good, 'card-authentication'),
        'authentication',
      ),
    ).toMatchObject({ why: 'not-covered' });
  });
});

/** Whether an octet of an OCSP response stands before what is signed: lengths and tags alone. */
function onlyWrapping(response: Buffer, at: number): boolean {
  return at < response.indexOf(Buffer.from('2b0601050507300101', 'hex')) + 9;
}

/** Without the project's own Node: that of the machine, or a later one. */
const systemPath = (process.env.PATH ?? '')
  .split(':')
  .filter((folder) => !folder.includes('node_modules'))
  .join(':');
