import 'reflect-metadata';
import { Pkcs10CertificateRequest } from '@peculiar/x509';

/** SubjectPublicKeyInfo DER in a PKCS#10 request, as @peculiar/x509 reads it. */
export const readCertificationRequest = (der: Uint8Array): Uint8Array =>
  new Uint8Array(new Pkcs10CertificateRequest(Uint8Array.from(der)).publicKey.rawData);
