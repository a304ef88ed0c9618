import type { Slot } from '../../core/model/kinds.ts';
import type { CredentialType, Term, VerifierType } from '../../core/model/verifier.ts';
import type { OperatorCommand } from './outcome.ts';

/** A verifier, as an administrator records it. Times are wall-clock milliseconds. */
export interface Verifier extends Term {
  readonly verifierId: string;
  /** As holders know it. */
  readonly name: string;
  readonly type: VerifierType;
  /** Of which certificates it may ask. */
  readonly kinds: readonly Slot[];
  readonly purposes: readonly string[];
  /** The platform that asks for a service provider; null of all others. */
  readonly platformId: string | null;
  /** Where its notices go; null: it fetches them. */
  readonly url: string | null;
  /** Requests a second that each node answers; null: as many as come. */
  readonly requestsPerSecond: number | null;
  /** Questions about holders in one day in Japan; null: as the configuration says. */
  readonly questionsPerDay: number | null;
  /** Certificates that it may watch at a time; null: as the configuration says. */
  readonly watchesMax: number | null;
}

/** By what a verifier is known: see `NodeCredential`; the folded name of a client of the API, too. */
export interface Credential extends Term {
  readonly credentialId: string;
  readonly type: CredentialType;
  readonly value: string;
  readonly addedMs: number;
}

export interface RecordedVerifier extends Verifier {
  /** Since when it may ask nothing; null where it may. */
  readonly suspendedMs: number | null;
  /** Since when it may ask nothing because its platform may not; null where that may, and where it has none. */
  readonly platformSuspendedMs: number | null;
  readonly version: number;
  readonly changedMs: number;
  /** In order of their ids, those that have ended too. */
  readonly credentials: readonly Credential[];
}

/** Credentials of one verifier that are in force, or will be, at a time. */
export const credentialsMax = 16;

/** The register of verifiers; durability, concurrency and errors as of `CertificateStore`. */
export interface VerifierStore {
  verifier(verifierId: string): Promise<RecordedVerifier | undefined>;
  /** The verifier that a client of the API is, by the client's name; undefined where it is none now. */
  ofClient(name: string, nowMs: number): Promise<RecordedVerifier | undefined>;
  /** Those whose notices are sent to them, and that may be told anything now. */
  notified(nowMs: number): Promise<readonly string[]>;
  /** In order of ids, from behind one on. */
  list(after: string | null, limit: number): Promise<readonly RecordedVerifier[]>;
  /**
   * Records a verifier, or what it is from now on, with credentials that are added to those it has; one that is suspended stays so.
   * `bad-request` where its platform is none; `illegal-transition` where it would become a verifier of another type; else as
   * `addCredential`.
   */
  record(
    command: OperatorCommand & {
      readonly verifier: Verifier;
      readonly credentials: readonly Omit<Credential, 'addedMs'>[];
    },
  ): Promise<RecordedVerifier>;
  /** Suspends a verifier, or lets it go on. `not-found` where there is none. */
  suspend(
    command: OperatorCommand & { readonly verifierId: string; readonly isSuspended: boolean },
  ): Promise<RecordedVerifier>;
  /**
   * One more credential of a verifier. `in-use` where it is, or was, that of another verifier, or has ended; `quota-exceeded` beyond
   * `credentialsMax`.
   */
  addCredential(
    command: OperatorCommand & {
      readonly verifierId: string;
      readonly credential: Omit<Credential, 'addedMs'>;
    },
  ): Promise<RecordedVerifier>;
  /** Ends a credential at a time, at once where that has passed. `not-found`; `illegal-transition` where it has ended. */
  endCredential(
    command: OperatorCommand & {
      readonly verifierId: string;
      readonly credentialId: string;
      readonly toMs: number;
    },
  ): Promise<RecordedVerifier>;
}
