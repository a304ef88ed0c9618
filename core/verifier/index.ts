import { type KeyObject, verify } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { systemClock } from '../runtime/clock.ts';
import {
  type Authority,
  type IssuedCertificate,
  octetsOf,
  readAuthority,
  readIssued,
} from './certificate.ts';
import type { Outcome, SourceOutcome } from './outcome.ts';
import { undetermined } from './outcome.ts';
import type { Source } from './source.ts';

export { type CrlOptions, CrlSource } from './crl.ts';
export { FilterRefused, FilterSource } from './filter.ts';
export { type OcspOptions, OcspSource } from './ocsp.ts';
export type { Outcome, SourceName, SourceOutcome, Uncertainty } from './outcome.ts';
export type { Reach, Source } from './source.ts';

/** What a certificate is for: signing declares something, authentication says who it is. */
export type Purpose = 'signing' | 'authentication';

export interface VerifierOptions {
  /** Certificates of the CA, all generations, PEM or DER: what is trusted. */
  readonly authorities: readonly (string | Uint8Array)[];
  /** Asked in turn, until one knows. */
  readonly sources: readonly Source[];
  /** How far clocks may differ, milliseconds; default 60,000. */
  readonly skewMs?: number;
  /** Wall-clock milliseconds; default: the machine's. */
  readonly now?: () => number;
}

/** Checks certificates, and what was signed with them. What goes wrong is an outcome, and none but *good* lets one rely on it. */
export class Verifier {
  readonly #authorities: readonly Authority[];
  readonly #sources: readonly Source[];
  readonly #skewMs: number;
  readonly #now: () => number;

  /** Throws `TypeError` for an authority that is none. */
  constructor({ authorities, sources, skewMs = 60_000, now = () => systemClock.wallMs() }: VerifierOptions) {
    this.#authorities = authorities.map(readAuthority);
    this.#sources = sources;
    this.#skewMs = skewMs;
    this.#now = now;
  }

  /** Whether a certificate, PEM or DER, is one of the CA, for that purpose, in its time, and not revoked. */
  async verifyCertificate(certificate: string | Uint8Array, purpose: Purpose): Promise<Outcome> {
    const issued = readIssued(certificate, this.#authorities);
    if (typeof issued === 'string') return { status: 'invalid', why: 'untrusted', detail: issued };
    return this.#verifyIssued(issued, purpose);
  }

  /**
   * The same, and whether its key has signed the octets: RSASSA-PKCS1-v1_5, or ECDSA as a DER ECDSA-Sig-Value; `hash` is SHA-256 unless
   * stated.
   */
  async verifySignature(signed: {
    readonly certificate: string | Uint8Array;
    readonly data: Uint8Array;
    readonly signature: Uint8Array;
    readonly hash?: 'sha256' | 'sha384' | 'sha512';
    /** Default: signing. */
    readonly purpose?: Purpose;
  }): Promise<Outcome> {
    const { certificate, data, signature, hash = 'sha256', purpose = 'signing' } = signed;
    const issued = readIssued(certificate, this.#authorities);
    if (typeof issued === 'string') return { status: 'invalid', why: 'untrusted', detail: issued };
    if (!isVerified(hash, data, issued.x509.publicKey, signature))
      return {
        status: 'invalid',
        why: 'bad-signature',
        detail: 'the signature is not that of the certificate’s key',
      };
    return this.#verifyIssued(issued, purpose);
  }

  /** The same of the certificate that a TLS client has shown, whose key the handshake has verified: ask for one with `requestCert`. */
  async verifyTlsClient(socket: Pick<TLSSocket, 'getPeerX509Certificate'>): Promise<Outcome> {
    const shown = socket.getPeerX509Certificate();
    if (!shown) return { status: 'invalid', why: 'untrusted', detail: 'the client has shown no certificate' };
    return this.verifyCertificate(octetsOf(shown.raw), 'authentication');
  }

  async #verifyIssued(issued: IssuedCertificate, purpose: Purpose): Promise<Outcome> {
    const nowMs = this.#now();
    const isOfPurpose = purpose === 'signing' ? issued.isSigning : issued.isAuthentication;
    if (!isOfPurpose)
      return { status: 'invalid', why: 'wrong-purpose', detail: `the certificate is not one for ${purpose}` };
    const { notBeforeMs, notAfterMs } = issued.parsed;
    if (notBeforeMs > nowMs + this.#skewMs)
      return { status: 'invalid', why: 'not-yet-valid', detail: 'the certificate’s time has not begun' };
    if (notAfterMs < nowMs) return { status: 'expired', expiredAt: new Date(notAfterMs) };
    let last: SourceOutcome = undetermined('not-covered', 'there is no source to ask');
    for (const source of this.#sources) {
      const outcome = await checkBy(source, issued, nowMs);
      // What the CA itself does not know is good by no list.
      if (outcome.status !== 'undetermined' || outcome.why === 'unknown') return outcome;
      last = outcome;
    }
    return last;
  }
}

/** What a source says; one that fails says nothing, and the next is asked. */
async function checkBy(source: Source, issued: IssuedCertificate, nowMs: number): Promise<SourceOutcome> {
  try {
    return await source.check(issued, nowMs);
  } catch (error) {
    return undetermined('unreachable', `${source.name} failed: ${(error as Error).message}`);
  }
}

function isVerified(hash: string, data: Uint8Array, key: KeyObject, signature: Uint8Array): boolean {
  try {
    // RSA without a word on padding is RSASSA-PKCS1-v1_5.
    return verify(hash, data, key, signature);
  } catch {
    return false;
  }
}
