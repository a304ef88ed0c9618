import { chosenLanguage } from './language.ts';

// Times, numbers and names as people read them.

const localeOf = (): string => (chosenLanguage() === 'ja' ? 'ja-JP' : 'en-GB');

/** In Japan’s time, whatever the browser’s. */
export const time = (instant: string | null | undefined): string =>
  instant == null
    ? '–'
    : new Intl.DateTimeFormat(localeOf(), {
        dateStyle: 'medium',
        timeStyle: 'medium',
        timeZone: 'Asia/Tokyo',
      }).format(new Date(instant));

export const day = (instant: string | null | undefined): string =>
  instant == null
    ? '–'
    : new Intl.DateTimeFormat(localeOf(), { dateStyle: 'medium', timeZone: 'Asia/Tokyo' }).format(
        new Date(instant),
      );

export const number = (value: number, digits = 0): string =>
  new Intl.NumberFormat(localeOf(), { maximumFractionDigits: digits }).format(value);

/** The first octets of what is long, for people who compare. */
export const short = (name: string, length = 12): string =>
  name.length <= length ? name : `${name.slice(0, length)}…`;

/** How far it is from one time to another, 0 to 1. */
export const share = (from: string, to: string, now: number): number => {
  const [start, end] = [Date.parse(from), Date.parse(to)];
  return end <= start ? 1 : Math.min(1, Math.max(0, (now - start) / (end - start)));
};
