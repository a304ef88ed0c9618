import { PkiError } from '../runtime/errors.ts';

/** Acts that a second person approves, each with what it is. */
export const approvalActs = {
  'client-rights': 'enrolling a client, certifying one again, and changing what one is bound to',
  'desk-rights': 'recording a desk, and ending a suspension',
  'end-withholding': 'ending that nothing is given out about a holder',
  'verifier-rights': 'recording a verifier, one more credential of it, and ending a suspension',
  configuration: 'an edited configuration that changes what the service does',
  'good-card':
    'replacing certificates of a card that are good, held, or were ended by the client that issues, and a first signing certificate on a card in use, without the card’s signature',
  'card-order': 'an order of cards that take the place of good ones',
  'same-person': 'issuing for basic four that another holder has, or had',
  release: 'releasing certificates that are held',
  'bulk-export': 'listing holders, and who looked one up without that one’s signature',
  'mass-revocation': 'revoking more in a day, one by one, than one client may alone; until then it is held',
  'unknown-key': 'blocking a key that certifies nothing here',
} as const;

export type ApprovalAct = keyof typeof approvalActs;

/** Acts at the console that two persons sign for, each with what it is. */
export const consoleActs = {
  'new-generation': 'new keys of both CAs (warifu generation)',
  migrate: 'moving the record into another database (warifu migrate)',
  'erase-year': 'erasing the personal data of a year (warifu erase-year)',
  restore: 'restoring a backup (warifu restore)',
  backup: 'copying record and secrets to a folder (warifu backup); one approval lasts 90 days',
  'console-binding': 'binding an administrator at the console (warifu bind)',
} as const;

export type ConsoleActName = keyof typeof consoleActs;

/** An act that is not carried out before a second person has approved it. Nothing was written. */
export class ApprovalNeeded extends PkiError {
  readonly act: ApprovalAct;
  /** What would happen, where that was worked out; carried out only if it is still the same. */
  readonly consequence: { readonly planHash: string } | null;

  constructor(act: ApprovalAct, consequence: { readonly planHash: string } | null = null) {
    super('approval-needed', `a second person approves it first: ${approvalActs[act]}`);
    this.name = 'ApprovalNeeded';
    this.act = act;
    this.consequence = consequence;
  }
}
