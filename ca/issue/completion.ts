import type { SuccessionPlanner } from '../../store/api/certificate-store.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { successionPlanner } from './succession.ts';

/** What finishing an issuance needs. */
export type CompletionContext = Pick<
  CertificateAuthority,
  'store' | 'sealer' | 'config' | 'signerOf' | 'clock'
>;

/** Plans what a completed issuance does to its predecessors, at this moment. */
export const plannerOf = ({ config, clock }: CompletionContext): SuccessionPlanner =>
  successionPlanner(config, clock.wallMs());
