import type { Bytes } from '../runtime/bytes.ts';
import type { CertificateId } from './certificate-id.ts';

// What every write of the record says of itself, and what it leaves.

/** Who writes. */
export interface Actor {
  /** SHA-256 of the client certificate, hex; or `node:<id>` where the service itself acts. */
  readonly client: string;
  readonly role: string;
  readonly requestId: string;
  /** The desk that the client acts for, where it acts for one. */
  readonly desk?: string;
  /** The client of the second person, where one has approved it. */
  readonly approvedBy?: string;
}

/** A node that acts by itself, on its own account or for a request. */
export const actorOfNode = (node: string, requestId = ''): Actor => ({
  client: `node:${node}`,
  role: 'node',
  requestId,
});

/** Why a certificate's status changes. */
export interface Cause {
  /** The event of the policy table, or `certificate` where one certificate was named. */
  readonly event: string;
  /** The certificate whose change brought this one about. */
  readonly cascadedFrom: CertificateId | null;
  /** What it was part of: `issuance:ID` of the successor, `restriction:ID`; null where it was an act by itself. */
  readonly partOf: string | null;
  /** When the event occurred, where that was stated. */
  readonly occurredMs?: number;
}

/** What makes a write happen once however often it is sent. Keys of different clients and routes are unrelated. */
export interface RequestScope {
  readonly client: string;
  readonly route: string;
  readonly idempotencyKey: string;
  /** Keyed hash of the request, which itself is not stored. */
  readonly bodyHash: Bytes;
  /** How long the answer can be replayed, wall-clock milliseconds. */
  readonly expiresMs: number;
}

/** Octets that only the holder of a data key can read; `key` names it (`year:2031`). */
export interface Sealed {
  readonly key: string;
  readonly octets: Bytes;
}

/** What is stored as the answer to a request, sealed for it: the outcome, or, by earlier versions, the answer itself. */
export type StoredAnswer =
  | { readonly type: 'outcome'; readonly sealed: Sealed }
  | { readonly type: 'answer'; readonly status: number; readonly sealed: Sealed };
