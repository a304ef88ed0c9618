import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Sealed } from './certificate-store.ts';
import type { NoticeOccasion } from './outbox-store.ts';
import type { OperatorCommand } from './outcome.ts';

/** What holders are written to in. */
export const languages = ['ja', 'en'] as const;
export type Language = (typeof languages)[number];

/** Which notices a holder wants, and where. */
export interface NoticePreferences {
  readonly holderId: string;
  readonly occasions: readonly NoticeOccasion[];
  /** A mail address that was confirmed, sealed; null where notices go through the portal. */
  readonly mailAddress: Sealed | null;
  readonly language: Language;
  readonly changedMs: number;
}

/** A mail address that its holder has still to confirm, by the code that a message to it carries. */
export interface AddressToConfirm {
  readonly holderId: string;
  readonly messageId: string;
  readonly expiresMs: number;
}

/** Preferences as they were set. */
export interface PreferencesSet extends Pick<NoticePreferences, 'occasions' | 'language'> {
  /** Whether notices go to a mail address that was confirmed. */
  readonly hasAddress: boolean;
  /** When a new address can no longer be confirmed; null where there is none. */
  readonly confirmByMs: number | null;
}

/** Preferences that a holder sets. */
export interface PreferencesCommand extends OperatorCommand {
  readonly holderId: string;
  readonly occasions: readonly NoticeOccasion[];
  readonly language: Language;
  /** `kept`: the address is the one there is; sealed: one that is still to be confirmed; null: none any more. */
  readonly mailAddress: Sealed | 'kept' | null;
  /** When the preferences that the command was made on were set; null where there were none. */
  readonly changedMs: number | null;
  /** The certificate whose key signed. */
  readonly signedWith: CertificateId;
  readonly challengeHash: Bytes;
  /** When an address can no longer be confirmed. */
  readonly expiresMs: number;
}

/** Notice preferences of holders: which events, and to which address; durability, concurrency and errors as of `CertificateStore`. */
export interface PreferenceStore {
  /** undefined: the holder has set none. */
  of(holderId: string): Promise<NoticePreferences | undefined>;
  /**
   * Applies to later events of present and future certificates. The previous address is notified of
   * the change; a new address gets a message with a code. `challenge-not-usable`; `request-in-progress` where the preferences were
   * changed meanwhile; `quota-exceeded` after five codes a day.
   */
  setPreferences(command: PreferencesCommand): Promise<PreferencesSet>;
  /** The address that a holder has to confirm, if any. */
  addressToConfirm(holderId: string): Promise<AddressToConfirm | undefined>;
  /** Counts a wrong code for the address; after five it can no longer be confirmed. */
  countWrongCode(address: AddressToConfirm): Promise<void>;
  /** The code was right: notices go to the new address, and the one in force before gets a notice of the change. `code-not-usable`. */
  confirmAddress(command: OperatorCommand & AddressToConfirm): Promise<PreferencesSet>;
}
