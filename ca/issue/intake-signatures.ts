import { oid } from '../../core/asn1/oids.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import { type Bytes, digest, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { readSignedMessage } from '../request/signed-message.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { findSigner, openCertificate } from './enrolling-card.ts';

/**
 * Verifies what a customer of before has signed: a CMS of content of the type id-data (RFC 5652 §4) in which the verifier's statement
 * stands, octet for octet in UTF-8, so that no signature under a public document, or for another verifier, is one. Throws
 * `invalid-signed-request`.
 */
export async function verifyCustomerSignature(
  ca: CertificateAuthority,
  { statement, der }: { readonly statement: string; readonly der: Bytes },
): Promise<{ readonly key: CertificateId; readonly sha256: string }> {
  const message = readSignedMessage(der, oid.data);
  if (!Buffer.from(message.content).includes(statement))
    throw new PkiError('invalid-signed-request', 'the content does not contain the statement of the intake');
  const [signer] = message.signers;
  const key = findSigner(ca, signer);
  const view = key && (await ca.store.certificate(key));
  const certificate = view && (await openCertificate(ca, key));
  if (!certificate)
    throw new PkiError('invalid-signed-request', 'the signer’s certificate is none of this CA');
  if (view.state === 'revoked' && view.reason === 'keyCompromise')
    throw new PkiError('invalid-signed-request', 'the key that has signed it is known to have leaked');
  signer.verify(certificate);
  return { key, sha256: hex(digest('sha256', der)) };
}
