import { type Bytes, digest, equal, hex } from '../core/bytes.ts';
import { parseCertificate } from '../core/certificate-reader.ts';
import type { Actor, CertificateView, RequestScope } from '../core/certificate-store.ts';
import { DerError } from '../core/der-reader.ts';
import { objectIdentifier } from '../core/der-writer.ts';
import { PkiError } from '../core/errors.ts';
import type { CertificateKey } from '../core/feed.ts';
import { slots } from '../core/kinds.ts';
import { namesIn } from '../core/name.ts';
import { oid } from '../core/oids.ts';
import { checkPair } from './card.ts';
import { certificateOf } from './encoding.ts';
import { type PhoneEnrolment, parsePhoneEnrolment } from './enrolment.ts';
import type { DeviceEvidence } from './evidence/evidence.ts';
import type { Application, CertificateAuthority } from './issue.ts';
import { readSignedMessage, type SignedMessage } from './signed-message.ts';
import { checkDue, successionOf } from './succession.ts';

/** What a phone sends, through the issuing system. */
export interface PhoneRequest {
  readonly deviceId: string;
  /** CMS SignedData over a PhoneEnrolment, base64 of DER, made with the card's signing key. */
  readonly signedEnrolment: string;
  readonly deviceEvidence?: DeviceEvidence;
}

/** Facts of a device: short, printable, so that operators can match on them. */
const deviceFact = /^[\x20-\x7e]{1,64}$/;

/**
 * Checks what a phone sent. Its assurance is the card's: the message is signed with the card's signing key, the
 * card's certificates are good, and the basic four are copied from them.
 */
export async function applyForPhone(
  ca: CertificateAuthority,
  request: PhoneRequest,
  by: { readonly scope: RequestScope; readonly actor: Actor },
): Promise<Application> {
  const signed = Buffer.from(request.signedEnrolment, 'base64');
  const message = readSignedMessage(signed, ca.config.scheme.enrolmentContentType);
  const enrolment = parseContent(message);
  checkDevice(ca, enrolment, request.deviceId);
  const wish = wishOf(ca, enrolment);
  const card = await cardOf(ca, message, enrolment);
  if (wish.succession?.isRenewal) await checkPhoneDue(ca, card.holderId, `phone:${request.deviceId}`);
  const asked = slots.flatMap((slot) => {
    const der = enrolment[`${slot}Request`];
    return der ? [{ slot, der }] : [];
  });
  const keys = await Promise.all(
    asked.map(async ({ slot, der }) => {
      const key = await ca.requestChecker.check(der, `${slot}Request`);
      return { slot, key, card: card[slot] };
    }),
  );
  checkPair(keys.map(({ key }) => key));
  const publicKeys = keys.map(({ key }) => key.publicKey);
  await ca.evidence.check(enrolment, publicKeys, request.deviceEvidence);
  const { deviceId, ...facts } = enrolment.device;
  return {
    ...by,
    ...wish,
    mass: false,
    medium: {
      mediumId: `phone:${deviceId}`,
      holderId: card.holderId,
      type: 'phone',
      expiresMs: card.signing.notAfterMs,
      restsOn: card.mediumId,
      ...facts,
    },
    municipalityCode: card.municipalityCode,
    deskCode: ca.config.scheme.onlineDeskCode,
    identity: card.identity,
    certificates: keys.map(({ slot, key, card: { authority, epoch, position, notAfterMs } }) => ({
      slot,
      key,
      notAfterMs,
      restsOn: { authority, epoch, position },
    })),
    challengeHash: digest('sha256', enrolment.challenge),
    // All that the phone's assurance rests on, as it came.
    evidence: Buffer.from(JSON.stringify(request)),
  };
}

/** What an operation asks for, and whose place it takes; `invalid-signed-request` where its members do not belong together. */
function wishOf(
  ca: CertificateAuthority,
  { operation, device, replaces, signingRequest, authenticationRequest }: PhoneEnrolment,
): Pick<Application, 'function' | 'authenticationOnly'> & {
  readonly succession: ReturnType<typeof successionOf> | null;
} {
  const refuse = (what: string): never => {
    throw new PkiError('invalid-signed-request', `${operation}: ${what}`);
  };
  const authenticationOnly = operation === 'issue-authentication-to-phone';
  if (authenticationOnly ? signingRequest || !authenticationRequest : !signingRequest)
    refuse(authenticationOnly ? 'wants a request for authentication alone' : 'wants a request for signing');
  if ((replaces !== null) !== (operation === 'change-phone'))
    refuse(replaces === null ? 'names no phone to take the place of' : 'takes the place of no other phone');
  if (operation === 'change-phone' || operation === 'renew-phone') {
    if (!authenticationRequest) refuse('wants both requests');
    if (replaces === device.deviceId) refuse('a phone does not take its own place');
    const event = operation === 'change-phone' ? 'phone-changed' : 'phone-renewed';
    const mediumId = `phone:${replaces ?? device.deviceId}`;
    const succession = successionOf(ca.config, { event, target: { type: 'medium', mediumId } });
    const fn = operation === 'change-phone' ? 'phone-change' : 'phone-renewal';
    return { function: fn, authenticationOnly, succession };
  }
  return { function: 'phone-enrolment', authenticationOnly, succession: null };
}

