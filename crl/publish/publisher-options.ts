import type { Logger } from 'pino';
import type { DigestSigner } from '../../core/crypto/signer.ts';
import type { StatusFeed } from '../../core/feed/feed.ts';
import type { Publications } from '../../core/model/publication.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import type { EntryStore } from '../entries/entry-store.ts';
import type { CrlMetrics } from './metrics.ts';

/** What a publisher is opened with. */
export interface PublisherOptions {
  readonly store: EntryStore;
  /** The file of the store, for workers. */
  readonly entries: string;
  /** The published folder. */
  readonly folder: string;
  /** The AES key of an epoch. */
  readonly epochKey: StatusFeed['epochKey'];
  /** A signer of an authority's CRLs, by its certificate. Throws where this node has no such key. */
  readonly signerOf: (authority: string, certificate: Bytes) => DigestSigner<'crl'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: CrlMetrics;
  readonly workers: number;
  readonly validityMs: number;
  readonly refreshMs: number;
  /** null where there are no delta CRLs. */
  readonly deltas: { readonly validityMs: number; readonly everyMs: number } | null;
  /** What is issued when something changes: a complete CRL and its delta, a delta, or nothing before its time. */
  readonly onEvent: 'complete' | 'delta' | 'nothing';
  /** How long changes are gathered. */
  readonly onEventDelayMs: number;
  /** See `BuildOrder`. */
  readonly deltaIsNamed: boolean;
  readonly backdateMs: number;
  /** Where nodes hand each other what one of them publishes; none where there is one node alone. */
  readonly publications?: Publications | null;
}
