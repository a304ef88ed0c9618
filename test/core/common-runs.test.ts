import { createHash, randomBytes } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { baseIdIn, baseIdOctets, baseOf, lengthen, runsOf, shorten } from '../../ca/sealing/common-runs.ts';
import { Encodings } from '../../ca/sealing/encoding.ts';
import type { Sealer } from '../../ca/sealing/sealer.ts';
import { hex } from '../../core/runtime/bytes.ts';

const octets = (max: number) => fc.uint8Array({ minLength: 0, maxLength: max });
const id = randomBytes(baseIdOctets);

describe('bytes without what they have in common', () => {
  it('become what they were, whatever stands between the runs', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(octets(40), octets(40)), { maxLength: 6 }), octets(40), (parts, last) => {
        const runs = parts.map(([, run]) => run).filter(({ length }) => length > 0);
        const whole = Buffer.concat([...parts.flat(), last]);
        const shortened = shorten(whole, id, runs);
        expect(shortened).toBeDefined();
        expect(Buffer.from(lengthen(shortened as Uint8Array, runsOf(baseOf(runs)))).equals(whole)).toBe(true);
        expect(hex(baseIdIn(shortened as Uint8Array) as Uint8Array)).toBe(hex(id));
      }),
    );
  });

  it('are kept whole where a run is missing, or stands elsewhere', () => {
    const [a, b] = [Buffer.from('one'), Buffer.from('two')];
    expect(shorten(Buffer.from('0 two 1'), id, [a])).toBeUndefined();
    expect(shorten(Buffer.from('two one'), id, [a, b])).toBeUndefined();
    expect(shorten(Buffer.from('one two'), id, [a, b])).toBeDefined();
  });

  it('of another shape are refused, and none hangs', () => {
    const runs = [Buffer.from('run')];
    fc.assert(
      fc.property(octets(80), (any) => {
        for (const read of [() => lengthen(any, runs), () => runsOf(any)])
          try {
            read();
          } catch (error) {
            expect(error).toBeInstanceOf(Error);
          }
      }),
    );
  });
});

/** A store of bases, and a sealer that seals nothing. */
function encodings() {
  const bases = new Map<string, Uint8Array>();
  const sealer = {
    seal: async (key: string, context: string, plain: Uint8Array) => ({
      key: `${key} ${context}`,
      octets: plain,
    }),
    open: async (_context: string, { octets: plain }: { octets: Uint8Array }) => plain,
  } as unknown as Sealer;
  let written = 0;
  const store = {
    encodingBase: async (baseId: Uint8Array) => bases.get(hex(baseId)),
    keepEncodingBase: async (baseId: Uint8Array, base: Uint8Array) => {
      written += 1;
      bases.set(hex(baseId), base);
    },
  };
  return { bases, written: () => written, open: () => new Encodings(store, sealer) };
}
const key = { authority: 'signing-1', epoch: 1, position: 7 };
const notAfterMs = Date.UTC(2031, 0, 1);
const runs = [Buffer.from('issuer of all'), Buffer.from('policies of all')];
const toBeSigned = Buffer.concat([
  Buffer.of(0x30, 1),
  runs[0],
  Buffer.from('Hanako'),
  runs[1],
  Buffer.of(9),
] as Buffer[]);

describe('encodings on record', () => {
  it('keep what is common once, and are opened by another process', async () => {
    const record = encodings();
    const one = record.open();
    const sealed = await one.seal(key, { toBeSigned, notAfterMs }, runs);
    await one.seal({ ...key, position: 8 }, { toBeSigned, notAfterMs }, runs);
    expect(record.written()).toBe(1);
    expect(Buffer.from(sealed.octets).includes('issuer of all')).toBe(false);
    expect(Buffer.from(await record.open().open(key, sealed)).equals(toBeSigned)).toBe(true);
  });

  it('are never signed by a base that was altered, or is gone', async () => {
    const record = encodings();
    const sealed = await record.open().seal(key, { toBeSigned, notAfterMs }, runs);
    const [[name, base]] = [...record.bases] as [[string, Uint8Array]];
    const forged = Buffer.from(base);
    forged.write('ISSUER', forged.indexOf('issuer'));
    record.bases.set(name, forged);
    await expect(record.open().open(key, sealed)).rejects.toMatchObject({ code: 'internal' });
    record.bases.clear();
    await expect(record.open().open(key, sealed)).rejects.toMatchObject({ code: 'internal' });
  });

  it('of an earlier version, and of what has nothing in common, are whole', async () => {
    const record = encodings();
    const sealed = await record.open().seal(key, { toBeSigned, notAfterMs });
    expect(createHash('sha256').update(sealed.octets).digest('hex')).toBe(
      createHash('sha256').update(toBeSigned).digest('hex'),
    );
    expect(Buffer.from(await record.open().open(key, sealed)).equals(toBeSigned)).toBe(true);
    expect(record.written()).toBe(0);
  });
});
