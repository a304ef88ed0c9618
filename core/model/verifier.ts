import type { Slot } from './kinds.ts';

// Verifiers: who may ask whether certificates are good, as the law has them notified or certified.

/** What a verifier is, each with what it means. */
export const verifierTypes = {
  'public-body': 'an administrative organ, or a local government',
  court: 'a court',
  intermediary: 'one that the law designates to ask for others',
  'accredited-business': 'an accredited certification business',
  private: 'a private business that the minister has certified',
  platform: 'a certified operator that checks for service providers',
  provider:
    'a service provider that hands all of its checking to a platform, and is deemed certified (みなし)',
  organization: 'a professional body that checks for its members (団体署名検証者)',
} as const;

export type VerifierType = keyof typeof verifierTypes;

/** By what a verifier is known. `client`: the name of its client of the API. */
export const credentialTypes = ['token', 'certificate', 'port', 'client'] as const;
export type CredentialType = (typeof credentialTypes)[number];

/** From when on something is in force, and until when; null: for ever. Wall-clock milliseconds. */
export interface Term {
  readonly fromMs: number;
  readonly toMs: number | null;
}

export const isInForce = ({ fromMs, toMs }: Term, nowMs: number): boolean =>
  fromMs <= nowMs && nowMs < (toMs ?? Number.POSITIVE_INFINITY);

/** How OCSP and CRL nodes know a verifier. */
export interface NodeCredential extends Term {
  readonly type: Exclude<CredentialType, 'client'>;
  /** SHA-256 of a token or of a certificate, hex; a port, decimal. */
  readonly value: string;
}

/** A verifier as OCSP and CRL nodes know it: all of it, not a difference. */
export interface VerifierFacts extends Term {
  readonly verifierId: string;
  /** Grows with each change: the highest is the right one. */
  readonly version: number;
  /** Of which certificates it may ask. */
  readonly kinds: readonly Slot[];
  /** Since when it may ask nothing; null where it may. */
  readonly suspendedMs: number | null;
  /** Requests a second that each node answers; null: as many as come. */
  readonly requestsPerSecond: number | null;
  readonly credentials: readonly NodeCredential[];
}

/** Why a verifier may ask nothing now; undefined where it may. */
export function whyInactive(
  of: Term & { readonly suspendedMs: number | null },
  nowMs: number,
): string | undefined {
  if (of.suspendedMs !== null) return 'it is suspended';
  return isInForce(of, nowMs) ? undefined : 'it is not notified on this day';
}
