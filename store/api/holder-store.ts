import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { Mandate } from '../../core/model/desk.ts';
import type { CertificateState } from '../../core/model/revocation.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { CertificateView, Sealed } from './certificate-store.ts';
import type { OperatorCommand } from './outcome.ts';

/** That a holder was closed in error, as one client proposes and another approves. */
export interface Correction {
  readonly correctionId: string;
  readonly holderId: string;
  /** The reason, for the client that approves. */
  readonly note: string;
  /** What it undoes: the event that closed the holder, and when that occurred. */
  readonly closedBy: string;
  readonly closedMs: number;
  readonly state: 'proposed' | 'approved' | 'withdrawn';
  /** Fingerprints of clients. */
  readonly proposedBy: string;
  readonly proposedMs: number;
  readonly approvedBy: string | null;
  readonly approvedMs: number | null;
}

/** A desk's permission to enrol one phone without a signing certificate on the card. */
export interface EnrolmentCode {
  readonly holderId: string;
  readonly mediumId: string;
  readonly expiresMs: number;
}

/** A certificate that a restored record knows from its followers alone. */
export interface AdoptedView {
  readonly certificate: CertificateView;
  readonly adoptedMs: number;
}

/** Whose an adopted certificate is, with its octets, which prove its key. */
export interface AdoptedBinding {
  readonly key: CertificateId;
  readonly holderId: string;
  /** As in `Medium`. Its last day is the certificate's where none is known. */
  readonly mediumId: string;
  readonly restsOn: CertificateId | null;
  /** As in `CertificateDraft`. */
  readonly keyHash: Bytes;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly toBeSigned: Sealed;
  readonly signature: Bytes;
}

/** In whose name a caller acts on a holder; null where the CA itself does. */
interface InNameOf {
  readonly mandate?: Mandate | null;
}

/** What a phone reports of itself; what it leaves out stays as it was. */
export interface DeviceFactsReported {
  readonly osVersion: string;
  /** `YYYY-MM`, `YYYY-MM-DD`, or empty where the platform has none. */
  readonly patchLevel: string;
  readonly appletVersion: string | null;
  readonly appVersion: string | null;
}

/** What is known of a phone, and what its certificates are by that. */
export interface DeviceReported extends DeviceFactsReported {
  readonly mediumId: string;
  /** Of the certificate that signed. */
  readonly state: CertificateState;
}

/** What desks decide of holders, and what phones report; durability, concurrency and errors as of `CertificateStore`. */
export interface HolderStore {
  /**
   * Puts on record what a phone is now: restrictions are about what is known last. `invalid-signed-request` where the certificate that signed
   * has ceased meanwhile.
   */
  reportDevice(
    command: OperatorCommand & {
      readonly holderId: string;
      readonly mediumId: string;
      readonly signedWith: CertificateId;
      readonly facts: DeviceFactsReported;
      readonly challengeHash: Bytes;
    },
  ): Promise<DeviceReported>;
  /** Proposes to open a closed holder. `illegal-transition` where the holder is not closed, `not-found` where there is none. */
  proposeCorrection(
    command: OperatorCommand & InNameOf & Pick<Correction, 'correctionId' | 'holderId' | 'note'>,
  ): Promise<Correction>;
  /** Opens the holder. `forbidden` to the client that proposed it; `illegal-transition` unless it is proposed. */
  approveCorrection(
    command: OperatorCommand & InNameOf & Pick<Correction, 'correctionId'>,
  ): Promise<Correction>;
  withdrawCorrection(
    command: OperatorCommand & InNameOf & Pick<Correction, 'correctionId'>,
  ): Promise<Correction>;
  /** All of a holder, oldest first. */
  corrections(holderId: string): Promise<readonly Correction[]>;
  /**
   * Gives a code for a holder whose card has no signing certificate, and writes the holder's notice, which no preference
   * declines. `not-found`, `holder-closed`, `card-certificate-not-good`, `illegal-transition`.
   */
  giveCode(
    command: OperatorCommand & InNameOf & EnrolmentCode & { readonly codeHash: Bytes },
  ): Promise<EnrolmentCode>;
  /** Uses a challenge up for what writes nothing else. `challenge-not-usable`. */
  useChallenge(command: OperatorCommand & { readonly challengeHash: Bytes }): Promise<void>;
  /** Adopted certificates that are not bound, in order of their keys, from behind one on. */
  adopted(after: CertificateId | null, limit: number): Promise<readonly AdoptedView[]>;
  /**
   * Binds an adopted certificate to its holder, and puts its octets on record. `not-found` where it is not adopted, or bound;
   * `illegal-transition` where the record knows it to be another's, `medium-belongs-to-another-holder`, `already-certified`;
   * unless it is revoked `holder-closed` and, where its key is blocked, `invalid-key`.
   */
  bindAdopted(command: OperatorCommand & AdoptedBinding): Promise<CertificateView>;
}
