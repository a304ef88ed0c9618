import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ocspWrong } from '../../bench/load/answer-checks.ts';
import { answerTo, runNginx, startOpenssl } from '../../bench/rivals/rivals.ts';
import { fromHex } from '../../core/runtime/bytes.ts';
import { cardRequest, derOf, makeChipKey, pemOf } from '../support/actors.ts';
import { issueCard, removeScratch, scratch, startTestService } from '../support/harness.ts';

afterAll(removeScratch);

const main = new URL('../../bench/main.ts', import.meta.url).pathname;

interface Load {
  readonly code: number;
  readonly figures: Record<string, number | string | boolean>;
  readonly said: string;
}

/** `bench load` in a process of its own, for a second. */
const load = (...args: string[]): Promise<Load> =>
  new Promise((resolve) => {
    const all = [main, 'load', '--json', '--duration', '2', '--connections', '4', ...args];
    execFile(process.execPath, all, (error, stdout, stderr) => {
      const code = error ? Number(error.code) : 0;
      resolve({ code, figures: stdout === '' ? {} : JSON.parse(stdout), said: stderr });
    });
  });

describe('bench load', () => {
  it('asks OpenSSL’s responder, and finds its answers right; a run is compared with the run before', async () => {
    const folder = scratch();
    const openssl = await startOpenssl(folder);
    await openssl.pid();
    const serials = readFileSync(join(folder, 'openssl', 'index.txt'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split('\t')[3] ?? '');
    writeFileSync(join(folder, 'serials'), serials.join('\n'));
    const asked = [
      '--url',
      openssl.url,
      '--issuer',
      join(folder, 'openssl', 'ca.pem'),
      '--serials',
      join(folder, 'serials'),
      '--new-connections',
    ];
    const html = join(folder, 'report.html');
    const { code, figures } = await load(...asked, '--nonce', '--distinct', '200', '--html', html);
    expect(figures).toMatchObject({ wrong: 0, errors: 0, timeouts: 0, disturbed: false, nonce: true });
    expect(code).toBe(0);
    expect(figures.correct).toBeGreaterThan(100);
    expect(Number(figures.p50Ms)).toBeGreaterThan(0);
    expect(Number(figures.p999Ms)).toBeGreaterThanOrEqual(Number(figures.p99Ms));
    const report = readFileSync(html, 'utf8');
    expect(report).toContain('Distribution of latencies');
    expect(report).not.toMatch(/(src|href)=|@import|url\(/);
    // The same again is compared with it.
    await load(...asked, '--nonce', '--distinct', '200', '--html', html);
    expect(readFileSync(html, 'utf8')).toContain('run by run');
    openssl.stop();
  }, 30_000);

  it('fetches a CRL from nginx by GET, whole each time', async () => {
    const folder = scratch();
    const service = await startTestService();
    const { body } = await fetch(`${service.service.addresses.crl}/crl/authority/signing-1.crl`);
    writeFileSync(join(folder, 'one.crl'), Buffer.from(await new Response(body).arrayBuffer()));
    const { url } = await runNginx(folder, {
      root: folder,
      filesOpen: 16,
      type: 'application/pkix-crl',
      path: '/one.crl',
    });
    const right = await load('--kind', 'crl', '--url', `${url}/one.crl`);
    expect(right).toMatchObject({ code: 0, figures: { wrong: 0, disturbed: false } });
    writeFileSync(join(folder, 'half.crl'), readFileSync(join(folder, 'one.crl')).subarray(0, 300));
    const half = await load('--kind', 'crl', '--url', `${url}/half.crl`);
    expect(half).toMatchObject({ code: 2, figures: { correct: 0, disturbed: true } });
    expect(half.figures.wrongBy).toMatch(/^no CRL, or half of one: \d+$/);
    const gone = await load('--kind', 'crl', '--url', `${url}/gone.crl`);
    expect(gone.figures.wrongBy).toMatch(/^HTTP 404: \d+$/);
    await service.close();
  }, 30_000);

  it('asks our own responder by GET, and our API over TLS with a client certificate, at the rate that is wanted', async () => {
    const service = await startTestService();
    const holder = await issueCard(service.api);
    const { folder } = service;
    const card = join(folder, 'card.pem');
    writeFileSync(card, pemOf(holder.card, 'card-signing'));
    const ca = join(folder, 'ca.cer');
    const fetched = await fetch(`${service.service.addresses.crl}/ca/signing-1.cer`);
    writeFileSync(ca, Buffer.from(await fetched.arrayBuffer()));
    const { ocsp, api } = service.service.addresses;
    const asked = await load(
      '--url',
      ocsp,
      '--issuer',
      ca,
      '--certificates',
      card,
      '--method',
      'GET',
      '--rate',
      '200',
    );
    expect(asked).toMatchObject({ code: 0, figures: { wrong: 0, disturbed: false, method: 'GET' } });
    expect(Number(asked.figures.answersPerSecond)).toBeLessThan(260);
    const requests = join(folder, 'requests');
    const issue = cardRequest({ signing: await makeChipKey(), authentication: await makeChipKey() });
    const lines = [
      { path: '/v1/health' },
      { method: 'POST', path: '/v1/card-certificates', body: { ...issue, cardId: 7 } },
    ];
    writeFileSync(requests, lines.map((line) => JSON.stringify(line)).join('\n'));
    const client = (kind: string): string => join(folder, 'clients', `first.${kind}`);
    const tls = [
      '--cert',
      client('pem'),
      '--key',
      client('key'),
      '--ca',
      join(folder, 'tls', 'operations-ca.pem'),
    ];
    const mixed = await load('--kind', 'api', '--url', api, '--requests', requests, ...tls);
    expect(mixed.code).toBe(2);
    expect(Number(mixed.figures.correct)).toBeGreaterThan(10);
    expect(mixed.figures.wrongBy).toMatch(/^HTTP 400 bad-request: \d+$/);
    await service.close();
  }, 30_000);

  it('counts no refusal, no other certificate and no missing nonce as an answer', async () => {
    const service = await startTestService();
    const holder = await issueCard(service.api);
    const { ocspRequest } = await import('../support/actors.ts');
    const fetched = await fetch(`${service.service.addresses.crl}/ca/signing-1.cer`);
    const issuer = new Uint8Array(await fetched.arrayBuffer());
    const der = derOf(pemOf(holder.card, 'card-signing'));
    const answer = await answerTo(service.service.addresses.ocsp, await ocspRequest(der, issuer));
    const { serialNumber = '' } = holder.card.certificates.find(({ kind }) => kind === 'card-signing') ?? {};
    const serial = fromHex(serialNumber);
    expect(ocspWrong(answer, serial, undefined)).toBeUndefined();
    expect(ocspWrong(answer, Uint8Array.of(5), undefined)).toBe('another certificate');
    expect(ocspWrong(answer, serial, Buffer.alloc(32, 1))).toBe('without the nonce');
    expect(ocspWrong(Buffer.from('30030a0101', 'hex'), serial, undefined)).toBe('malformedRequest');
    expect(ocspWrong(Buffer.from('30030a0103', 'hex'), serial, undefined)).toBe('tryLater');
    expect(ocspWrong(answer.subarray(0, 100), serial, undefined)).toBe('no OCSP response');
    expect(ocspWrong(Buffer.from('<html>'), serial, undefined)).toBe('no OCSP response');
    await service.close();
  });

  it('says what is missing, and marks what is nothing: a server that is not there, or answers too late', async () => {
    expect(await load('--url', 'http://127.0.0.1:1')).toMatchObject({ code: 1 });
    const gone = await load('--kind', 'crl', '--url', 'http://127.0.0.1:1/x.crl');
    expect(gone).toMatchObject({ code: 2, figures: { correct: 0, disturbed: true } });
    expect(Number(gone.figures.errors)).toBeGreaterThan(0);
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as AddressInfo;
    const late = await load('--kind', 'crl', '--url', `http://127.0.0.1:${port}/x.crl`, '--timeout', '1');
    expect(Number(late.figures.timeouts)).toBeGreaterThan(0);
    silent.closeAllConnections();
    silent.close();
  }, 20_000);
});
