import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../ca/config/config.ts';
import { cardNotAfter } from '../../ca/issue/validity.ts';
import { type BasicFour, encodeIdentity, parseBasicFour } from '../../ca/request/identity.ts';
import { parseDate } from '../../core/model/calendar.ts';

const { scheme } = parseConfig({});
const now = Date.UTC(2026, 10, 20, 3);
const four: BasicFour = {
  name: '番号　花子',
  address: '東京都渋谷区例町１',
  birthDate: '1980-02-17',
  sex: 'female',
};
const parse = (overrides: object) => parseBasicFour({ ...four, ...overrides }, scheme, now);

describe('the basic four', () => {
  it.each([
    ['1867-12-31', undefined],
    ['1912-07-29', '1'],
    ['1912-07-30', '2'],
    ['1926-12-24', '2'],
    ['1926-12-25', '3'],
    ['1989-01-07', '3'],
    ['1989-01-08', '4'],
    ['2019-04-30', '4'],
    ['2019-05-01', '5'],
  ])('put %s into era %s', (birthDate, era) => {
    if (era) expect(parse({ birthDate }).era).toBe(era);
    else expect(() => parse({ birthDate })).toThrow('birthDate');
  });

  it('carry era 0 where the register does not know it', () => {
    expect(parse({ birthEraUnknown: true }).era).toBe('0');
  });

  it('flag no character where none was substituted', () => {
    expect(parse({})).toMatchObject({ nameSubstitution: '00000', addressSubstitution: '000000000' });
  });

  it.each([
    ['a name with a space behind it', { name: '番号　花子　' }, 'name'],
    ['a name of spaces only', { name: '　　' }, 'name'],
    ['an empty address', { address: '' }, 'address'],
    ['an address of more than 200 characters', { address: '一'.repeat(201) }, 'address'],
    ['a character outside JIS X 0208 and 0212', { name: '𠮷野　花子' }, 'U+20BB7'],
    ['an ASCII letter, which the repertoire has in full width', { address: 'Tokyo' }, 'U+0054'],
    ['a vendor’s circled digit', { address: '東京①' }, 'U+2460'],
    ['a birth date to come', { birthDate: '2026-11-21' }, 'birthDate'],
    ['a day that does not exist', { birthDate: '1981-02-29' }, 'birthDate'],
    ['flags of another length', { nameSubstitution: '0000' }, 'nameSubstitution'],
    ['flags that are no flags', { nameSubstitution: '00002' }, 'nameSubstitution'],
  ])('refuse %s', (_what, overrides, message) => {
    expect(() => parse(overrides)).toThrow(message);
  });

  it('take kanji of level 1, level 2 and the supplementary set', () => {
    expect(parse({ name: '亜弌　丂' }).name).toBe('亜弌　丂');
  });

  it('take the signs that JIS and Microsoft read differently, either way', () => {
    expect(parse({ address: '例町１−２〜３—４－５～６―７' }).address).toHaveLength(15);
  });

  it('are never repeated by an error', () => {
    try {
      parse({ name: '秘密太郎' });
      expect.unreachable();
    } catch (error) {
      expect(String(error)).not.toContain('秘密');
    }
  });

  it('stand in subjectAltName in the order .1 .4 .3 .5 .2 .6', () => {
    const octets = Buffer.from(encodeIdentity(parse({})));
    const order = [1, 4, 3, 5, 2, 6].map((field) =>
      octets.indexOf(Buffer.from([0x8c, 0x9b, 0x55, 0x08, 0x05, 0x05, field])),
    );
    expect(order.every((at) => at > 0)).toBe(true);
    expect([...order].sort((a, b) => a - b)).toEqual(order);
    expect(octets.includes('319800217')).toBe(true);
  });
});

describe('validity', () => {
  const notAfter = (
    birthDate: string,
    cardExpiresOn: string,
    leapDay: '02-28' | '03-01' = '02-28',
    isRenewal = false,
  ) => {
    const [birth, expires] = [parseDate(birthDate), parseDate(cardExpiresOn)];
    if (!birth || !expires) throw new Error('no day');
    return new Date(
      cardNotAfter({ birthDate: birth, cardExpiresOn: expires, issuedMs: now, leapDay, isRenewal }),
    ).toISOString();
  };

  it('ends with the fifth birthday after issue, at the end of the day in Japan', () => {
    expect(notAfter('1980-02-17', '2036-02-17')).toBe('2031-02-17T14:59:59.000Z');
    expect(notAfter('1980-11-20', '2036-11-20')).toBe('2031-11-20T14:59:59.000Z');
    expect(notAfter('1980-11-21', '2036-11-20')).toBe('2030-11-21T14:59:59.000Z');
  });

  it('ends with the sixth where it renews another', () => {
    expect(notAfter('1980-02-17', '2036-02-17', '02-28', true)).toBe('2032-02-17T14:59:59.000Z');
  });

  it('ends with the card where that comes first', () => {
    expect(notAfter('1980-02-17', '2029-01-01')).toBe('2029-01-01T14:59:59.000Z');
  });

  it('knows where a leap-day birthday is configured to fall', () => {
    expect(notAfter('1980-02-29', '2036-01-01')).toBe('2031-02-28T14:59:59.000Z');
    expect(notAfter('1980-02-29', '2036-01-01', '03-01')).toBe('2031-03-01T14:59:59.000Z');
  });
});
