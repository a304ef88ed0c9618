import type { SigningPurpose } from '../../core/crypto/signer.ts';
import type { PublishedHere } from '../../core/model/publication.ts';
import type { Followers } from './followers.ts';

/** What the API tells of the service around it. */
export interface Observed {
  /** When the service started, wall-clock milliseconds. */
  readonly startedMs: number;
  /** What is published here, also for CRL nodes elsewhere. */
  readonly published: PublishedHere;
  /** Signatures of the CA’s token since the start, for each purpose. */
  signed(): ReadonlyMap<SigningPurpose, number>;
  /** Signatures that wait. */
  waiting(): number;
  /** OCSP requests that were answered in this process since the start. */
  ocspAnswers(): number;
  /** Nodes that follow this one. */
  readonly followers: Followers;
  /** Called with each request that was answered, by the pattern of its route. */
  readonly answered: (route: string, method: string, status: number, seconds: number) => void;
}
