import { afterAll, describe, expect, it } from 'vitest';
import { RequestNumbers } from '../../ca/request/request-numbers.ts';
import { pemOf } from '../support/actors.ts';
import {
  fileOf,
  issueCard,
  ManualClock,
  openssl,
  removeScratch,
  startTestService,
} from '../support/harness.ts';

afterAll(removeScratch);

describe('numbers of requests', () => {
  it('are never given twice, in one second, over seconds, and after a clock was set back a little', async () => {
    const clock = new ManualClock();
    const numbers = new RequestNumbers(clock, clock.wallMs() - 5000);
    const seen = new Set<string>();
    let last = '';
    for (let i = 0; i < 3000; i++) {
      if (i % 500 === 499) clock.advance(i % 1000 === 999 ? -700 : 1300);
      const { secondMs, sequence } = await numbers.next();
      const name = `${secondMs} ${String(sequence).padStart(5, '0')}`;
      expect(name > last).toBe(true);
      last = name;
      seen.add(name);
    }
    expect(seen.size).toBe(3000);
  });

  it('do not begin within the last second on record: another process may have given it', async () => {
    const clock = new ManualClock();
    const recordedMs = clock.wallMs();
    const { secondMs } = await new RequestNumbers(clock, recordedMs).next();
    expect(secondMs).toBeGreaterThan(Math.floor(recordedMs / 1000) * 1000);
  });

  it('are refused by a clock that is far behind the record', async () => {
    const clock = new ManualClock();
    await expect(new RequestNumbers(clock, clock.wallMs() + 60_000).next()).rejects.toMatchObject({
      code: 'clock-unreliable',
    });
  });
});

describe('certificates as RFC 5280 wants them', () => {
  it('no two holders share a subject, and every certificate lies a minute back and names an address first', async () => {
    const test = await startTestService();
    const subjects = new Set<string>();
    const cards = await Promise.all(Array.from({ length: 12 }, () => issueCard(test.api)));
    for (const { card } of cards) {
      for (const kind of ['card-signing', 'card-authentication']) {
        const file = fileOf(pemOf(card, kind));
        subjects.add(openssl('x509', '-in', file, '-noout', '-subject'));
        const text = openssl('x509', '-in', file, '-noout', '-text');
        expect(text).toMatch(/CRL Distribution Points:\s+Full Name:\s+URI:http:.*\s+DirName:/);
        const [, notBefore = ''] = /Not Before: (.*)/.exec(text) ?? [];
        expect(Date.now() - Date.parse(notBefore)).toBeGreaterThanOrEqual(60_000);
      }
    }
    expect(subjects.size).toBe(24);
    await test.close();
  }, 60_000);

  it('stand, with their CRL, before a relying party whose clock lags', async () => {
    const test = await startTestService();
    const { card } = await issueCard(test.api);
    const leaf = fileOf(pemOf(card, 'card-signing'));
    const address = /URI:(http:.*)/.exec(
      openssl('x509', '-in', leaf, '-noout', '-ext', 'crlDistributionPoints'),
    )?.[1];
    const get = async (url: string): Promise<string> =>
      fileOf(Buffer.from(await (await fetch(url)).arrayBuffer()));
    const ca = fileOf(
      openssl('x509', '-inform', 'DER', '-in', await get(`${test.service.addresses.crl}/ca/signing-1.cer`)),
    );
    const crl = fileOf(openssl('crl', '-inform', 'DER', '-in', await get(address ?? '')));
    const lagging = String(Math.floor(Date.now() / 1000) - 30);
    const said = openssl('verify', '-attime', lagging, '-crl_check', '-CAfile', ca, '-CRLfile', crl, leaf);
    expect(said).toContain('OK');
    await test.close();
  }, 60_000);

  it('with the directory name alone, where addresses are given out individually', async () => {
    const test = await startTestService({ overrides: { crl: { distributionPoint: 'directory-name' } } });
    const { card } = await issueCard(test.api);
    const text = openssl(
      'x509',
      '-in',
      fileOf(pemOf(card, 'card-signing')),
      '-noout',
      '-ext',
      'crlDistributionPoints',
    );
    expect(text).toContain('DirName');
    expect(text).not.toContain('URI');
    await test.close();
  }, 60_000);
});
