import { encodeName } from '../../core/asn1/name.ts';
import { timestampInJapan } from '../../core/model/calendar.ts';
import { type Bytes, digest } from '../../core/runtime/bytes.ts';
import type { RequestNumber } from '../request/request-numbers.ts';
import type { IssuanceRequest } from './issuance.ts';

/** C=JP, CN=14 opaque characters ‖ desk (9). */
export const authenticationSubject = ({ deskCode }: IssuanceRequest, serial: Bytes): Bytes =>
  encodeName([
    ['C', 'JP'],
    ['CN', opaqueName(serial) + deskCode],
  ]);

/** C=JP, L=prefecture, L=municipality, CN=time of request (14) ‖ sequence (5) ‖ desk (9). */
export function signingSubject(
  { town, deskCode }: IssuanceRequest,
  { secondMs, sequence }: RequestNumber,
): Bytes {
  const number = String(sequence).padStart(5, '0');
  return encodeName([
    ['C', 'JP'],
    ['L', town.prefecture],
    ['L', town.municipality],
    ['CN', timestampInJapan(secondMs) + number + deskCode],
  ]);
}

/**
 * 14 characters that say nothing and belong to no other certificate: 72 bits of the hash of a serial number that is unique.
 * Among the certificates of a nation at one desk two alike are not to be expected in its lifetime.
 */
function opaqueName(serial: Bytes): string {
  const value = BigInt(`0x${Buffer.from(digest('sha256', serial)).toString('hex')}`);
  return value.toString(36).toUpperCase().slice(-14);
}
