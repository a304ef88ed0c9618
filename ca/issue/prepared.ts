import { sealSigned } from '../../core/asn1/signed-data.ts';
import type { Signer } from '../../core/crypto/signer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { invariant, PkiError } from '../../core/runtime/errors.ts';
import type { CertificateFields, CertificateTemplate } from '../profile/certificate.ts';
import { lint } from '../profile/lints/all.ts';

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
  static prepare(template: CertificateTemplate, fields: CertificateFields): PreparedCertificate {
    const toBeSigned = template.encode(fields);
    const findings = lint(toBeSigned, template.kind, template.issuer);
    if (findings.length > 0)
      throw new PkiError('internal', `a ${template.kind} certificate fails lint: ${findings.join('; ')}`);
    return new PreparedCertificate(make, toBeSigned);
  }

  /** From a reservation: its bytes were linted before they were sealed, and the seal was checked. */
  static fromRecord(toBeSigned: Bytes): PreparedCertificate {
    return new PreparedCertificate(make, toBeSigned);
  }

  /** The signature over these very bytes, which the signer has verified. */
  async sign(signer: Signer<'certificate'>): Promise<Bytes> {
    invariant(!this.#used, 'a prepared certificate is signed once');
    this.#used = true;
    return signer.sign(this.toBeSigned);
  }

  /** The same, and the certificate that it makes, DER. */
  async certify(signer: Signer<'certificate'>): Promise<Bytes> {
    return this.with(signer, await this.sign(signer));
  }

  /** The certificate, DER. */
  with(signer: Signer<'certificate'>, signature: Bytes): Bytes {
    return sealSigned(this.toBeSigned, signer.suite, signature);
  }
}
