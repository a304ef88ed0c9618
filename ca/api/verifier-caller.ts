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
