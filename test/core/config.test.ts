import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../ca/config/config.ts';
import { durationMs } from '../../core/config/duration.ts';
import { parseCrlNodeConfig } from '../../crl/config/options.ts';
import { parseOcspNodeConfig } from '../../ocsp/config/options.ts';

describe('configuration', () => {
  it('is complete without a word from the operator', () => {
    const config = parseConfig({});
    expect(config.scheme.organization).toBe('JPKI-TEST');
    expect(config.municipalities.length).toBeGreaterThan(40);
    expect(config.policy.events['card-lost']?.kinds['card-signing']).toBe('hold');
  });

  it.each([
    ['an unknown key', { nonsense: 1 }, /nonsense|additional/],
    ['an unknown key within a section', { ocsp: { prot: 1 } }, /ocsp/],
    ['a duration without a unit', { ocsp: { responseValidity: '60' } }, /responseValidity/],
    ['a port beyond 65535', { api: { port: 70000 } }, /port/],
    ['a refresh that comes too late', { crl: { refreshEvery: '72h' } }, /refreshEvery/],
    [
      'a challenge that lives longer than ten minutes',
      { limits: { challengeLife: '11min' } },
      /challengeLife/,
    ],
    ['CAs that end before certificates do', { caValidityYears: 5 }, /caValidityYears/],
    ['one token for CA and OCSP keys', { pkcs11: { ocspToken: { label: 'warifu-ca' } } }, /token/],
    ['an address that certificates cannot name', { crl: { publicUrl: 'https://x' } }, /publicUrl/],
    ['a port that there cannot be', { crl: { publicUrl: 'http://crl.example:99999' } }, /crl\/publicUrl/],
    ['port zero of an address', { ocsp: { publicUrl: 'http://ocsp.example:0' } }, /ocsp\/publicUrl/],
    ['a host that DNS cannot have', { crl: { publicUrl: `http://${'a'.repeat(64)}.example` } }, /publicUrl/],
    ['a host with an empty label', { crl: { publicUrl: 'http://crl..example' } }, /publicUrl/],
    ['a CPS address with a blank', { scheme: { cpsUri: 'http://x/a b' } }, /cpsUri/],
    [
      'an organization beyond its upper bound (RFC 5280 appendix A.1)',
      { scheme: { organization: 'x'.repeat(65) } },
      /organization has 65 characters/,
    ],
    [
      'a Japanese name beyond its upper bound',
      { scheme: { japaneseOperator: '機'.repeat(65) } },
      /japaneseOperator/,
    ],
    [
      'a municipality without room for digits behind it in a distribution point',
      { municipalities: [{ code: '13113', prefecture: 'Tokyo-to', municipality: 'x'.repeat(28) }] },
      /municipalities\/0\/municipality has 28 characters/,
    ],
    [
      'an action that does not exist',
      { policy: { events: {}, cascade: { hold: 'perhaps' }, releasable: [] } },
      /policy/,
    ],
  ])('refuses %s', (_what, input, message) => {
    expect(() => parseConfig(input)).toThrow(message);
  });

  it('reads durations with their units', () => {
    expect(['250ms', '5s', '10min', '2h', '3d'].map(durationMs)).toEqual([
      250, 5000, 600_000, 7_200_000, 259_200_000,
    ]);
  });
});

describe('the configuration of a node that runs alone', () => {
  const feed = { url: 'https://ca.example.jp:8443', key: 'node.key', cert: 'node.pem', ca: 'ca.pem' };

  it('is not refused for what stands in certificates only, nor for a section of another node', () => {
    const publicUrl = 'https://ocsp.example/';
    const ocsp = { publicUrl, responseValidity: '10min' };
    expect(parseOcspNodeConfig({ feed, ocsp, crl: { port: 1 } }).ocsp.responseValidity).toBe('10min');
    expect(parseCrlNodeConfig({ feed, crl: { publicUrl }, ocsp: { port: 1 } }).crl.publicUrl).toBe(publicUrl);
  });

  it('is refused for a key that there is not, by name', () => {
    expect(() => parseOcspNodeConfig({ feed, ocsp: { prot: 8080 } })).toThrow(/\/ocsp\/prot/);
    expect(() => parseCrlNodeConfig({ feed, clr: {} })).toThrow(/\/clr/);
  });
});
