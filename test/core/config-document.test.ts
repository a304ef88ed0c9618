import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 as Ajv } from 'ajv/dist/2020.js';
import { afterAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../ca/config/config.ts';
import { type documents, exampleOf, schemaOf } from '../../ca/config/document.ts';
import { checkFolder, effective } from '../../ca/node/configuration-check.ts';
import { parseOcspNodeConfig } from '../../ocsp/config/options.ts';
import { removeScratch, runWarifu, scratch } from '../support/harness.ts';

afterAll(removeScratch);

const refusal = (input: unknown): string[] => {
  try {
    parseConfig(input);
    return [];
  } catch (error) {
    return (error as Error).message.split('\n').map((line) => line.trim());
  }
};

function folderWith(file: string, content: unknown): string {
  const folder = join(scratch(), 'data');
  mkdirSync(folder);
  writeFileSync(join(folder, file), typeof content === 'string' ? content : JSON.stringify(content));
  return folder;
}

describe('a configuration that is wrong', () => {
  it('is told every fault at once, with the value, what is expected, and the nearest key', () => {
    expect(
      refusal({
        pkcs11: { moduel: 'x', signingThreads: 'two' },
        limts: {},
        ocsp: { feedLagMax: '10 s', port: 0 },
        mode: 'prod',
      }),
    ).toEqual([
      'configuration: /limts is no key that there is; nearest: limits',
      '/mode is none of development, production: it is "prod"',
      '/ocsp/port must be >= 1: it is 0',
      '/ocsp/feedLagMax is no duration, such as 10min, 1h or 7d: it is "10 s"',
      '/pkcs11/moduel is no key that there is; nearest: module',
      '/pkcs11/signingThreads must be integer: it is "two"',
    ]);
  });

  it('names the key that is nearest inside what has keys of its own, and none where none is near', () => {
    expect(refusal({ record: { postgres: { host: 'x' } } }).join()).toContain('nearest: hosts');
    expect(refusal({ policy: { events: { x: { tarrget: 'card' } } } }).join()).toContain('nearest: target');
    expect(refusal({ somethingElseAltogether: 1 })).toEqual([
      'configuration: /somethingElseAltogether is no key that there is',
    ]);
  });

  it('is told no more than twenty faults, and how many more there are', () => {
    const wrong = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`unknown${i}`, 1]));
    const lines = refusal(wrong);
    expect(lines).toHaveLength(21);
    expect(lines.at(-1)).toBe('and 10 more');
  });

  it('shows no more of a value than tells which it is', () => {
    const [line = ''] = refusal({ mode: 'x'.repeat(5000) });
    expect(line.length).toBeLessThan(200);
  });
});

describe('the published schemas', () => {
  const published = { ca: 'ca/config/warifu', ocsp: 'ocsp/config/node', crl: 'crl/config/node' } as const;

  it('are those of this version', () => {
    for (const [kind, name] of Object.entries(published))
      expect(readFileSync(new URL(`../../${name}.schema.json`, import.meta.url), 'utf8')).toBe(
        schemaOf(kind as keyof typeof documents),
      );
  });

  it('take what the service takes, refuse what it refuses, and ask for nothing that has a default', () => {
    const validate = new Ajv({ strict: false }).compile(JSON.parse(schemaOf('ca')));
    for (const given of [{}, { $schema: './x.json', mode: 'development' }, { ocsp: { port: 1234 } }])
      expect([given, validate(given), validate.errors]).toEqual([given, true, null]);
    for (const given of [{ limts: {} }, { ocsp: { port: 0 } }, { mode: 'prod' }])
      expect([given, validate(given)]).toEqual([given, false]);
    const feed = { url: 'https://ca.example', key: 'k', cert: 'c', ca: 'a' };
    const node = new Ajv({ strict: false }).compile(JSON.parse(schemaOf('ocsp')));
    expect(node({ feed })).toBe(true);
    expect(() => parseOcspNodeConfig({ feed })).not.toThrow();
    expect(node({})).toBe(false);
    expect(() => parseOcspNodeConfig({})).toThrow('feed');
  });
});

