import { PkiError } from '../../core/runtime/errors.ts';
import type { Medium } from '../api/certificate-store.ts';
import type { Transaction } from '../engine/record.ts';

/**
 * Uses up the code by which a desk allows a phone to a holder whose card has no signing certificate; `code-not-usable`
 * unless it was given for that holder and card, not long ago, and not used before.
 */
export function useEnrolmentCode(
  tx: Transaction,
  codeHash: Uint8Array,
  by: { readonly medium: Medium; readonly usedBy: string; readonly nowMs: number },
): void {
  const code = tx.get('enrolmentCode', { codeHash });
  const isFor = code?.holderId === by.medium.holderId && code.mediumId === by.medium.restsOn;
  // One answer, whatever is wrong: who guesses learns nothing.
  if (!code || !isFor || code.usedBy !== null || code.expiresMs <= by.nowMs)
    throw new PkiError('code-not-usable', 'enrolmentCode: not a code that can be used for this holder now');
  tx.update('enrolmentCode', { ...code, usedBy: by.usedBy }, code);
}
