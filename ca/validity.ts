import {
  birthdayAfter,
  type CivilDate,
  compareDates,
  dateInJapan,
  endOfDayInJapan,
  type LeapDayBirthday,
} from '../core/calendar.ts';

/** Certificates live to the fifth birthday after issue. */
const birthdays = 5;

/**
 * notAfter of a card's certificates: the end, in Japan, of the holder's fifth birthday after issue or of the
 * card's last day, whichever comes first.
 */
export function cardNotAfter(options: {
  readonly birthDate: CivilDate;
  readonly cardExpiresOn: CivilDate;
  readonly issuedMs: number;
  readonly leapDay: LeapDayBirthday;
}): number {
  const { birthDate, cardExpiresOn, issuedMs, leapDay } = options;
  const birthday = birthdayAfter(birthDate, dateInJapan(issuedMs), birthdays, leapDay);
  return endOfDayInJapan(compareDates(birthday, cardExpiresOn) < 0 ? birthday : cardExpiresOn);
}
