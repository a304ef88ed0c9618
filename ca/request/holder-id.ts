import { PkiError } from '../../core/runtime/errors.ts';

/** The check digit of a My Number, of its first eleven digits (ordinance no. 85 of 2014 of the ministry, article 5). */
export function myNumberCheckDigit(digits: string): number {
  const weights = [6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2];
  const rest = weights.reduce((sum, weight, i) => sum + weight * Number(digits[i]), 0) % 11;
  return rest <= 1 ? 0 : 11 - rest;
}

/**
 * Refuses an id that reads as a My Number or as a resident code (住民票コード): neither may stand for a holder here. Of the
 * eleven digits of a resident code no public source gives the check digit, so that any eleven digits are refused.
 */
export function checkHolderId(holderId: string): void {
  const isMyNumber = /^\d{12}$/.test(holderId) && Number(holderId[11]) === myNumberCheckDigit(holderId);
  if (isMyNumber || /^\d{11}$/.test(holderId))
    throw new PkiError(
      'bad-request',
      `holderId: reads as a ${isMyNumber ? 'My Number' : 'resident code'}: a pseudonym of the register is wanted`,
    );
}
