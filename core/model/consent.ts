import { addMonths, dateInJapan, endOfDayInJapan } from './calendar.ts';

// Consents to the latest basic four (最新の利用者情報提供).

/** What can be consented to. */
export const consentItems = ['name', 'address', 'birthDate', 'sex'] as const;
export type ConsentItem = (typeof consentItems)[number];

/** The last second of a consent that was given at a time: so many years, counted from the next day (Civil Code, articles 140 and 143). */
export function endOfConsent(givenMs: number, years: number): number {
  const dayMs = 86_400_000;
  const next = dateInJapan(givenMs + dayMs);
  const same = addMonths(next, years * 12);
  // Where the last month has no such day, its last day counts in full; otherwise the day before.
  return same.day === next.day ? endOfDayInJapan(same) - dayMs : endOfDayInJapan(same);
}
