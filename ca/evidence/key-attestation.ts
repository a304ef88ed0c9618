import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import {
  type AuthorizationList,
  id_ce_keyDescription,
  KeyMintKeyDescription,
  SecurityLevel,
  VerifiedBootState,
} from '@peculiar/asn1-android';
import { AsnParser } from '@peculiar/asn1-schema';
import { type Bytes, equal, hex, view } from '../../core/bytes.ts';
import { type ParsedCertificate, parseCertificate } from '../../core/certificate-reader.ts';
import { objectIdentifier } from '../../core/der-writer.ts';
import { PkiError } from '../../core/errors.ts';
import type { Device } from '../enrolment.ts';

// Android Key Attestation (source.android.com, "Key and ID attestation"): a companion key in the phone's Keystore says what
// the phone is. It is bound to the keys that are certified by its challenge, for a key in a GP-SE applet cannot be attested.

/** A chain has a leaf, a root and some between. */
const chainMax = 8;
const keyDescriptionId = hex(objectIdentifier(id_ce_keyDescription).subarray(2));

interface AttestationRules {
  /** SubjectPublicKeyInfo DER of the roots that are believed. */
  readonly roots: readonly Bytes[];
  /** Serial numbers (hex) of attestation certificates that their issuer has withdrawn. */
  readonly revokedSerials: ReadonlySet<string>;
  readonly nowMs: number;
}

function refuse(what: string, cause?: unknown): never {
  throw new PkiError('invalid-device-evidence', `keyAttestation: ${what}`, { cause });
}

/**
 * Checks an attestation: leaf first, each signed by the next, up to a root that is believed; made for this challenge, by
 * hardware, on a phone whose boot was verified; and saying of patch level and OS version what the enrolment says.
 */
export function checkKeyAttestation(
  chain: readonly Bytes[],
  expected: { readonly challenge: Bytes; readonly device: Device },
  rules: AttestationRules,
): void {
  const description = describedBy(checkChain(chain, rules));
  if (!equal(new Uint8Array(description.attestationChallenge.buffer), expected.challenge))
    refuse('its challenge is not the hash of both requests and the challenge that was given');
  if (description.attestationSecurityLevel < SecurityLevel.trustedEnvironment)
    refuse('made by software, not by hardware');
  const { hardwareEnforced } = description;
  const { rootOfTrust } = hardwareEnforced;
  if (!rootOfTrust?.deviceLocked || rootOfTrust.verifiedBootState !== VerifiedBootState.verified)
    refuse('the boot of the phone was not verified');
  checkFacts(hardwareEnforced, expected.device);
}

/** The leaf of a chain that leads to a root. */
function checkChain(chain: readonly Bytes[], rules: AttestationRules): ParsedCertificate {
  if (chain.length < 2 || chain.length > chainMax) refuse(`not a chain of 2 to ${chainMax} certificates`);
  const certificates = chain.map((der) => read(() => new X509Certificate(view(der))));
  const parsed = chain.map((der) => read(() => parseCertificate(der)));
  for (const [i, certificate] of certificates.entries()) {
    const issuer = certificates[i + 1] ?? certificate;
    if (!certificate.checkIssued(issuer) || !certificate.verify(issuer.publicKey))
      refuse(`certificate ${i + 1} is not signed by the next`);
    if (i > 0 && !certificate.ca) refuse(`certificate ${i + 1} is not a CA’s`);
    const { notBeforeMs = 0, notAfterMs = 0, serial = new Uint8Array() } = parsed[i] ?? {};
    if (rules.nowMs < notBeforeMs || rules.nowMs > notAfterMs)
      refuse(`certificate ${i + 1} is not valid now`);
    if (rules.revokedSerials.has(hex(serial))) refuse(`certificate ${i + 1} was withdrawn`);
  }
  const root = parsed.at(-1)?.publicKey ?? new Uint8Array();
  if (!rules.roots.some((known) => equal(known, root))) refuse('its root is not one that is believed');
  // A key that was attested could sign certificates of its own: only the leaf may describe a key.
  if (parsed.slice(1).some(isAttestation)) refuse('a certificate above the leaf describes a key');
  const [leaf] = parsed;
  if (!leaf) refuse('no leaf');
  return leaf;
}

const isAttestation = ({ extensions }: ParsedCertificate): boolean =>
  extensions.some(({ id }) => id === keyDescriptionId);

function describedBy({ extensions }: ParsedCertificate): KeyMintKeyDescription {
  const found = extensions.filter(({ id }) => id === keyDescriptionId);
  const [extension] = found;
  if (!extension || found.length > 1) refuse('the leaf has not exactly one KeyDescription');
  return read(() => AsnParser.parse(Uint8Array.from(extension.value), KeyMintKeyDescription));
}

function checkFacts(facts: AuthorizationList, device: Device): void {
  const { osPatchLevel, osVersion, attestationIdModel } = facts;
  if (attestationIdModel && Buffer.from(attestationIdModel.buffer).toString('utf8') !== device.model)
    refuse('another model than the enrolment says');
  // YYYYMM, against YYYY-MM or YYYY-MM-DD.
  const claimed = device.patchLevel.slice(0, 7).replace('-', '');
  if (String(osPatchLevel ?? '') !== claimed) refuse('another patch level than the enrolment says');
  if (osVersion === undefined || osVersion === 0) return;
  // Three numbers of two digits: 160001 is 16.0.1.
  const attested = [Math.floor(osVersion / 10_000), Math.floor(osVersion / 100) % 100, osVersion % 100];
  const said = (device.osVersion.match(/\d+/g) ?? []).map(Number);
  if (attested.some((part, i) => part !== (said[i] ?? 0)))
    refuse('another OS version than the enrolment says');
}

function read<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    return refuse('cannot be read', error);
  }
}
