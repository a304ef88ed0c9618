import type { FastifyRequest } from 'fastify';
import { PkiError } from '../../core/runtime/errors.ts';
import type { RecordedVerifier } from '../../store/api/verifier-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { callerOf } from './caller.ts';

/**
 * The verifier that a caller is, looked up each time, so that a suspension counts from the next request on. Throws `forbidden` where it is
 * none now.
 */
export async function verifierOf(
  ca: Pick<CertificateAuthority, 'clients' | 'verifiers' | 'clock'>,
  request: FastifyRequest,
): Promise<RecordedVerifier> {
  const client = await ca.clients.client(callerOf(request).fingerprint);
  const verifier = client && (await ca.verifiers.ofClient(client.name, ca.clock.wallMs()));
  if (!verifier)
    throw new PkiError(
      'forbidden',
      'this client is no verifier of the register, or one that may not ask now',
    );
  return verifier;
}

/** Counts a question about holders; `rate-exceeded` beyond what the verifier may ask in a day. */
export function admitQuestion(
  { accesses, config, clock }: CertificateAuthority,
  { verifierId, questionsPerDay }: Pick<RecordedVerifier, 'verifierId' | 'questionsPerDay'>,
): Promise<void> {
  return accesses.admit(verifierId, questionsPerDay ?? config.verifiers.questionsPerDay, clock.wallMs());
}

/** Puts on record what a verifier asked about a holder, before it is answered: the holder sees what was given. */
export async function noteQuestion(
  { accesses, clock }: CertificateAuthority,
  { method, routeOptions }: FastifyRequest,
  asked: { readonly verifierId: string; readonly holderId: string | null; readonly found: boolean },
): Promise<void> {
  const { verifierId: client, holderId, found } = asked;
  const by = { client, kind: 'verifier', role: 'verifier', actsFor: [], purpose: null };
  const route = `${method} ${routeOptions.url}`;
  await accesses.note([{ atMs: clock.wallMs(), holderId, ...by, route, found, isFirst: true }]);
}