describe('the example of a configuration', () => {
  it('has every key with what it means, and without its comments is a configuration that changes nothing', () => {
    const example = exampleOf('ca');
    const json = example
      .split('\n')
      .filter((line) => !/^\s*\/\//.test(line))
      .join('\n');
    expect(parseConfig(JSON.parse(json))).toEqual(parseConfig({}));
    for (const wanted of [
      /\/\/ how far the feed may lag[^\n]*\n\s*"feedLagMax": "10s"/,
      /\/\/ "metrics": \(not given by default\)/,
      /\/\/ "policy": \(by default that of this version\)/,
    ])
      expect(example).toMatch(wanted);
    expect(exampleOf('ocsp')).toContain('"signedAnswersFor"');
  });
});

describe('what keys say together', () => {
  it('is refused all at once, with the port that two services share', () => {
    const wrong = { caValidityYears: 5, api: { port: 8080 }, limits: { challengeLife: '20min' } };
    const said = [
      '/limits/challengeLife is more than 10min',
      '/caValidityYears is less than 6',
      '/ocsp/port and /api/port are both 8080: each needs its own',
    ];
    expect(() => parseConfig(wrong)).toThrow(`configuration: ${said.join('\n  ')}`);
    expect(() => parseConfig({ crl: { host: '127.0.0.2', port: 8080 } })).not.toThrow();
    expect(() => parseConfig({ crl: { host: '0.0.0.0', port: 8080 } })).toThrow('both 8080');
  });

  it('is remarked on where certificates would name a port at which nothing listens', () => {
    const folder = folderWith('warifu.json', {
      ocsp: { port: 21080 },
      crl: { publicUrl: 'http://crl.example' },
    });
    expect(checkFolder(folder)).toEqual([
      'warifu.json is a valid configuration',
      'note: certificates will name 127.0.0.1:8080 for ever (ocsp.publicUrl), and ocsp.port is 21080',
    ]);
  });
});

describe('warifu config', () => {
  it('checks a data folder, of a CA or of a node, and starts nothing', async () => {
    expect(checkFolder(folderWith('warifu.json', { $schema: 'x', mode: 'development' }))).toEqual([
      'warifu.json is a valid configuration',
    ]);
    const feed = { url: 'https://ca.example', key: 'k', cert: 'c', ca: 'a' };
    expect(checkFolder(folderWith('node.json', { feed, ocsp: {}, crl: {} }))).toHaveLength(2);
    expect(checkFolder(scratch())[0]).toContain('defaults hold');
    const wrong = await runWarifu(
      'config',
      'check',
      '--data',
      folderWith('warifu.json', { limts: {}, mode: 1 }),
    );
    expect(wrong.code).toBe(1);
    expect(wrong.output).toMatch(/limts is no key.*nearest: limits[\s\S]*mode/);
    const broken = await runWarifu('config', 'check', '--data', folderWith('warifu.json', '{"mode":'));
    expect(broken).toMatchObject({ code: 1, output: expect.stringContaining('warifu.json') });
  });

  it('refuses what a start would refuse: of production, a member twice, no object, a folder that is not there', async () => {
    for (const [content, wanted] of [
      [{ mode: 'production' }, /organization|publicUrl|evidence/],
      ['{"api":{"port":1443,"port":1444}}', /port/],
      ['[]', /no object/],
      ['{"mode":', /JSON/],
    ] as const)
      expect(() => checkFolder(folderWith('warifu.json', content))).toThrow(wanted);
    expect(() => checkFolder(join(scratch(), 'none'))).toThrow(/there is no data folder/);
  });

  it('shows what holds in the end, which names secrets and holds none', () => {
    const shown = JSON.parse(effective(folderWith('warifu.json', { ocsp: { port: 1234 } })));
    expect(shown).toMatchObject({ mode: 'development', ocsp: { port: 1234, feedLagMax: '10s' } });
    expect(shown.pkcs11.caToken.pinFile).toBe('secrets/warifu-ca.pin');
  });
});

describe('warifu doctor', () => {
  it('bundles machine, versions, configuration, names of files and what cannot be had; no content of any', async () => {
    const folder = folderWith('warifu.json', { metrics: { host: '127.0.0.1', port: 1 } });
    mkdirSync(join(folder, 'secrets'));
    writeFileSync(join(folder, 'secrets', 'warifu-ca.pin'), 'the-pin-itself', { mode: 0o600 });
    const out = join(scratch(), 'bundle.tar.gz');
    expect(await runWarifu('doctor', '--data', folder, '--out', out)).toMatchObject({ code: 0 });
    expect(statSync(out).mode & 0o777).toBe(0o600);
    const text = execFileSync('tar', ['-xzOf', out], { encoding: 'utf8' });
    for (const wanted of [
      '"warifu"',
      '"mode": "development"',
      'is a valid configuration',
      'secrets/warifu-ca.pin',
      'cannot be had',
    ])
      expect(text).toContain(wanted);
    expect(text).not.toContain('the-pin-itself');
    // It overwrites nothing.
    expect((await runWarifu('doctor', '--data', folder, '--out', out)).code).not.toBe(0);
    expect(await runWarifu('doctor', '--data', join(folder, 'none'))).toMatchObject({
      code: 1,
      output: expect.stringContaining('there is no data folder'),
    });
  });
});
