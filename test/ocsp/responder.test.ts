import { randomBytes } from 'node:crypto';
import * as asn1js from 'asn1js';
import * as pkijs from 'pkijs';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { oid } from '../../core/asn1/oids.ts';
import { askOcsp, derOf, exact, fetchCrl, ocspRequest, pemOf } from '../support/actors.ts';
import {
  fileOf,
  type Holder,
  issueCard,
  openssl,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

let test: TestService;
let holder: Holder;
let ca: Uint8Array;
let caFile: string;
let leaf: Uint8Array;
let address: string;

beforeAll(async () => {
  test = await startTestService();
  address = test.service.addresses.ocsp;
  holder = await issueCard(test.api);
  leaf = derOf(pemOf(holder.card, 'card-signing'));
  ca = await fetchCrl(`${test.service.addresses.crl}/ca/signing-1.cer`);
  caFile = fileOf(openssl('x509', '-inform', 'DER', '-in', fileOf(ca)));
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

const basicOf = (response: Uint8Array): pkijs.BasicOCSPResponse => {
  const { responseBytes, responseStatus } = pkijs.OCSPResponse.fromBER(exact(response));
  expect(responseStatus.valueBlock.valueDec).toBe(0);
  return pkijs.BasicOCSPResponse.fromBER(
    responseBytes?.response.valueBlock.valueHexView.slice().buffer ?? new ArrayBuffer(),
  );
};
const statusOf = (response: Uint8Array): number | undefined =>
  (basicOf(response).tbsResponseData.responses[0]?.certStatus as asn1js.BaseBlock | undefined)?.idBlock
    .tagNumber;
const errorOf = (response: Uint8Array): string => Buffer.from(response).toString('hex');
const malformed = '30030a0101';
const tryLater = '30030a0103';
const unauthorized = '30030a0106';

describe('a response (RFC 6960 §4.2)', () => {
  it.each(['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512'])(
    'to a %s CertID is verified by openssl and by pkijs',
    async (hash) => {
      const response = await askOcsp(address, await ocspRequest(leaf, ca, { hash }));
      const args = [
        '-respin',
        fileOf(response),
        `-${hash.toLowerCase().replace('-', '')}`,
        '-issuer',
        caFile,
        '-cert',
        fileOf(pemOf(holder.card, 'card-signing')),
        '-CAfile',
        caFile,
      ];
      const said = openssl('ocsp', ...args, '-no_nonce');
      expect(said).toContain('Response verify OK');
      expect(said).toContain(': good');
      const basic = basicOf(response);
      const trustedCerts = [pkijs.Certificate.fromBER(exact(ca))];
      expect(await basic.verify({ trustedCerts })).toBe(true);
    },
  );

  it('is signed by a delegated responder with id-kp-OCSPSigning and nocheck (§4.2.2.2)', async () => {
    const basic = basicOf(await askOcsp(address, await ocspRequest(leaf, ca)));
    const [certificate] = basic.certs ?? [];
    const text = openssl(
      'x509',
      '-inform',
      'DER',
      '-in',
      fileOf(new Uint8Array(certificate?.toSchema(true).toBER() ?? [])),
      '-noout',
      '-text',
    );
    expect(text).toContain('OCSP Signing');
    expect(text).toContain('OCSP No Check');
  });

  it('says when its status is known to be right, and for how long', async () => {
    const { tbsResponseData } = basicOf(await askOcsp(address, await ocspRequest(leaf, ca)));
    const [single] = tbsResponseData.responses;
    const thisUpdateMs = single?.thisUpdate.getTime() ?? 0;
    expect(tbsResponseData.producedAt.getTime()).toBeGreaterThanOrEqual(thisUpdateMs);
    expect((single?.nextUpdate?.getTime() ?? 0) - thisUpdateMs).toBe(3_660_000);
    // A minute back, for clients whose clocks lag.
    expect(tbsResponseData.producedAt.getTime() - thisUpdateMs).toBeGreaterThanOrEqual(60_000);
  });

  it.each([1, 16, 128])('repeats a nonce of %d octets (RFC 9654)', async (length) => {
    const nonce = randomBytes(length);
    const { tbsResponseData } = basicOf(await askOcsp(address, await ocspRequest(leaf, ca, { nonce })));
    const value = tbsResponseData.responseExtensions?.find(
      ({ extnID }) => extnID === oid.ocspNonce,
    )?.extnValue;
    const inner = asn1js.fromBER(exact(value?.valueBlock.valueHexView ?? new Uint8Array()))
      .result as asn1js.OctetString;
    expect(Buffer.from(inner.getValue())).toEqual(nonce);
  });

  it('answers good for our own CA and responder certificates, recorded like any other', async () => {
    expect(statusOf(await askOcsp(address, await ocspRequest(ca, ca)))).toBe(0);
    const [responder] = basicOf(await askOcsp(address, await ocspRequest(leaf, ca))).certs ?? [];
    expect(
      statusOf(
        await askOcsp(
          address,
          await ocspRequest(new Uint8Array(responder?.toSchema(true).toBER() ?? []), ca),
        ),
      ),
    ).toBe(0);
  });

  it('calls a serial number that was never issued revoked since 1970, by extended-revoke (§2.2, §4.4.8)', async () => {
    for (const serial of ['5', `0x01${'ab'.repeat(16)}`, '0x7fff']) {
      const out = fileOf('');
      openssl('ocsp', '-issuer', caFile, '-serial', serial, '-no_nonce', '-reqout', out);
      const answer = await askOcsp(address, (await import('node:fs')).readFileSync(out));
      expect(statusOf(answer)).toBe(1);
      const { responseExtensions = [] } = basicOf(answer).tbsResponseData;
      expect(responseExtensions.map(({ extnID }) => extnID)).toContain(oid.ocspExtendedRevoke);
      const text = openssl('ocsp', '-respin', fileOf(answer), '-noverify', '-resp_text');
      expect(text).toMatch(/Revocation Time: Jan {2}1 00:00:00 1970 GMT/);
      expect(text).toContain('certificateHold (0x6)');
    }
  });

  it('shows a revocation at once, with its time and reason, and never good again', async () => {
    const fresh = await issueCard(test.api);
    const certificate = derOf(pemOf(fresh.card, 'card-signing'));
    const query = await ocspRequest(certificate, ca);
    expect(statusOf(await askOcsp(address, query))).toBe(0);
    await test.api.post('/events', { event: 'card-lost', cardId: fresh.cardId });
    const held = openssl('ocsp', '-respin', fileOf(await askOcsp(address, query)), '-noverify', '-resp_text');
    expect(held).toMatch(/Cert Status: revoked[\s\S]*certificateHold \(0x6\)/);
    await test.api.post('/events', { event: 'card-returned', cardId: fresh.cardId });
    const revoked = openssl(
      'ocsp',
      '-respin',
      fileOf(await askOcsp(address, query)),
      '-noverify',
      '-resp_text',
    );
    expect(revoked).toMatch(/Cert Status: revoked[\s\S]*cessationOfOperation \(0x5\)/);
    const time = (text: string) => /Revocation Time: (.*)/.exec(text)?.[1];
    expect(time(revoked)).toBe(time(held));
  });

  it('is unauthorized for an issuer it does not serve, and answers for two of ours at once', async () => {
    expect(errorOf(await askOcsp(address, await ocspRequest(leaf, derOf(foreignCa()))))).toBe(unauthorized);
    const other = await fetchCrl(`${test.service.addresses.crl}/ca/authentication-1.cer`);
    const out = fileOf('');
    const otherFile = fileOf(openssl('x509', '-inform', 'DER', '-in', fileOf(other)));
    openssl(
      'ocsp',
      '-issuer',
      caFile,
      '-serial',
      '5',
      '-issuer',
      otherFile,
      '-serial',
      '5',
      '-no_nonce',
      '-reqout',
      out,
    );
    const { responses } = basicOf(
      await askOcsp(address, (await import('node:fs')).readFileSync(out)),
    ).tbsResponseData;
    expect(responses.map(({ certStatus }) => certStatus.idBlock.tagNumber)).toEqual([1, 1]);
  });

  const foreignCa = () => {
    const key = fileOf(holder.cardSigning.privateKey.export({ format: 'pem', type: 'pkcs8' }) as string);
    return openssl('req', '-x509', '-new', '-key', key, '-subj', '/CN=foreign', '-days', '2');
  };

  it.each(['', 'hello', '3003020101', '30800000'])('is malformedRequest for %j', async (text) => {
    const octets = text === 'hello' ? Buffer.from(text) : Buffer.from(text, 'hex');
    expect(errorOf(await askOcsp(address, octets))).toBe(malformed);
  });

  it('is tryLater, never a fresh good, when the feed has stalled', async () => {
    const query = await ocspRequest(leaf, ca, { nonce: randomBytes(16) });
    test.clock.advance(60_000);
    expect(errorOf(await askOcsp(address, query))).toBe(tryLater);
    await test.service.ca.store.feed.follow({ apply: () => undefined }, undefined, AbortSignal.timeout(1));
    expect(statusOf(await askOcsp(address, query))).toBe(0);
  });
});

describe('over HTTP (RFC 6960 appendix A, RFC 9919)', () => {
  const get = async (path: string, method: 'GET' | 'PUT' | 'HEAD' = 'GET') => {
    const response = await request(`${address}${path}`, { method });
    return { ...response, octets: new Uint8Array(await response.body.arrayBuffer()) };
  };

  it('GET takes the request as base64 in the path, percent-encoded or not', async () => {
    const encoded = Buffer.from(await ocspRequest(leaf, ca)).toString('base64');
    for (const path of [`/${encodeURIComponent(encoded)}`, `/${encoded}`]) {
      const { octets, headers, statusCode } = await get(path);
      expect(statusCode).toBe(200);
      expect(headers['content-type']).toBe('application/ocsp-response');
      expect(statusOf(octets)).toBe(0);
    }
  });

  it('GET says how long its answer may be kept (RFC 9919 §7.2)', async () => {
    const encoded = Buffer.from(await ocspRequest(leaf, ca)).toString('base64');
    const { headers, octets } = await get(`/${encodeURIComponent(encoded)}`);
    const [single] = basicOf(octets).tbsResponseData.responses;
    expect(Date.parse(String(headers['last-modified']))).toBe(single?.thisUpdate.getTime());
    expect(Date.parse(String(headers.expires))).toBe(single?.nextUpdate?.getTime());
    expect(headers['cache-control']).toMatch(/^max-age=3\d{3}, public, no-transform, must-revalidate$/);
    expect(headers.etag).toMatch(/^"[0-9a-f]{32}"$/);
  });

  it('no cache keeps an answer with a nonce, an error, or an answer to POST', async () => {
    const nonce = Buffer.from(await ocspRequest(leaf, ca, { nonce: randomBytes(16) })).toString('base64');
    for (const path of [`/${encodeURIComponent(nonce)}`, '/AAAA']) {
      expect((await get(path)).headers['cache-control']).toBe('no-store');
    }
  });

  it('broken base64 is malformedRequest', async () => {
    for (const path of ['/%', '/****', '/', '/abc%2'])
      expect(errorOf((await get(path)).octets)).toBe(malformed);
  });

  it('refuses other methods, other media types, and what is too large', async () => {
    expect((await get('/x', 'PUT')).statusCode).toBe(405);
    const post = (type: string, body: Buffer) =>
      request(address, { method: 'POST', headers: { 'content-type': type }, body });
    expect((await post('text/plain', Buffer.from('x'))).statusCode).toBe(415);
    expect((await post('application/ocsp-request', Buffer.alloc(9000))).statusCode).toBe(413);
  });
});
