import { randomBytes, randomUUID } from 'node:crypto';
import { type SuiteName, suiteOfKey } from '../../core/asn1/algorithms.ts';
import { isDue, parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { certificationRequest } from '../../core/asn1/signed-data.ts';
import type { Signer } from '../../core/crypto/signer.ts';
import { readResponders, writeResponder } from '../../core/node/responder-file.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { OcspOptions } from '../config/options.ts';

/** Has a PKCS#10 request certified by the CA; returns the certificate, DER. */
export type Certify = (authority: string, request: Bytes, idempotencyKey: string) => Promise<Bytes>;

/** What a renewal needs of a token. */
export interface ResponderToken {
  generateKeyPair(keyLabel: string, suite: SuiteName): void;
  signer(purpose: 'ocsp', keyLabel: string, suite: SuiteName): Signer<'ocsp'>;
}

/** A key that waits for its certificate. */
interface Pending {
  readonly keyLabel: string;
  /** PKCS#10, DER. */
  readonly request: Bytes;
  readonly idempotencyKey: string;
}

/**
 * Gets a responder's delegations, and new ones before they end: a new key in its own token, a request signed with it, a
 * certificate from the CA. What cannot be renewed now is left as it is, and tried again, with the same key, by the next
 * call.
 */
export class Renewal {
  readonly #options: RenewalOptions;
  readonly #pending = new Map<string, Pending>();

  constructor(options: RenewalOptions) {
    this.#options = options;
  }

  /** Whether anything was renewed. Rejects, where nothing was, with what keeps the CA or the token from it. */
  async run(): Promise<boolean> {
    const { file, config, authorities, clock } = this.#options;
    let renewed = false;
    const failures: unknown[] = [];
    for (const [authority, certificate] of authorities) {
      const issuerSuite = suiteOfCertificate(certificate);
      const wanted = config.responderSuites.map((suite) => (suite === 'issuer' ? issuerSuite : suite));
      for (const suite of new Set(wanted)) {
        const current = readResponders(file).find(
          (row) => row.authority === authority && row.suite === suite,
        );
        if (current && !isDue(Buffer.from(current.certificate, 'base64'), clock.wallMs())) continue;
        try {
          await this.#renew(authority, suite, issuerSuite);
          renewed = true;
        } catch (error) {
          // One that cannot be renewed does not keep the others from it.
          failures.push(error);
        }
      }
    }
    if (failures.length > 0 && !renewed) throw failures[0];
    return renewed;
  }

  async #renew(authority: string, suite: SuiteName, issuerSuite: SuiteName): Promise<void> {
    const { file, certify } = this.#options;
    const name = `${authority}/${suite}`;
    const pending = this.#pending.get(name) ?? (await this.#begin(authority, suite));
    this.#pending.set(name, pending);
    const { keyLabel, request, idempotencyKey } = pending;
    const certificate = Buffer.from(await certify(authority, request, idempotencyKey)).toString('base64');
    writeResponder(file, { authority, keyLabel, suite, issuerSuite, certificate });
    this.#pending.delete(name);
  }

  async #begin(authority: string, suite: SuiteName): Promise<Pending> {
    const { token } = this.#options;
    const keyLabel = `ocsp-${authority}-${randomBytes(4).toString('hex')}`;
    token.generateKeyPair(keyLabel, suite);
    const signer = token.signer('ocsp', keyLabel, suite);
    const request = await certificationRequest(signer, (info) => signer.sign(info));
    return { keyLabel, request, idempotencyKey: randomUUID() };
  }
}

export interface RenewalOptions {
  /** Where delegations are kept. */
  readonly file: string;
  readonly config: OcspOptions;
  /** Certificates of the authorities there are, DER by name. */
  readonly authorities: ReadonlyMap<string, Bytes>;
  readonly token: ResponderToken;
  readonly certify: Certify;
  readonly clock: Clock;
}

/** The suite an authority's key signs with. */
function suiteOfCertificate(certificate: Bytes): SuiteName {
  const suite = suiteOfKey(parseCertificate(certificate).publicKey);
  if (!suite) throw new PkiError('invalid-key', 'an authority’s key is of a type that is not known here');
  return suite.name;
}
