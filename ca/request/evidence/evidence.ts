import { createPublicKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Agent } from 'undici';
import { durationMs } from '../../../core/config/duration.ts';
import { partnerTls } from '../../../core/http/partner-tls.ts';
import { type Bytes, digest } from '../../../core/runtime/bytes.ts';
import type { Clock } from '../../../core/runtime/clock.ts';
import { PkiError } from '../../../core/runtime/errors.ts';
import type { Config } from '../../config/config.ts';
import type { Device, PhoneEnrolment } from '../enrolment.ts';
import { checkKeyAttestation } from './key-attestation.ts';
import { AttestationRevocationList, plainSerial } from './revocation-list.ts';
import { checkSecureElementStatement } from './secure-element.ts';
import { answerMax, heed, type VerdictProvider, WebVerdictProvider } from './verdict.ts';

/** What comes with a signed enrolment, and says what kind of phone it is. */
export interface DeviceEvidence {
  /** Certificates of the companion key, base64 of DER, leaf first. */
  readonly keyAttestation?: readonly string[];
  /** CMS SignedData of the SP-TSM over a SecureElementStatement, base64 of DER. */
  readonly secureElementStatement?: string;
  /** What the phone got from providers of verdicts, by their names. */
  readonly verdictTokens?: Readonly<Record<string, string>>;
}

type Use = 'required' | 'optional' | 'off';

/** The challenge of a companion key: SHA-256 of both requests and the server's challenge, one behind the other. */
export function attestationChallenge(
  enrolment: Pick<PhoneEnrolment, 'signingRequest' | 'authenticationRequest' | 'challenge'>,
): Bytes {
  const { signingRequest, authenticationRequest, challenge } = enrolment;
  const none = new Uint8Array();
  return digest('sha256', Buffer.concat([signingRequest ?? none, authenticationRequest ?? none, challenge]));
}

/** Checks what phones bring as evidence of what they are: each kind required, optional, or off. */
export class EvidenceChecker {
  readonly #config: Config;
  readonly #clock: Clock;
  readonly #roots: readonly Bytes[];
  readonly #signers: readonly Bytes[];
  readonly #revokedSerials: ReadonlySet<string>;
  readonly #revocationList: AttestationRevocationList | null;
  readonly #providers: readonly { readonly provider: VerdictProvider; readonly use: Use }[];
  readonly #agent: Agent;

