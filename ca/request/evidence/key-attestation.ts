import { createPublicKey, X509Certificate } from 'node:crypto';
import * as asn1js from 'asn1js';
import { type ParsedCertificate, parseCertificate } from '../../../core/asn1/certificate-reader.ts';
import { objectIdentifier } from '../../../core/asn1/der-writer.ts';
import { type Bytes, equal, hex, view } from '../../../core/runtime/bytes.ts';
import { PkiError } from '../../../core/runtime/errors.ts';
import type { Device } from '../enrolment.ts';

// Android Key Attestation (source.android.com, "Key and ID attestation"): a companion key in the phone's Keystore says what
// the phone is. It is bound to the keys that are certified by its challenge, for a key in a GP-SE applet cannot be attested.

/** A chain has a leaf, a root and some between. */
const chainMax = 8;
const keyDescriptionId = hex(objectIdentifier('1.3.6.1.4.1.11129.2.1.17').subarray(2));

interface AttestationRules {
  /** SubjectPublicKeyInfo DER of the roots that are believed. */
  readonly roots: readonly Bytes[];
  /** Apps whose keys are believed; empty: all. */
  readonly apps: readonly App[];
  /** Whether the issuer of an attestation certificate has withdrawn it, by its serial number, hex. */
  readonly isWithdrawn: (serial: string) => boolean;
  readonly nowMs: number;
}

/** An app by the name of its package and the certificates it may be signed with, SHA-256 in hex. */
interface App {
  readonly package: string;
  readonly signatureDigests: readonly string[];
}

function refuse(what: string, cause?: unknown): never {
  throw new PkiError('invalid-device-evidence', `keyAttestation: ${what}`, { cause });
}

/**
 * Checks an attestation: leaf first, each signed by the next, up to a root that is believed; made for this challenge, in
 * hardware and by hardware, for signing, by an app that is believed, on a phone whose boot was verified; and saying of model,
 * patch level and OS version what the enrolment says. A model that it does not say is unknown.
 */
export function checkKeyAttestation(
  chain: readonly Bytes[],
  expected: { readonly challenge: Bytes; readonly device: Device },
  rules: AttestationRules,
): AttestedFacts {
  const description = describedBy(checkChain(chain, rules));
  if (!equal(description.challenge, expected.challenge))
    refuse('its challenge is not the hash of what was asked, with the challenge that was given');
  if (description.securityLevel < trustedEnvironment) refuse('made by software, not by hardware');
  if (description.keySecurityLevel < trustedEnvironment) refuse('of a key that software keeps, not hardware');
  const { hardwareEnforced } = description;
  checkKeyUse(hardwareEnforced);
  checkApp(description.softwareEnforced.get(field.attestationApplicationId), rules.apps);
  if (!isVerifiedBoot(hardwareEnforced.get(field.rootOfTrust)))
    refuse('the boot of the phone was not verified');
  checkFacts(hardwareEnforced, expected.device);
  const month = String(numberIn(hardwareEnforced.get(field.osPatchLevel)));
  return {
    isModelAttested: hardwareEnforced.has(field.attestationIdModel),
    patchLevel: `${month.slice(0, 4)}-${month.slice(4)}`,
  };
}

/** What hardware says of a phone. */
interface AttestedFacts {
  readonly isModelAttested: boolean;
  /** `YYYY-MM`: of the day it says nothing. */
  readonly patchLevel: string;
}

/**
 * The leaf of a chain that leads to a root. A root is a key: its certificate may be missing, and its dates say nothing. Nor
 * do the leaf's, which the app chooses or the factory leaves at 1970; those between must be valid now.
 */
function checkChain(chain: readonly Bytes[], rules: AttestationRules): ParsedCertificate {
  if (chain.length < 2 || chain.length > chainMax) refuse(`not a chain of 2 to ${chainMax} certificates`);
  const certificates = chain.map((der) => read(() => new X509Certificate(view(der))));
  const parsed = chain.map((der) => read(() => parseCertificate(der)));
  const isRoot = (certificate: ParsedCertificate): boolean =>
    rules.roots.some((known) => equal(known, certificate.publicKey));
  for (const [i, certificate] of certificates.entries()) {
    const { notBeforeMs = 0, notAfterMs = 0, serial = new Uint8Array() } = parsed[i] ?? {};
    const next = certificates[i + 1];
    if (i > 0 && !certificate.ca) refuse(`certificate ${i + 1} is not a CA’s`);
    if (rules.isWithdrawn(hex(serial))) refuse(`certificate ${i + 1} was withdrawn`);
    const isLast = next === undefined;
    if (isLast && parsed[i] && isRoot(parsed[i])) break;
    if (next && (!certificate.checkIssued(next) || !certificate.verify(next.publicKey)))
      refuse(`certificate ${i + 1} is not signed by the next`);
    if (isLast && !isSignedByRoot(certificate, rules.roots)) refuse('its root is not one that is believed');
    if (i > 0 && (rules.nowMs < notBeforeMs || rules.nowMs > notAfterMs))
      refuse(`certificate ${i + 1} is not valid now`);
  }
  // A key that was attested could sign certificates of its own: only the leaf may describe a key.
  if (parsed.slice(1).some(isAttestation)) refuse('a certificate above the leaf describes a key');
  const [leaf] = parsed;
  if (!leaf) refuse('no leaf');
  return leaf;
}

