import type { OperatorCommand } from './outcome.ts';

/** A decision of two people that the highest time on record is wrong. */
export interface TimeCorrection {
  readonly correctionId: string;
  readonly note: string;
  readonly state: 'proposed' | 'approved';
  /** The highest time when it was proposed, wall-clock milliseconds; of one approved, what was taken back. */
  readonly fromMs: number;
  /** The machine's time when it was approved. */
  readonly toMs: number | null;
  readonly proposedBy: string;
  readonly approvedBy: string | null;
}

/** The record's time; durability, concurrency and errors as of `CertificateStore`. */
export interface TimeStore {
  /** Proposes to take the time back from `fromMs`. */
  propose(
    command: OperatorCommand & Pick<TimeCorrection, 'correctionId' | 'note' | 'fromMs'>,
  ): Promise<TimeCorrection>;
  /**
   * Takes the time back to `toMs`: what is written next may be dated from there on. `forbidden` to the proposer;
   * `illegal-transition` unless it is proposed.
   */
  approve(
    command: OperatorCommand & Pick<TimeCorrection, 'correctionId' | 'fromMs'> & { readonly toMs: number },
  ): Promise<TimeCorrection>;
  /** All of them, in the order of their proposal. */
  corrections(): Promise<readonly TimeCorrection[]>;
}
