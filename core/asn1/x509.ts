import { X509Certificate } from 'node:crypto';
import { type Bytes, equal, view } from '../runtime/bytes.ts';
import { DerError } from './der-reader.ts';

/**
 * A certificate as Node reads it, from DER that someone else has sent. Node looks for PEM first, anywhere in the octets: a certificate that
 * has another one in PEM within, in an extension say, would be read as that other one, and be what its own octets never were signed to be.
 * Throws `DerError` where it is not these very octets that were read, or none were.
 */
export function readX509(der: Bytes): X509Certificate {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(view(der));
  } catch (error) {
    throw new DerError(`no X.509 certificate: ${(error as Error).message}`, 0);
  }
  if (!equal(certificate.raw, der)) throw new DerError('another certificate stands within it', 0);
  return certificate;
}