function isSignedByRoot(certificate: X509Certificate, roots: readonly Bytes[]): boolean {
  return roots.some((root) => {
    const key = createPublicKey({ key: view(root), format: 'der', type: 'spki' });
    return certificate.verify(key);
  });
}

const isAttestation = ({ extensions }: ParsedCertificate): boolean =>
  extensions.some(({ id }) => id === keyDescriptionId);

/** What is read of a KeyDescription. */
interface KeyDescription {
  /** Of what attests, and of what keeps the key. */
  readonly securityLevel: number;
  readonly keySecurityLevel: number;
  readonly challenge: Bytes;
  /** Fields that the operating system vouches for, by their tag numbers. */
  readonly softwareEnforced: ReadonlyMap<number, asn1js.BaseBlock>;
  /** Fields that hardware vouches for, by their tag numbers. */
  readonly hardwareEnforced: ReadonlyMap<number, asn1js.BaseBlock>;
}

function describedBy({ extensions }: ParsedCertificate): KeyDescription {
  const found = extensions.filter(({ id }) => id === keyDescriptionId);
  const [extension] = found;
  if (!extension || found.length > 1) refuse('the leaf has not exactly one KeyDescription');
  return parseKeyDescription(extension.value);
}

/**
 *     KeyDescription ::= SEQUENCE { attestationVersion INTEGER, attestationSecurityLevel ENUMERATED,
 *         keyMintVersion INTEGER, keyMintSecurityLevel ENUMERATED, attestationChallenge OCTET STRING,
 *         uniqueId OCTET STRING, softwareEnforced AuthorizationList, hardwareEnforced AuthorizationList }
 *
 * Versions of Android add fields to an AuthorizationList, and vendors order them as they like: each is found by its tag.
 */
function parseKeyDescription(der: Bytes): KeyDescription {
  const { result, offset } = asn1js.fromBER(Uint8Array.from(der).buffer);
  const fields = result instanceof asn1js.Sequence && offset === der.length ? result.valueBlock.value : [];
  const [, securityLevel, , keySecurityLevel, challenge, , softwareEnforced, hardwareEnforced] = fields;
  if (
    !(securityLevel instanceof asn1js.Enumerated) ||
    !(keySecurityLevel instanceof asn1js.Enumerated) ||
    !(challenge instanceof asn1js.OctetString)
  )
    return refuse('its KeyDescription cannot be read');
  return {
    securityLevel: securityLevel.valueBlock.valueDec,
    keySecurityLevel: keySecurityLevel.valueBlock.valueDec,
    challenge: new Uint8Array(challenge.getValue()),
    softwareEnforced: authorizations(softwareEnforced),
    hardwareEnforced: authorizations(hardwareEnforced),
  };
}

function authorizations(sent: asn1js.BaseBlock | undefined): ReadonlyMap<number, asn1js.BaseBlock> {
  if (!(sent instanceof asn1js.Sequence)) return refuse('its KeyDescription cannot be read');
  const list = new Map<number, asn1js.BaseBlock>();
  for (const field of sent.valueBlock.value) {
    const value = field instanceof asn1js.Constructed ? field.valueBlock.value[0] : undefined;
    if (field.idBlock.tagClass !== 3 || !value || list.has(field.idBlock.tagNumber))
      return refuse('its AuthorizationList cannot be read');
    list.set(field.idBlock.tagNumber, value);
  }
  return list;
}

/** Tag numbers of an AuthorizationList. */
const field = {
  purpose: 1,
  origin: 702,
  rootOfTrust: 704,
  osVersion: 705,
  osPatchLevel: 706,
  attestationApplicationId: 709,
  attestationIdModel: 717,
} as const;
const [trustedEnvironment, verifiedBoot, generated] = [1, 0, 0];
const purposes = { sign: 2, verify: 3 } as const;

