import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../ca/config/config.ts';
import { durationMs } from '../../core/config/duration.ts';

// docs/FRESHNESS.md says how old an answer can be: by the settings of a fresh installation.

const document = readFileSync(new URL('../../docs/FRESHNESS.md', import.meta.url), 'utf8');
const config = parseConfig({}) as unknown as Record<string, Record<string, unknown>>;

describe('how fresh an answer is', () => {
  const stated = [...document.matchAll(/(\d+) (s|min|h) \(`(ocsp|crl|filters)\.([A-Za-z]+)`\)/g)].map(
    ([, value = '', unit = '', part = '', name = '']) => [`${part}.${name}`, `${value}${unit}`] as const,
  );

  it('is stated for each way to ask', () => {
    expect(stated.length).toBeGreaterThanOrEqual(8);
  });

  it.each(stated)('is stated as it is configured: %s', (setting, value) => {
    const [part = '', name = ''] = setting.split('.');
    expect(durationMs(value)).toBe(durationMs(String(config[part]?.[name])));
  });

  it('names no setting that there is not', () => {
    for (const [, part = '', name = ''] of document.matchAll(/`(ocsp|crl|filters)\.([A-Za-z]+)`/g))
      expect(Object.keys(config[part] ?? {}).concat('cacheAgeMax'), `${part}.${name}`).toContain(name);
  });
});
