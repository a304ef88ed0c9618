import type { Bytes } from '../../core/runtime/bytes.ts';
import type { CrlFields } from '../encode/encode.ts';
import type { EpochKey } from '../entries/restricted-entries.ts';

/** Why a shard's CRLs are reissued. */
export type Trigger =
  /** It is time for a complete CRL, which becomes the base of deltas. */
  | 'schedule'
  /** Something has changed: a complete CRL with its delta, or a delta alone. */
  | 'event'
  | 'event-delta'
  /** It is time for a delta. */
  | 'delta';

export interface ShardToBuild {
  /** In the publisher's record. */
  readonly id: number;
  readonly path: string;
  /** DistributionPointName DER. */
  readonly distributionPointName: Bytes;
  readonly scope: CrlFields['scope'];
  /** Certificate of the authority, DER. */
  readonly certificate: Bytes;
}

export interface BuildOrder {
  readonly shard: ShardToBuild;
  /** Of the authority's epochs with certificates for phones, as far as they could be had. */
  readonly keys: readonly EpochKey[];
  readonly trigger: Trigger;
  /** Number of what is published, as the caller knows it; zero for none. */
  readonly seenNumber: number;
  readonly nowMs: number;
  /** The feed's time: what the list is known to be right for. */
  readonly watermarkMs: number;
  readonly validityMs: number;
  /** null where there are no deltas. */
  readonly deltaValidityMs: number | null;
  /** Whether a complete CRL names the address of its deltas (RFC 5280 §5.2.6). */
  readonly deltaIsNamed: boolean;
  /** How far thisUpdate lies back. */
  readonly backdateMs: number;
}