  /** Reads the files that the configuration names; throws `bad-request` where one cannot be used. */
  constructor(options: { readonly config: Config; readonly folder: string; readonly clock: Clock }) {
    const { config, folder, clock } = options;
    const { keyAttestation, secureElementStatement, verdicts } = config.evidence;
    this.#config = config;
    this.#clock = clock;
    const connect = usable('a file of its TLS', () => partnerTls(folder, config.evidence));
    this.#agent = new Agent({ connect, connections: 16, maxResponseSize: answerMax });
    this.#roots = keyAttestation.roots.map((file) =>
      usable(file, () => publicKeyOf(readFileSync(resolve(folder, file)))),
    );
    this.#signers = secureElementStatement.signers.map((file) =>
      usable(file, () => new X509Certificate(readFileSync(resolve(folder, file))).raw),
    );
    this.#revokedSerials = new Set(keyAttestation.revokedSerials.map(plainSerial));
    const { revocationList: list } = keyAttestation;
    this.#revocationList =
      list === undefined ? null : usable(list, () => new AttestationRevocationList(resolve(folder, list)));
    this.#providers = verdicts.map(({ name, url, use, timeout }) => ({
      use,
      provider: new WebVerdictProvider({
        name,
        url,
        timeoutMs: durationMs(timeout),
        dispatcher: this.#agent,
      }),
    }));
  }

  /**
   * Checks all evidence of an enrolment. `publicKeys` are those of its requests, SubjectPublicKeyInfo DER. Rejects with
   * `evidence-missing`, `invalid-device-evidence`, `device-refused` or `verdict-unavailable`.
   */
  async check(
    enrolment: PhoneEnrolment,
    publicKeys: readonly Bytes[],
    evidence: DeviceEvidence = {},
  ): Promise<{ readonly isModelUnknown: boolean; readonly patchLevel: string }> {
    const { device, challenge } = enrolment;
    const nowMs = this.#clock.wallMs();
    const { secureElementStatement } = this.#config.evidence;
    const attestation = this.#useOfAttestation(device);
    const attested = this.#attested({ device, challenge: attestationChallenge(enrolment) }, evidence);
    // Only to the precision of the attestation, which may leave out the day.
    const { patchLevel } = attested ?? device;
    let isVouchedFor = attested?.isModelAttested ?? false;
    if (wanted('secureElementStatement', secureElementStatement.use, evidence.secureElementStatement)) {
      const contentType = this.#config.scheme.secureElementContentType;
      const expected = { contentType, challenge, device, publicKeys };
      const der = Buffer.from(evidence.secureElementStatement, 'base64');
      checkSecureElementStatement(der, expected, { signers: this.#signers, nowMs });
      isVouchedFor = true;
    }
    const couldBe = attestation !== 'off' || secureElementStatement.use !== 'off';
    const isModelUnknown = device.model === '' || (couldBe && !isVouchedFor);
    const keys = publicKeys.map((key) => Buffer.from(digest('sha256', key)).toString('base64'));
    const about = { device, challenge: Buffer.from(challenge).toString('base64'), keys };
    await Promise.all(
      this.#providers.map(({ provider, use }) => {
        const token = evidence.verdictTokens?.[provider.name] ?? null;
        return use === 'off' ? undefined : heed(provider, { ...about, token }, use === 'required');
      }),
    );
    return { isModelUnknown, patchLevel };
  }

  /**
   * Checks the evidence of what a phone reports of itself: a key attested over SHA-256 of the report, wanted as of enrolments. Gives the patch level that is
   * attested, or else the one that is stated. Throws `evidence-missing` or `invalid-device-evidence`.
   */
  checkReport(
    device: Device,
    challenge: Bytes,
    evidence: Pick<DeviceEvidence, 'keyAttestation'> = {},
  ): string {
    return (this.#attested({ device, challenge }, evidence) ?? device).patchLevel;
  }

  /** Only Android attests keys. */
  #useOfAttestation({ platform }: Pick<Device, 'platform'>): 'required' | 'optional' | 'off' {
    return platform === 'android' ? this.#config.evidence.keyAttestation.use : 'off';
  }

  /** What an attestation says; undefined where none is wanted, or given. */
  #attested(
    { device, challenge }: { readonly device: Device; readonly challenge: Bytes },
    { keyAttestation }: Pick<DeviceEvidence, 'keyAttestation'>,
  ): ReturnType<typeof checkKeyAttestation> | undefined {
    if (!wanted('keyAttestation', this.#useOfAttestation(device), keyAttestation)) return undefined;
    return checkKeyAttestation(
      keyAttestation.map((text) => Buffer.from(text, 'base64')),
      { challenge, device },
      {
        roots: this.#roots,
        apps: this.#config.evidence.keyAttestation.apps,
        isWithdrawn: (serial) => this.#isWithdrawn(serial),
        nowMs: this.#clock.wallMs(),
      },
    );
  }

  #isWithdrawn(serial: string): boolean {
    if (this.#revokedSerials.has(plainSerial(serial))) return true;
    return this.#revocationList?.names(serial) ?? false;
  }

  /** Attestation certificates that were withdrawn; null where no file lists them. */
  get revocationList(): AttestationRevocationList | null {
    return this.#revocationList;
  }

  async close(): Promise<void> {
    await this.#agent.close();
  }
}

/** Whether there is something to check; `evidence-missing` where there must be and is not. */
function wanted<T>(what: string, use: Use, given: T | undefined): given is T {
  if (use === 'off') return false;
  if (given !== undefined) return true;
  if (use === 'required') throw new PkiError('evidence-missing', `${what}: is required of this phone`);
  return false;
}

/** A root is believed by its key: PEM of a certificate or of the key itself. */
function publicKeyOf(pem: Buffer): Bytes {
  const text = pem.toString('latin1');
  const key = text.includes('CERTIFICATE') ? new X509Certificate(pem).publicKey : createPublicKey(pem);
  return key.export({ type: 'spki', format: 'der' });
}

function usable<T>(file: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new PkiError('bad-request', `configuration: /evidence: ${file} cannot be used`, { cause: error });
  }
}
