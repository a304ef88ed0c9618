import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as pkijs from 'pkijs';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Issued } from '../../ca/client/client.ts';
import { oid } from '../../core/asn1/oids.ts';
import { crlAddress, crlNumber, derOf, exact, fetchCrl, listed, pemOf, until } from '../support/actors.ts';
import {
  dataFolder,
  fileOf,
  issueCard,
  issuePhone,
  openssl,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

let test: TestService;
beforeAll(async () => {
  test = await startTestService();
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

const caFile = async (slot: string): Promise<string> =>
  fileOf(
    openssl(
      'x509',
      '-inform',
      'DER',
      '-in',
      fileOf(await fetchCrl(`${test.service.addresses.crl}/ca/${slot}-1.cer`)),
    ),
  );
const serialOf = (issued: Issued, kind: string): string =>
  issued.certificates.find((certificate) => certificate.kind === kind)?.serialNumber ?? '';
const crlOf = (issued: Issued, kind: string) => fetchCrl(crlAddress(derOf(pemOf(issued, kind))));
const untilListed = (issued: Issued, kind: string) =>
  until(`${kind} is listed`, async () => listed(await crlOf(issued, kind)).has(serialOf(issued, kind)));

const extensionValue = (extensions: pkijs.Extension[] | undefined, id: string): Buffer => {
  const found = extensions?.find(({ extnID }) => extnID === id);
  return Buffer.from(found?.extnValue.valueBlock.valueHexView ?? new Uint8Array());
};

describe('the CRL of a certificate’s own distribution point', () => {
  it('is there, empty and verified by openssl, as soon as the certificate is out', async () => {
    const { card } = await issueCard(test.api);
    await until(
      'the CRL is there',
      async () => (await request(crlAddress(derOf(pemOf(card, 'card-signing'))))).statusCode === 200,
    );
    const file = fileOf(await crlOf(card, 'card-signing'));
    const said = openssl(
      'crl',
      '-inform',
      'DER',
      '-in',
      file,
      '-CAfile',
      await caFile('signing'),
      '-noout',
      '-text',
    );
    expect(said).toContain('verify OK');
    expect(said).toContain('No Revoked Certificates');
  });

  it('names itself as the certificate names it, octet for octet (RFC 5280 §6.3.3)', async () => {
    const { card } = await issueCard(test.api);
    for (const kind of ['card-signing', 'card-authentication']) {
      await until(
        'the CRL is there',
        async () => (await request(crlAddress(derOf(pemOf(card, kind))))).statusCode === 200,
      );
      const crl = pkijs.CertificateRevocationList.fromBER(exact(await crlOf(card, kind)));
      const certificate = pkijs.Certificate.fromBER(exact(derOf(pemOf(card, kind))));
      const idp = extensionValue(crl.crlExtensions?.extensions, oid.issuingDistributionPoint);
      const cdp = extensionValue(certificate.extensions, oid.cRLDistributionPoints);
      // Both hold the same DistributionPointName: [0] { fullName [0] … }.
      const name = cdp.subarray(cdp.indexOf(0xa0));
      expect(idp.indexOf(name)).toBeGreaterThan(0);
      expect(
        crl.crlExtensions?.extensions.find(({ extnID }) => extnID === oid.issuingDistributionPoint)?.critical,
      ).toBe(true);
    }
  });

  it('lists what is revoked and held, with reasons, and openssl refuses those certificates by it', async () => {
    const holder = await issueCard(test.api);
    const { phone } = await issuePhone(test.api, holder);
    await test.api.post('/events', { event: 'card-lost', cardId: holder.cardId });
    for (const [issued, kind] of [
      [holder.card, 'card-signing'],
      [phone, 'phone-signing'],
    ] as const) {
      await untilListed(issued, kind);
      const crl = await crlOf(issued, kind);
      expect(listed(crl).get(serialOf(issued, kind))).toBe(6);
      const crlFile = fileOf(openssl('crl', '-inform', 'DER', '-in', fileOf(crl)));
      const verify = [
        'verify',
        '-crl_check',
        '-extended_crl',
        '-CAfile',
        await caFile('signing'),
        '-CRLfile',
        crlFile,
      ];
      expect(() => openssl(...verify, fileOf(pemOf(issued, kind)))).toThrow('certificate revoked');
      const other = await issueCard(test.api);
      if (kind === 'card-signing')
        expect(openssl(...verify, fileOf(pemOf(other.card, kind)))).toContain('OK');
    }
  });

  it('no longer lists what was released', async () => {
    const holder = await issueCard(test.api);
    const { phone, deviceId } = await issuePhone(test.api, holder);
    await test.api.post('/events', { event: 'phone-lost', deviceId });
    await untilListed(phone, 'phone-authentication');
    await test.api.post('/events', { event: 'phone-found', deviceId });
    await until(
      'it is released',
      async () =>
        !listed(await crlOf(phone, 'phone-authentication')).has(serialOf(phone, 'phone-authentication')),
    );
  });

  it('has a number that rises', async () => {
    const holder = await issueCard(test.api);
    const before = crlNumber(await crlOf(holder.card, 'card-signing'));
    await test.api.post('/events', { event: 'card-returned', cardId: holder.cardId });
    await untilListed(holder.card, 'card-signing');
    expect(crlNumber(await crlOf(holder.card, 'card-signing'))).toBeGreaterThan(before);
  });

  it('is of its kind alone: card and phone, signing and authentication share none', async () => {
    const holder = await issueCard(test.api);
    const { phone } = await issuePhone(test.api, holder);
    const addresses = [holder.card, phone].flatMap(({ certificates }) =>
      certificates.map(({ certificate }) => crlAddress(derOf(certificate))),
    );
    expect(new Set(addresses).size).toBe(4);
  });
});

it('numbers go on rising after a restart with a clock that has stepped back', async () => {
  const holder = await issueCard(test.api);
  await until(
    'the CRL is there',
    async () => (await request(crlAddress(derOf(pemOf(holder.card, 'card-signing'))))).statusCode === 200,
  );
  const before = crlNumber(await crlOf(holder.card, 'card-signing'));
  const { folder, clock } = test;
  await test.close();
  clock.step(-3_600_000);
  test = await startTestService({ folder, clock });
  await test.api.post('/events', { event: 'card-returned', cardId: holder.cardId });
  await untilListed(holder.card, 'card-signing');
  expect(crlNumber(await crlOf(holder.card, 'card-signing'))).toBeGreaterThan(before);
});

describe('a small site', () => {
  it('has one CRL for all municipalities of a kind, also for phones, served by several threads', async () => {
    const municipalities = [
      { code: '13113', prefecture: 'Tokyo-to', municipality: 'Shibuya-ku' },
      { code: '01101', prefecture: 'Hokkaido', municipality: 'Sapporo-shi Chuo-ku' },
    ];
    const folder = await dataFolder({
      crl: { partition: 'none', shardCapacity: 1, threads: 2 },
    });
    const config = JSON.parse(readFileSync(join(folder, 'warifu.json'), 'utf8'));
    writeFileSync(join(folder, 'warifu.json'), JSON.stringify({ ...config, municipalities }));
    const site = await startTestService({ folder });
    try {
      const holders = [
        await issueCard(site.api, { municipalityCode: '13113' }),
        await issueCard(site.api, { municipalityCode: '01101' }),
      ];
      const addresses = holders.map(({ card }) => crlAddress(derOf(pemOf(card, 'card-signing'))));
      expect(new Set(addresses)).toEqual(
        new Set([`${site.service.addresses.crl}/crl/card-signing/1/all/0.crl`]),
      );
      const [, holder] = holders;
      if (!holder) throw new Error('no holder');
      const { phone } = await issuePhone(site.api, holder);
      const address = crlAddress(derOf(pemOf(phone, 'phone-signing')));
      expect(address).toContain('/crl/phone-signing/1/all/0.crl');
      await site.api.post('/events', { event: 'card-returned', cardId: holder.cardId });
      await until('the phone is listed', async () =>
        fetchCrl(address).then(
          (crl) => listed(crl).has(serialOf(phone, 'phone-signing')),
          () => false,
        ),
      );
      const said = openssl(
        'crl',
        '-inform',
        'DER',
        '-in',
        fileOf(await fetchCrl(`${site.service.addresses.crl}/crl/authority/signing-1.crl`)),
        '-noout',
        '-text',
      );
      expect(said).toContain('Only CA Certificates');
    } finally {
      await site.close();
    }
  });
});