async function checkPhoneDue(ca: CertificateAuthority, holderId: string, mediumId: string): Promise<void> {
  const { certificates = [] } = (await ca.store.holder(holderId)) ?? {};
  const renewed = certificates.filter((view) => view.mediumId === mediumId);
  checkDue(ca.config, renewed, ca.clock.wallMs());
}

function parseContent(message: SignedMessage): PhoneEnrolment {
  try {
    return parsePhoneEnrolment(message.content);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    throw new PkiError('invalid-signed-request', `the content is no PhoneEnrolment: ${error.message}`, {
      cause: error,
    });
  }
}

function checkDevice(ca: CertificateAuthority, { device }: PhoneEnrolment, deviceId: string): void {
  if (!ca.config.scheme.platforms.includes(device.platform)) {
    throw new PkiError('bad-request', `device.platform: not one of ${ca.config.scheme.platforms.join(', ')}`);
  }
  if (device.deviceId !== deviceId) {
    throw new PkiError('invalid-signed-request', 'deviceId: not the one that the card signed for');
  }
  const { patchLevel, ...facts } = device;
  if (patchLevel !== '' && !/^\d{4}-\d{2}(-\d{2})?$/.test(patchLevel))
    throw new PkiError('bad-request', 'device.patchLevel: neither YYYY-MM nor YYYY-MM-DD');
  for (const [field, value] of Object.entries(facts)) {
    if (!deviceFact.test(value))
      throw new PkiError('bad-request', `device.${field}: not 1 to 64 printable ASCII characters`);
  }
}

/** The card behind a message: found by the serial number of its signing certificate, verified by its key. */
async function cardOf(ca: CertificateAuthority, message: SignedMessage, enrolment: PhoneEnrolment) {
  const key = findSigner(ca, message);
  const view = key && (await ca.store.certificate(key));
  if (!key || view?.kind !== 'card-signing' || view.holderId === null || view.mediumId === null) {
    throw new PkiError('invalid-signed-request', 'the signer is not a card’s signing certificate of this CA');
  }
  const certificate = await openCertificate(ca, key);
  if (!certificate)
    throw new PkiError('card-certificate-not-good', 'the card’s signing certificate is not issued yet');
  message.verify(certificate);
  if (!equal(enrolment.cardCertificate, digest('sha256', certificate))) {
    throw new PkiError('invalid-signed-request', 'cardCertificate: not the hash of the signer’s certificate');
  }
  const { certificates = [] } = (await ca.store.holder(view.holderId)) ?? {};
  // While a renewed pair lives on beside its successor there are two: the younger is the one that will stay.
  const [authentication] = certificates
    .filter(
      (candidate) =>
        candidate.mediumId === view.mediumId &&
        candidate.kind === 'card-authentication' &&
        candidate.state === 'good',
    )
    .sort((a, b) => b.notBeforeMs - a.notBeforeMs || b.position - a.position);
  checkGood(view, ca.clock.wallMs());
  if (!authentication) {
    throw new PkiError('card-certificate-not-good', 'the card has no good authentication certificate');
  }
  checkGood(authentication, ca.clock.wallMs());
  return {
    holderId: view.holderId,
    mediumId: view.mediumId,
    municipalityCode: municipalityIn(ca, certificate),
    identity: identityIn(certificate),
    signing: view,
    authentication,
  };
}

/** The certificate of ours that is said to have signed. */
export function findSigner(ca: CertificateAuthority, { signer }: SignedMessage): CertificateKey | undefined {
  for (const authority of ca.authorities.all) {
    if (!equal(parseCertificate(authority.certificate).subject, signer.issuer)) continue;
    const key = authority.positionOf(signer.serial);
    if (key) return key;
  }
  return undefined;
}

function checkGood(view: CertificateView, nowMs: number): void {
  if (view.state !== 'good') {
    throw new PkiError('card-certificate-not-good', `the ${view.kind} certificate is ${view.state}`);
  }
  if (view.notAfterMs <= nowMs)
    throw new PkiError('card-certificate-not-good', `the ${view.kind} certificate has expired`);
}

/** The certificate on record, DER; undefined while it is only reserved. `not-found` where its year was erased. */
export async function openCertificate(
  ca: CertificateAuthority,
  key: CertificateKey,
): Promise<Bytes | undefined> {
  const sealed = await ca.store.encoding(key);
  return sealed && certificateOf(ca.sealer, key, sealed, ca.authorities.byName(key.authority).signer.suite);
}

/** The municipality that a card's signing certificate names in its subject, as it is configured. */
function municipalityIn(ca: CertificateAuthority, certificate: Bytes): string {
  const { subject } = parseCertificate(certificate);
  const [prefecture, name] = namesIn(subject)
    .filter(({ type }) => type === 'L')
    .map(({ value }) => value);
  const found = ca.config.municipalities.find(
    (candidate) => candidate.prefecture === prefecture && candidate.municipality === name,
  );
  if (!found) {
    throw new PkiError(
      'bad-request',
      `the card's municipality, ${prefecture} ${name}, is not configured any more`,
    );
  }
  return found.code;
}

const subjectAltNameId = hex(objectIdentifier(oid.subjectAltName).subarray(2));

/** The basic four as the card's certificate has them, octet for octet. */
function identityIn(certificate: Bytes): Bytes {
  const extension = parseCertificate(certificate).extensions.find(({ id }) => id === subjectAltNameId);
  if (!extension) throw new PkiError('internal', 'a card signing certificate without subjectAltName');
  return extension.value;
}
