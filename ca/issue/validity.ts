import {
  birthdayAfter,
  type CivilDate,
  compareDates,
  dateInJapan,
  endOfDayInJapan,
  type LeapDayBirthday,
} from '../../core/model/calendar.ts';

/** Certificates live to the fifth birthday after issue; those that renew others to the sixth. */
const birthdays = { first: 5, renewal: 6 } as const;
/** No certificate lasts longer, in years. */
export const longestYears = birthdays.renewal;

/**
 * notAfter of a card's certificates: the end, in Japan, of the holder's fifth birthday after issue, or the
 * sixth of a renewal, or of the card's last day, whichever comes first.
 */
export function cardNotAfter(options: {
  readonly birthDate: CivilDate;
  readonly cardExpiresOn: CivilDate;
  readonly issuedMs: number;
  readonly leapDay: LeapDayBirthday;
  readonly isRenewal: boolean;
}): number {
  const { birthDate, cardExpiresOn, issuedMs, leapDay, isRenewal } = options;
  const count = birthdays[isRenewal ? 'renewal' : 'first'];
  const birthday = birthdayAfter(birthDate, dateInJapan(issuedMs), count, leapDay);
  return endOfDayInJapan(compareDates(birthday, cardExpiresOn) < 0 ? birthday : cardExpiresOn);
}
