import { PkiError } from '../../core/runtime/errors.ts';
import { parseInstant } from '../../core/runtime/instant.ts';

/** An instant of RFC 3339; `bad-request` names the member otherwise. */
export function instantOf(value: string, member: string): number {
  const ms = parseInstant(value);
  if (ms === undefined) throw new PkiError('bad-request', `${member}: not an instant of RFC 3339`);
  return ms;
}

/** The same of one that has been. */
export function pastInstant(value: string, member: string, nowMs: number): number {
  const ms = instantOf(value, member);
  if (ms > nowMs)
    throw new PkiError(
      'bad-request',
      `${member}: lies in the future: it is ${new Date(nowMs).toISOString()} here`,
    );
  // Before there were such keys; and what is signed must be read back as it was meant.
  if (ms < 0) throw new PkiError('bad-request', `${member}: lies before 1970`);
  return ms;
}

/** When an event occurred, where the caller states it. */
export const occurredMs = (value: string | undefined, nowMs: number): number | null =>
  value === undefined ? null : pastInstant(value, 'occurredAt', nowMs);
