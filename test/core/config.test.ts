import { describe, expect, it } from 'vitest';
import { durationMs, parseConfig } from '../../core/config.ts';

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
