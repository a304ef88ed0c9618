import type { X509Certificate } from 'node:crypto';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { DerError } from '../../core/asn1/der-reader.ts';
import { readX509 } from '../../core/asn1/x509.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import { type Bytes, equal } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { AdoptedBinding } from '../../store/api/holder-store.ts';
import { publicKeyHash } from '../request/key.ts';
import type { CertificateAuthority } from './certificate-authority.ts';

/** What is put on record of a certificate that is shown again: ours, by its serial number and its signature. */
export async function shownAgain(
  ca: CertificateAuthority,
  key: CertificateId,
  certificate: Bytes,
): Promise<Pick<AdoptedBinding, 'keyHash' | 'notBeforeMs' | 'notAfterMs' | 'toBeSigned' | 'signature'>> {
  const parsed = parse(certificate);
  const authority = ca.authorities.byName(key.authority);
  const issuer = readX509(authority.certificate);
  if (!equal(parsed.serial, authority.serialOf(key)) || !readShown(certificate).verify(issuer.publicKey))
    throw new PkiError('bad-request', 'certificate: not the one of that authority and serial number');
  const { toBeSigned, signature, publicKey, notBeforeMs, notAfterMs } = parsed;
  return {
    keyHash: publicKeyHash(publicKey),
    notBeforeMs,
    notAfterMs,
    toBeSigned: await ca.encodings.seal(key, { toBeSigned, notAfterMs }),
    signature,
  };
}

const parse = (certificate: Bytes) => readAs(certificate, parseCertificate);
const readShown = (certificate: Bytes): X509Certificate => readAs(certificate, readX509);

function readAs<T>(certificate: Bytes, read: (der: Bytes) => T): T {
  try {
    return read(certificate);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    throw new PkiError('bad-request', `certificate: ${error.message}`, { cause: error });
  }
}
