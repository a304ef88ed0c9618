import * as asn1js from 'asn1js';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DerError, DerReader } from '../../core/asn1/der-reader.ts';
import * as der from '../../core/asn1/der-writer.ts';
import { exact } from '../support/actors.ts';

const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex');
const reader = (text: string): DerReader => new DerReader(Buffer.from(text, 'hex'));

/** What asn1js makes of our octets: an independent reading. */
function judged<T extends asn1js.BaseBlock>(octets: Uint8Array): T {
  const { result, offset } = asn1js.fromBER(exact(octets));
  expect(offset).toBe(octets.length);
  return result as T;
}

describe('DER writer (X.690)', () => {
  it('writes unsigned integers that asn1js reads as the same number', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 24 }), (octets) => {
        const value = BigInt(`0x${hex(octets)}`);
        expect(judged<asn1js.Integer>(der.unsignedInteger(octets)).toBigInt()).toBe(value);
      }),
    );
  });

  it('writes small integers minimally (§8.3.2)', () => {
    expect(hex(der.integer(0))).toBe('020100');
    expect(hex(der.integer(127))).toBe('02017f');
    expect(hex(der.integer(128))).toBe('02020080');
    expect(hex(der.integer(65537))).toBe('0203010001');
  });

  it('writes object identifiers that asn1js reads the same', () => {
    for (const dotted of [
      '1.2.392.200149.8.5.5.1',
      '2.5.29.15',
      '1.3.6.1.4.1.32473.8.1',
      '2.999.3',
      '0.9.2342',
    ]) {
      expect(judged<asn1js.ObjectIdentifier>(der.objectIdentifier(dotted)).getValue()).toBe(dotted);
    }
  });

  it('refuses what is no object identifier', () => {
    for (const dotted of ['1', '3.1', '1.40']) expect(() => der.objectIdentifier(dotted)).toThrow(RangeError);
  });

  it('writes lengths of every size (§8.1.3)', () => {
    for (const length of [0, 1, 127, 128, 255, 256, 65535, 65536]) {
      const octets = der.octetString(new Uint8Array(length));
      expect(judged<asn1js.OctetString>(octets).getValue().byteLength).toBe(length);
    }
  });

  it('drops trailing zero bits of named bit lists (§11.2.2)', () => {
    expect(hex(der.namedBits(0, 1))).toBe('030206c0');
    expect(hex(der.namedBits(0))).toBe('03020780');
    expect(hex(der.namedBits(5, 6))).toBe('03020106');
  });

  it('writes UTCTime through 2049 and GeneralizedTime from 2050 (RFC 5280 §4.1.2.5)', () => {
    expect(Buffer.from(der.time(Date.UTC(2049, 11, 31, 23, 59, 59))).toString('latin1')).toContain(
      '491231235959Z',
    );
    expect(Buffer.from(der.time(Date.UTC(2050, 0, 1))).toString('latin1')).toContain('20500101000000Z');
  });
});

describe('DER reader', () => {
  it('reads back whatever the writer writes', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.string(),
        fc.nat(),
        fc.boolean(),
        (octets, text, number, flag) => {
          const body = der.sequence(
            der.octetString(octets),
            der.utf8String(text.toWellFormed()),
            der.integer(number),
            der.bitString(octets),
            ...(flag ? [der.booleanTrue] : []),
          );
          const outer = new DerReader(body);
          const inner = outer.enter(der.tag.sequence);
          outer.end();
          expect(hex(inner.content(der.tag.octetString))).toBe(hex(octets));
          expect(inner.utf8String()).toBe(text.toWellFormed());
          expect(inner.smallInteger()).toBe(number);
          expect(hex(inner.bitString())).toBe(hex(octets));
          if (flag) expect(inner.boolean()).toBe(true);
          inner.end();
        },
      ),
    );
  });

  it('reads times back to the second', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: Date.UTC(1950, 0, 1) / 1000, max: Date.UTC(2149, 0, 1) / 1000 }),
        (seconds) => {
          expect(new DerReader(der.time(seconds * 1000)).time()).toBe(seconds * 1000);
        },
      ),
    );
  });

  it('throws DerError and nothing else on any octets', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (octets) => {
        const walk = (from: DerReader): void => {
          while (!from.atEnd) {
            const whole = from.whole();
            if (((whole[0] ?? 0) & 0x20) !== 0) walk(new DerReader(whole).enter(whole[0] ?? 0));
          }
        };
        try {
          walk(new DerReader(octets));
        } catch (error) {
          expect(error).toBeInstanceOf(DerError);
        }
      }),
    );
  });

  it.each([
    ['an indefinite length (§10.1)', '3080020100 0000'],
    ['a length that is not minimal (§10.1)', '30810302010 1'],
    ['a length with a leading zero', '3082000302010 1'],
    ['a value cut short', '3005020101'],
    ['a length cut short', '3082'],
    ['a high tag number', '1f8101 00'],
  ])('refuses %s', (_what, text) => {
    const from = reader(text.replaceAll(' ', ''));
    expect(() => from.whole()).toThrow(DerError);
  });

  it.each([
    ['an integer with a superfluous zero (§8.3.2)', '02020001', 'integerOctets'],
    ['a negative integer where none belongs', '0201ff', 'unsigned'],
    ['an empty integer', '0200', 'integerOctets'],
    ['an object identifier without an end (§8.19.2)', '06022a81', 'objectIdentifier'],
    ['an object identifier with a padded arc (§8.19.2)', '06032a8001', 'objectIdentifier'],
    ['an empty object identifier', '0600', 'objectIdentifier'],
    ['a boolean that is neither 00 nor ff (§11.1)', '010101', 'boolean'],
    ['a bit string with unused bits', '03020780', 'bitString'],
    ['text that is not UTF-8', '0c01ff', 'utf8String'],
    ['a day that does not exist', '170d3236303233303030303030305a', 'time'],
    ['a time without seconds (RFC 5280 §4.1.2.5)', '170b323630323031303030305a', 'time'],
  ] as const)('refuses %s', (_what, text, method) => {
    expect(() => reader(text)[method]()).toThrow(DerError);
  });

  it('refuses octets behind the value', () => {
    const from = reader('020100ff');
    from.integerOctets();
    expect(() => from.end()).toThrow(DerError);
  });
});
