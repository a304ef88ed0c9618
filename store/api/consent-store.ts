import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { ConsentItem } from '../../core/model/consent.ts';
import type { Mandate } from '../../core/model/desk.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Sealed } from './certificate-store.ts';
import type { OperatorCommand } from './outcome.ts';

/** What a holder has consented to. Times are wall-clock milliseconds. */
export interface Consent {
  readonly consentId: string;
  readonly holderId: string;
  /** Who asks, and for whose service: verifiers of the register. */
  readonly verifierId: string;
  readonly serviceId: string;
  readonly items: readonly ConsentItem[];
  readonly purpose: string;
  readonly signedWith: CertificateId;
  readonly givenMs: number;
  readonly endsMs: number;
  readonly withdrawnMs: number | null;
  /** `holder`, or the desk. */
  readonly withdrawnBy: string | null;
}

/** Who asks for what. */
export interface Question {
  readonly holderId: string;
  readonly verifierId: string;
  readonly serviceId: string;
}

/** What is given: items of a certificate. */
export interface Provision {
  readonly certificate: CertificateId;
  readonly items: readonly ConsentItem[];
}

/** That nothing is given out about a holder; null: no longer. */
export interface Withholding {
  readonly holderId: string;
  readonly sinceMs: number | null;
}

/** Consents of one holder that are in force at a time. */
export const consentsMax = 1000;

/** Consents, and what is given by them; durability, concurrency and errors as of `CertificateStore`. */
export interface ConsentStore {
  /**
   * Records a consent. `challenge-not-usable`; `forbidden` where the verifier, or the service, may not ask now;
   * `card-certificate-not-good` where the certificate that signed it is not good by now; `quota-exceeded` beyond `consentsMax`.
   */
  record(
    command: OperatorCommand & {
      readonly consent: Omit<Consent, 'withdrawnMs' | 'withdrawnBy'>;
      readonly challengeHash: Bytes;
      /** As in `CertificateDraft`. */
      readonly keyHash: Bytes;
      /** The signed message. */
      readonly evidence: Sealed;
    },
  ): Promise<Consent>;
  /**
   * Withdraws a consent, for good: the holder by a signature, or a desk of the holder's municipality. `not-found` where there is none
   * of that holder; nothing changes where it was withdrawn before.
   */
  withdraw(
    command: OperatorCommand & {
      readonly consentId: string;
      readonly by:
        | { readonly type: 'holder'; readonly holderId: string; readonly challengeHash: Bytes }
        | { readonly type: 'desk'; readonly mandate: Mandate };
    },
  ): Promise<Consent>;
  consent(consentId: string): Promise<Consent | undefined>;
  /** In the order in which they were given. */
  ofHolder(holderId: string): Promise<readonly Consent[]>;
  /** Has nothing given out about a holder, or ends that. `not-found` where the mandate does not reach the holder. */
  withhold(
    command: OperatorCommand & {
      readonly holderId: string;
      readonly isWithheld: boolean;
      readonly mandate: Mandate;
    },
  ): Promise<Withholding>;
  /** Whether nothing is given out about a holder. */
  isWithheld(holderId: string): Promise<boolean>;
  /** What is given to who asks, now; undefined: nothing, for whatever reason. */
  provision(question: Question): Promise<Provision | undefined>;
}