/** A key that was made in the phone, to sign and for nothing else: one that certifies keys could attest what it likes. */
function checkKeyUse(facts: KeyDescription['hardwareEnforced']): void {
  if (numberIn(facts.get(field.origin)) !== generated) refuse('of a key that was not made in its hardware');
  const set = facts.get(field.purpose);
  const stated = set instanceof asn1js.Set ? set.valueBlock.value.map(numberIn) : [];
  const isAllowed = (purpose: number | undefined) => purpose === purposes.sign || purpose === purposes.verify;
  if (!stated.includes(purposes.sign) || !stated.every(isAllowed))
    refuse('of a key that is not for signing alone');
}

/**
 *     AttestationApplicationId ::= SEQUENCE { packageInfos SET OF SEQUENCE { packageName OCTET STRING, version INTEGER },
 *         signatureDigests SET OF OCTET STRING }
 *
 * Several packages stand there where they share one user of the system: each must be known, for any of them could have asked.
 */
function checkApp(stated: asn1js.BaseBlock | undefined, apps: readonly App[]): void {
  if (apps.length === 0) return;
  const { packages, signers } = appIn(stated);
  for (const name of packages) {
    const app = apps.find((known) => known.package === name);
    if (!app) refuse('another app than those that are believed');
    if (!signers.every((signer) => app.signatureDigests.includes(signer)))
      refuse('its app is signed by another than its maker');
  }
}

function appIn(stated: asn1js.BaseBlock | undefined): { packages: string[]; signers: string[] } {
  if (!(stated instanceof asn1js.OctetString)) return refuse('it names no app');
  const { result } = asn1js.fromBER(stated.getValue());
  const parts = result instanceof asn1js.Sequence ? result.valueBlock.value : [];
  const [infos = [], digests = []] = parts.map((part) =>
    part instanceof asn1js.Set ? part.valueBlock.value : [],
  );
  const names = infos.map((info) => (info instanceof asn1js.Sequence ? info.valueBlock.value[0] : undefined));
  const isOctets = (value: unknown): value is asn1js.OctetString => value instanceof asn1js.OctetString;
  if (names.length === 0 || digests.length === 0 || !names.every(isOctets) || !digests.every(isOctets))
    return refuse('its app cannot be read');
  return {
    packages: names.map(text),
    signers: digests.map((digest) => hex(new Uint8Array(digest.getValue()))),
  };
}

/** RootOfTrust ::= SEQUENCE { verifiedBootKey OCTET STRING, deviceLocked BOOLEAN, verifiedBootState ENUMERATED, … } */
function isVerifiedBoot(rootOfTrust: asn1js.BaseBlock | undefined): boolean {
  if (!(rootOfTrust instanceof asn1js.Sequence)) return false;
  const [, deviceLocked, state] = rootOfTrust.valueBlock.value;
  return (
    deviceLocked instanceof asn1js.Boolean &&
    deviceLocked.getValue() &&
    state instanceof asn1js.Enumerated &&
    state.valueBlock.valueDec === verifiedBoot
  );
}

const numberIn = (value: asn1js.BaseBlock | undefined): number | undefined =>
  value instanceof asn1js.Integer && !value.valueBlock.isHexOnly ? value.valueBlock.valueDec : undefined;

function checkFacts(facts: KeyDescription['hardwareEnforced'], device: Device): void {
  const model = facts.get(field.attestationIdModel);
  if (model && !(model instanceof asn1js.OctetString && text(model) === device.model))
    refuse('another model than the enrolment says');
  // YYYYMM, against YYYY-MM or YYYY-MM-DD.
  const claimed = device.patchLevel.slice(0, 7).replace('-', '');
  if (String(numberIn(facts.get(field.osPatchLevel)) ?? '') !== claimed)
    refuse('another patch level than the enrolment says');
  const osVersion = numberIn(facts.get(field.osVersion));
  if (osVersion === undefined || osVersion === 0) return;
  // Three numbers of two digits: 160001 is 16.0.1.
  const attested = [Math.floor(osVersion / 10_000), Math.floor(osVersion / 100) % 100, osVersion % 100];
  const said = (device.osVersion.match(/\d+/g) ?? []).map(Number);
  if (said.length > attested.length || attested.some((part, i) => part !== (said[i] ?? 0)))
    refuse('another OS version than the enrolment says');
}

const text = (octets: asn1js.OctetString): string => Buffer.from(octets.getValue()).toString('utf8');

function read<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    return refuse('cannot be read', error);
  }
}
