import { readdirSync, readFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { fixture } from '../support/harness.ts';
import { fuzz, type Target, targets } from './fuzz.ts';

let all: Target[];
beforeAll(async () => {
  all = await targets();
});

const names = [
  'OCSP request',
  'OCSP shape',
  'HTTP head',
  'PKCS#10',
  'certificate',
  'CRL',
  'CMS',
  'enrolment',
  'JSON body',
  'path',
  'DER',
];

// Another each time; the seed of a run that failed is in its title, and WARIFU_FUZZ_SEED repeats it.
const seed = Number(process.env.WARIFU_FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));

describe(`a second of mutated inputs (seed ${seed})`, () => {
  it.each(names)('finds no crash, hang or unexplained disagreement with pkijs in %s', (name) => {
    const target = all.find((candidate) => candidate.name === name);
    if (!target) throw new Error(`no target ${name}`);
    expect(fuzz(target, 1000, seed)).toBeGreaterThan(50);
  });

  it('has a test for every target', () => {
    expect(all.map(({ name }) => name)).toEqual(names);
  });
});

describe('an input that once showed a fault', () => {
  // Named `<target>.<defect>.hex`.
  const found = readdirSync(fixture('fuzz')).filter((file) => file.endsWith('.hex'));

  it.each(found)('%s shows none any more', (file) => {
    const [slug] = file.split('.');
    const target = all.find(({ name }) => name.toLowerCase().replace(/[^a-z0-9]+/g, '-') === slug);
    if (!target) throw new Error(`no target ${slug}`);
    const input = Buffer.from(readFileSync(fixture(`fuzz/${file}`), 'utf8').trim(), 'hex');
    expect(() => target.check(input)).not.toThrow();
  });
});
