import { verifySignature } from '../core/algorithms.ts';
import { type Bytes, equal } from '../core/bytes.ts';
import { invariant, PkiError } from '../core/errors.ts';
import { openSigned, sealSigned } from '../core/signed-data.ts';
import type { Signer } from '../core/signer.ts';
import { type CertificateFields, encodeTbsCertificate, type IssuerContext } from './certificate.ts';
import { lint } from './lint.ts';
import type { ProfileKind } from './profiles.ts';

const make = Symbol('made here only');

/**
 * To-be-signed bytes that have been linted, to be signed once. Nothing else in this project hands bytes to a CA's
 * signer: what is not linted is not signed.
 */
export class PreparedCertificate {
  readonly toBeSigned: Bytes;
  #used = false;

  private constructor(key: typeof make, toBeSigned: Bytes) {
    invariant(key === make, 'prepared certificates are made by prepare or fromRecord');
    this.toBeSigned = toBeSigned;
  }

  /** Encodes and lints; a finding is a fault of ours, not of the request. */
  static prepare(kind: ProfileKind, issuer: IssuerContext, fields: CertificateFields): PreparedCertificate {
    const toBeSigned = encodeTbsCertificate(kind, issuer, fields);
    const findings = lint(toBeSigned, kind, issuer);
    if (findings.length > 0)
      throw new PkiError('internal', `a ${kind} certificate fails lint: ${findings.join('; ')}`);
    return new PreparedCertificate(make, toBeSigned);
  }

  /** From a reservation: its bytes were linted before they were sealed, and the seal was checked. */
  static fromRecord(toBeSigned: Bytes): PreparedCertificate {
    return new PreparedCertificate(make, toBeSigned);
  }

  /** Signs, and returns the certificate only if the signature is that key's over these very bytes. */
  async sign(signer: Signer<'certificate'>): Promise<Bytes> {
    invariant(!this.#used, 'a prepared certificate is signed once');
    this.#used = true;
    const signature = await signer.sign(this.toBeSigned);
    if (!verifySignature(signer.suite, signer.publicKey, this.toBeSigned, signature)) {
      throw new PkiError('token-unavailable', 'the token returned a signature that does not verify');
    }
    const certificate = sealSigned(this.toBeSigned, signer.suite, signature);
    invariant(
      equal(openSigned(certificate).toBeSigned, this.toBeSigned),
      'what is signed is what was prepared',
    );
    return certificate;
  }
}
