import { createHash, X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pemOf } from '../support/actors.ts';
import {
  fileOf,
  issueCard,
  openssl,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

// The page that is open to everyone: CA certificates, their fingerprints, policies, and the names of distribution points.

let test: TestService;
let page: string;

beforeAll(async () => {
  test = await startTestService({
    overrides: {
      scheme: { organization: 'A <b>"PKI"</b> & Co' },
      crl: { partition: 'municipality', verifiers: { required: true } },
    },
  });
  page = await (await fetch(`${test.service.addresses.crl}/ca/`)).text();
});
afterAll(async () => {
  await test?.close();
  removeScratch();
});

const plain = (html: string): string =>
  html
    .replaceAll(/<[^>]*>/g, ' ')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&amp;', '&');

describe('the page about CA certificates', () => {
  it('is for everyone, also where CRLs are for verifiers alone', async () => {
    const { crl } = test.service.addresses;
    const answer = await fetch(`${crl}/ca/index.html`);
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(await answer.text()).toBe(page);
    expect((await fetch(`${crl}/crl/index.json`)).status).toBe(403);
    for (const path of ['/ca', '/ca/index.htm', '/ca//', '/ca/../crl/index.json'])
      expect((await fetch(`${crl}${path}`)).status).not.toBe(200);
  });

  it('has the fingerprint and the file of each CA certificate', async () => {
    for (const name of ['signing-1', 'authentication-1']) {
      expect(page).toContain(`<a href="${name}.cer">`);
      const file = await fetch(`${test.service.addresses.crl}/ca/${name}.cer`);
      const certificate = Buffer.from(await file.arrayBuffer());
      const sha256 = createHash('sha256').update(certificate).digest('hex').toUpperCase();
      expect(page).toContain(sha256.match(/../g)?.join(':'));
      expect(new X509Certificate(certificate).fingerprint256).toBe(sha256.match(/../g)?.join(':'));
    }
  });

  it('has the policies and distribution points that certificates have', async () => {
    const { card } = await issueCard(test.api);
    for (const kind of ['card-signing', 'card-authentication']) {
      const certificate = pemOf(card, kind);
      const text = openssl('x509', '-in', fileOf(certificate), '-noout', '-text');
      const policy = /Policy: ([0-9.]+)/.exec(text)?.[1];
      expect(page).toContain(`<code>${policy}</code>`);
      const [, name = ''] = /DirName:(.*CRLDP.*)/.exec(text) ?? [];
      const written = plain(page)
        .split('  ')
        .find((line) => line.includes(`CRLDP ${kind} `));
      const parts = written?.trim().split(/<(?:prefecture|municipality|G|S)>/) ?? [];
      expect(parts).toHaveLength(5);
      // In place of what stands in angle brackets anything may stand, and nothing else may differ.
      const escaped = parts.map((part) => part.replaceAll('"', '').replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
      // openssl writes quotes around a name that has some.
      const bare = (text: string): string => text.replaceAll(/["\\]/g, '');
      expect(bare(name.trim().replaceAll(' = ', '='))).toMatch(new RegExp(`^${escaped.join('[^,]+')}$`));
    }
  });

  it('shows what is configured as text', () => {
    expect(plain(page)).toContain('A <b>"PKI"</b> & Co');
    expect(page).not.toContain('<b>');
    expect(page).not.toMatch(/<script|javascript:|\son[a-z]+=/i);
  });
});
