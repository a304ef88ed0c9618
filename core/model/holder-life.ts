import type { Bytes } from '../runtime/bytes.ts';
import { PkiError } from '../runtime/errors.ts';
import type { Actor, StoredAnswer } from './act.ts';
import type { CertificateId } from './certificate-id.ts';

// What is on record of a holder besides media and certificates: what was reported, what awaits its delivery, who may be
// issued to.

/** What was reported of a holder. */
export interface LifeEvent {
  readonly event: string;
  /** The card or phone that it happened to; null where it happened to the holder. */
  readonly mediumId: string | null;
  readonly occurredMs: number;
  /** Whether its caller said when it occurred; else it is the time of recording. */
  readonly isStated: boolean;
  readonly recordedMs: number;
  /** The caller's name for it; null where it gave none. */
  readonly eventId: string | null;
  /** The issuance that it was part of. */
  readonly issuanceId: string | null;
  readonly actor: Actor;
}

/** A new card or phone that takes the place of another once its delivery or storage is confirmed. */
export interface AwaitedDelivery {
  readonly issuanceId: string;
  /** The new card or phone. */
  readonly mediumId: string;
  /** By what its predecessors end, and on what: a medium, or null for the holder. null where it takes the place of none. */
  readonly event: string | null;
  readonly replacedMediumId: string | null;
  /** How long they stay valid after it, milliseconds. */
  readonly overlapMs: number;
}

/** A last day of a card that was moved after issue. */
export interface MovedLastDay {
  readonly mediumId: string;
  readonly changedMs: number;
  readonly fromMs: number;
  readonly toMs: number;
}

/** What plans depend on besides the certificates themselves. */
export interface HolderFacts {
  readonly events: readonly LifeEvent[];
  readonly awaited: readonly AwaitedDelivery[];
  /** Certificates that were renewed and live on for their overlap. */
  readonly ending: readonly CertificateId[];
  /** By the issuance of a phone's certificates: the card certificate whose key signed for it. */
  readonly enrolledWith: ReadonlyMap<string, CertificateId>;
  readonly movedDays: readonly MovedLastDay[];
}

export const noFacts: HolderFacts = {
  events: [],
  awaited: [],
  ending: [],
  enrolledWith: new Map(),
  movedDays: [],
};

/** Whether a holder may be issued to. */
export interface Standing {
  /** The event that closed the holder; null where nothing did. */
  readonly closedBy: string | null;
  /** What may open the holder again. */
  readonly reopens: 'return' | 'correction' | null;
  /** The event for which there is no signing certificate. */
  readonly signingBarredBy: string | null;
  /** When what closed the holder occurred; 0 where nothing did. */
  readonly closedMs: number;
  /** When what was last said of signing certificates occurred; 0 before that. */
  readonly signingMs: number;
}

/** What keeps a holder from being issued to, and what may change that. */
export function closedError({ closedBy, reopens }: Standing): PkiError {
  const remedy =
    reopens === 'return'
      ? 'until a return to the register is reported'
      : 'until a correction is proposed, and approved by another client';
  return new PkiError('holder-closed', `nothing is issued to this holder since ${closedBy}, ${remedy}`);
}

/** What an event does to the standing of its holder. */
export type StandingChange = 'closes' | 'leaves' | 'returns' | 'bars-signing' | 'allows-signing';

/** An event as a caller reports it. */
export interface ReportedEvent {
  readonly event: string;
  readonly mediumId: string | null;
  /** null where the caller named none: then its Idempotency-Key makes it happen once. */
  readonly eventId: string | null;
  /** Keyed hash of all that the report says: one id stands for one content. */
  readonly contentHash: Bytes;
  /** null where the caller stated none: it occurred as it is recorded. */
  readonly occurredMs: number | null;
  /** It may be about a holder who is not on record yet. */
  readonly opensHolder?: boolean;
}

/** What became of an event that a caller reported under an id. */
export interface RecordedReport {
  readonly contentHash: Bytes;
  /** Of the first request; the reply is sealed for it. */
  readonly route: string;
  readonly idempotencyKey: string;
  readonly issuanceId: string | null;
  readonly answer: StoredAnswer | null;
}

/** An instance of the applet on a phone, with the keys of one issuance. */
export interface Applet {
  readonly issuanceId: string;
  readonly mediumId: string;
  /** Its AID, hex. */
  readonly instanceId: string;
  readonly version: string;
}

/** How what is issued comes to its holder. */
export interface Arrival {
  /** What waits for its confirmation, held until then: a card or phone that takes the place of another, or whatever is issued. */
  readonly waits: 'nothing' | 'successors' | 'all';
  /** How long, milliseconds. */
  readonly waitMs: number;
  /** The event of its delivery, where it is handed over as it is issued; then nothing waits. */
  readonly handedOver: string | null;
}
