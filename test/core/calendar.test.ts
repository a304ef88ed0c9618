import { describe, expect, it } from 'vitest';
import {
  birthdayAfter,
  dateInJapan,
  endOfDayInJapan,
  parseDate,
  timestampInJapan,
} from '../../core/model/calendar.ts';

const day = (text: string) => {
  const date = parseDate(text);
  if (!date) throw new Error(`${text} is no day`);
  return date;
};

describe('calendar', () => {
  it('ends days at 14:59:59Z, 23:59:59 in Japan', () => {
    expect(new Date(endOfDayInJapan(day('2031-02-17'))).toISOString()).toBe('2031-02-17T14:59:59.000Z');
  });

  it('gives the day in Japan, nine hours ahead', () => {
    expect(dateInJapan(Date.UTC(2026, 10, 20, 15, 0, 0))).toEqual(day('2026-11-21'));
    expect(timestampInJapan(Date.UTC(2026, 10, 20, 15, 0, 7))).toBe('20261121000007');
  });

  it.each(['2026-02-29', '2026-13-01', '2026-00-10', '2026-1-1', '1867-12-31', '26-01-01', ''])(
    'refuses %s',
    (text) => {
      expect(parseDate(text)).toBeUndefined();
    },
  );

  it('counts birthdays from the day after', () => {
    expect(birthdayAfter(day('1980-02-17'), day('2026-02-16'), 1, '02-28')).toEqual(day('2026-02-17'));
    expect(birthdayAfter(day('1980-02-17'), day('2026-02-17'), 1, '02-28')).toEqual(day('2027-02-17'));
    expect(birthdayAfter(day('1980-02-17'), day('2026-11-20'), 5, '02-28')).toEqual(day('2031-02-17'));
  });

  it('keeps 29 February in leap years and moves it as configured in others', () => {
    expect(birthdayAfter(day('1980-02-29'), day('2027-03-02'), 1, '02-28')).toEqual(day('2028-02-29'));
    expect(birthdayAfter(day('1980-02-29'), day('2026-02-01'), 1, '02-28')).toEqual(day('2026-02-28'));
    expect(birthdayAfter(day('1980-02-29'), day('2026-02-01'), 1, '03-01')).toEqual(day('2026-03-01'));
  });
});
