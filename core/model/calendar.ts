/** A day of the Gregorian calendar that exists. */
export interface CivilDate {
  readonly year: number;
  readonly month: number;
  readonly day: number;
}

const dayMs = 86_400_000;
/** Japan Standard Time is UTC+9 all year. */
const japanOffsetMs = 9 * 3_600_000;

/** Parses `YYYY-MM-DD`; undefined where that is no day. */
export function parseDate(text: string): CivilDate | undefined {
  const match = /^(\d{4})-(\d{2})-(\d{2})$/.exec(text);
  if (!match) return undefined;
  const [year = 0, month = 0, day = 0] = match.slice(1).map(Number);
  return isDate(year, month, day) ? { year, month, day } : undefined;
}

function isDate(year: number, month: number, day: number): boolean {
  const date = new Date(Date.UTC(year, month - 1, day));
  return year >= 1868 && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
}

/** 23:59:59 of that day in Japan, as milliseconds since 1970: 14:59:59Z. */
export function endOfDayInJapan(date: CivilDate): number {
  return Date.UTC(date.year, date.month - 1, date.day) + dayMs - 1000 - japanOffsetMs;
}

export function dateInJapan(ms: number): CivilDate {
  const date = new Date(ms + japanOffsetMs);
  return { year: date.getUTCFullYear(), month: date.getUTCMonth() + 1, day: date.getUTCDate() };
}

/** `YYYYMMDDhhmmss` in Japan. */
export function timestampInJapan(ms: number): string {
  return new Date(ms + japanOffsetMs).toISOString().replace(/[-:T]/g, '').slice(0, 14);
}

export function compareDates(a: CivilDate, b: CivilDate): number {
  return a.year - b.year || a.month - b.month || a.day - b.day;
}

/** The day so many months later, or earlier; the month's last where it has no such day. */
export function addMonths({ year, month, day }: CivilDate, months: number): CivilDate {
  const first = new Date(Date.UTC(year, month - 1 + months, 1));
  const last = new Date(Date.UTC(first.getUTCFullYear(), first.getUTCMonth() + 1, 0)).getUTCDate();
  return { year: first.getUTCFullYear(), month: first.getUTCMonth() + 1, day: Math.min(day, last) };
}

/** Where someone born on 29 February has the birthday of a common year: no public source says. */
export type LeapDayBirthday = '02-28' | '03-01';

/** The n-th birthday after a day; a birthday on that very day does not count. */
export function birthdayAfter(
  birth: CivilDate,
  day: CivilDate,
  n: number,
  leapDay: LeapDayBirthday,
): CivilDate {
  const firstYear = compareDates(birthdayIn(day.year, birth, leapDay), day) > 0 ? day.year : day.year + 1;
  return birthdayIn(firstYear + n - 1, birth, leapDay);
}

/** Completed years of age on a day. */
export function ageOn(birth: CivilDate, day: CivilDate, leapDay: LeapDayBirthday): number {
  const hadBirthday = compareDates(birthdayIn(day.year, birth, leapDay), day) <= 0;
  return day.year - birth.year - (hadBirthday ? 0 : 1);
}

function birthdayIn(year: number, birth: CivilDate, leapDay: LeapDayBirthday): CivilDate {
  if (isDate(year, birth.month, birth.day)) return { year, month: birth.month, day: birth.day };
  return leapDay === '02-28' ? { year, month: 2, day: 28 } : { year, month: 3, day: 1 };
}
