import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DerError } from '../../core/asn1/der-reader.ts';
import { readX509 } from '../../core/asn1/x509.ts';
import { derOf, pemOf } from '../support/actors.ts';
import { issueCard, removeScratch, startTestService, type TestService } from '../support/harness.ts';
import { hiding } from '../support/hiding.ts';

let test: TestService;
let one: Uint8Array;
let other: Uint8Array;

beforeAll(async () => {
  test = await startTestService();
  [one, other] = [
    derOf(pemOf((await issueCard(test.api)).card, 'card-signing')),
    derOf(pemOf((await issueCard(test.api)).card, 'card-signing')),
  ];
});
afterAll(async () => {
  await test?.close();
  removeScratch();
});

describe('a certificate that someone else has sent', () => {
  it('is read where it is one', () => {
    expect(Buffer.from(readX509(one).raw).equals(one)).toBe(true);
  });

  it('is none where another one stands within it, before it or behind it', () => {
    const pem = (der: Uint8Array) => Buffer.from(new X509Certificate(Buffer.from(der)).toString());
    for (const forged of [
      hiding(one, other),
      hiding(one, one),
      pem(one),
      Buffer.concat([one, pem(other)]),
      Buffer.concat([pem(other), one]),
      Buffer.concat([one, Buffer.of(0)]),
      Buffer.alloc(0),
    ])
      expect(() => readX509(forged)).toThrow(DerError);
  });

  it('is bound to no adopted certificate, whatever stands within it', async () => {
    const { holderId, cardId, card } = await issueCard(test.api);
    const summary = card.certificates.find(({ kind }) => kind === 'card-signing');
    const path = `/certificates/${summary?.authority}/${summary?.serialNumber}/holder`;
    const certificate = hiding(derOf(pemOf(card, 'card-signing')), other).toString('base64');
    const answer = await test.api.post<{ title: string; detail: string }>(path, {
      holderId,
      cardId,
      certificate,
    });
    expect([answer.status, answer.body.title]).toEqual([400, 'bad-request']);
    expect(answer.body.detail).toContain('another certificate stands within it');
  });
});

it('is read by this alone where certificates come from others', () => {
  const root = new URL('../..', import.meta.url).pathname;
  for (const file of [
    ...['core/verifier/certificate.ts', 'core/verifier/ocsp.ts', 'core/verifier/crl.ts'],
    ...['ca/issue/adopted.ts', 'ca/issue/consents.ts', 'ca/request/signed-message.ts'],
  ])
    expect(readFileSync(join(root, file), 'utf8'), file).not.toContain('new X509Certificate(');
});
