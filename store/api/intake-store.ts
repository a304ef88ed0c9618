import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { OperatorCommand } from './outcome.ts';

/**
 * What has become of an intake: its verifier adds certificates (`open`), a sample of them was drawn (`sampled`), a signature of each of
 * the sample was verified (`shown`), two administrators accepted it, all of it is done, or it has ended without.
 */
export type IntakeState = 'open' | 'sampled' | 'shown' | 'accepted' | 'done' | 'ended';

export interface Intake {
  readonly intakeId: string;
  readonly verifierId: string;
  /** What all of these customers have signed contains. */
  readonly statement: string;
  readonly state: IntakeState;
  readonly entries: number;
  readonly sampled: number;
  readonly shown: number;
  readonly watched: number;
  readonly leftOut: number;
  readonly begunMs: number;
  readonly changedMs: number;
}

export interface IntakeEntry {
  readonly key: CertificateId;
  readonly reference: string | null;
}

type OfIntake = OperatorCommand & { readonly intakeId: string };
type OfVerifier = OfIntake & { readonly verifierId: string };

/**
 * Intakes of customers of before; durability, concurrency and errors as of `CertificateStore`. `not-found` where there is no such intake
 * of that verifier, `illegal-transition` where it is in another state.
 */
export interface IntakeStore {
  intake(intakeId: string): Promise<Intake | undefined>;
  /** Of one verifier, or of all, in order of ids, from behind one on. */
  list(verifierId: string | null, after: string | null, limit: number): Promise<readonly Intake[]>;
  /** Those of the sample whose signature has not been shown. */
  toShow(intakeId: string): Promise<readonly CertificateId[]>;
  /** `in-use` where the verifier has another one under way. */
  begin(command: OfVerifier & { readonly statement: string }): Promise<Intake>;
  /** A certificate that is in it already counts once, under its first reference. `quota-exceeded` beyond `max`. */
  add(
    command: OfVerifier & { readonly entries: readonly IntakeEntry[]; readonly max: number },
  ): Promise<Intake>;
  /** Closes the list, and draws `size` of it at random: all of a shorter one. `bad-request` where there is none. */
  draw(command: OfVerifier & { readonly size: number }): Promise<Intake>;
  /** Signatures of the sample that were verified, with the SHA-256 of each, hex. `bad-request` for one that was not drawn. */
  show(
    command: OfVerifier & {
      readonly signatures: readonly { readonly key: CertificateId; readonly sha256: string }[];
    },
  ): Promise<Intake>;
  /** Has its certificates watched from now on, one after the other: see `proceed`. */
  accept(command: OfIntake): Promise<Intake>;
  /** Ends it without. A verifier ends its own while it is open; `verifierId` null: at any time before it is accepted. */
  end(command: OfIntake & { readonly verifierId: string | null }): Promise<Intake>;
  /** Carries on what was accepted or ended; called now and then. `max`: certificates that a verifier may watch at a time. */
  proceed(max: number): Promise<void>;
}
