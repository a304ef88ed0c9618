import type { CertificateAuthority } from './certificate-authority.ts';

/** What finishing an issuance needs. */
export type CompletionContext = Pick<
  CertificateAuthority,
  'store' | 'encodings' | 'config' | 'signerOf' | 'clock'
>;
