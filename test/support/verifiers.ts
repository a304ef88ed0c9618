import { type KeyObject, randomBytes } from 'node:crypto';
import type { CaClient } from '../../ca/client/client.ts';
import { encodeReceipt } from '../../ca/request/receipt.ts';
import type { VerifierFacts } from '../../core/model/verifier.ts';
import { digest } from '../../core/runtime/bytes.ts';
import { base64, derOf, type EnrolmentParts, pemOf, signEnrolment } from './actors.ts';
import type { Holder } from './harness.ts';

/** A verifier as nodes know it, in force for ever, of both kinds. */
export const verifierFacts = (facts: Partial<VerifierFacts> = {}): VerifierFacts => ({
  verifierId: 'bank',
  version: 1,
  kinds: ['signing', 'authentication'],
  fromMs: 0,
  toMs: null,
  suspendedMs: null,
  requestsPerSecond: null,
  credentials: [],
  ...facts,
});

/** A verifier as the API shows it. */
export interface ShownVerifier {
  readonly verifierId: string;
  readonly suspendedAt: string | null;
  readonly credentials: readonly {
    readonly credentialId: string;
    readonly type: string;
    readonly value: string;
    readonly validTo: string | null;
  }[];
}

/** Records a private verifier of both kinds. */
export async function recordVerifier(api: CaClient, facts: object = {}): Promise<ShownVerifier> {
  const body = {
    name: 'A Bank',
    type: 'private',
    kinds: ['signing', 'authentication'],
    purposes: ['accounts'],
  };
  const answer = await api.post<ShownVerifier>('/verifiers', { ...body, ...facts });
  if (answer.status !== 201) throw new Error(`recording a verifier: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** One of a holder's keys, with its certificate, DER. */
export interface HolderKey {
  readonly privateKey: KeyObject;
  readonly certificate: Uint8Array;
}

/** The keys of a holder’s card. */
export const signingOf = (holder: Pick<Holder, 'card' | 'cardSigning'>): HolderKey => ({
  privateKey: holder.cardSigning.privateKey,
  certificate: derOf(pemOf(holder.card, 'card-signing')),
});

export const authenticationOf = (holder: Holder): HolderKey => ({
  privateKey: holder.cardAuthentication.privateKey,
  certificate: derOf(pemOf(holder.card, 'card-authentication')),
});

/** A CMS of a content that one of a holder's keys signs, base64. */
export function signedBy({ privateKey, certificate }: HolderKey, content: Uint8Array, contentType: string) {
  const parts = { cardSigningKey: privateKey, cardSigningCertificate: certificate } as EnrolmentParts;
  return base64(signEnrolment(content, parts, { contentType }));
}

/** What shows that a verifier has received a certificate, base64. */
export function signReceipt(by: HolderKey, verifier: string): string {
  const challenge = randomBytes(16);
  const content = encodeReceipt({ certificate: digest('sha256', by.certificate), challenge, verifier });
  return signedBy(by, content, '1.3.6.1.4.1.32473.8.10');
}
