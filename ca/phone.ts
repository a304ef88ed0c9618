import { type Bytes, digest, equal } from '../core/bytes.ts';
import { parseCertificate } from '../core/certificate-reader.ts';
import type { Actor, CertificateView, RequestScope } from '../core/certificate-store.ts';
import { refuseUnreliable } from '../core/clock.ts';
import { durationMs } from '../core/config.ts';
import { DerError } from '../core/der-reader.ts';
import { PkiError } from '../core/errors.ts';
import type { CertificateKey } from '../core/feed.ts';
import { closedError, type HolderFacts, noFacts } from '../core/holder-life.ts';
import { type Slot, slots } from '../core/kinds.ts';
import { namesIn } from '../core/name.ts';
import { checkPair } from './card.ts';
import { certificateOf } from './encoding.ts';
import { type PhoneEnrolment, parsePhoneEnrolment } from './enrolment.ts';
import type { DeviceEvidence } from './evidence/evidence.ts';
import { subjectAltNameId } from './identity.ts';
import type { Application, CertificateAuthority } from './issue.ts';
import { readSignedMessage, type SignedMessage } from './signed-message.ts';
import { checkDue, checkGains, successionOf } from './succession.ts';
import { findTown, type Town } from './towns.ts';

/** What a phone sends, through the issuing system. */
export interface PhoneRequest {
  readonly deviceId: string;
  /** CMS SignedData over a PhoneEnrolment, base64 of DER, made with the card's signing key. */
  readonly signedEnrolment: string;
  /** A desk's code, where the card has no signing certificate: then its authentication key signs. */
  readonly enrolmentCode?: string;
  readonly deviceEvidence?: DeviceEvidence;
}

/** Facts of a device: short, printable, so that operators can match on them. */
const deviceFact = /^[\x20-\x7e]{1,64}$/;

/**
 * Checks what a phone sent. Its assurance is the card's: the message is signed with the card's signing key, the
 * card's certificates are good, and the basic four are copied from them. Where the card has no signing certificate the
 * assurance is a desk's: its code comes beside the message, which the card's authentication key signs; that key alone
 * enrols nothing, for relying parties have it sign what they like.
 */
export async function applyForPhone(
  ca: CertificateAuthority,
  request: PhoneRequest,
  by: { readonly scope: RequestScope; readonly actor: Actor },
): Promise<Application> {
  refuseUnreliable(ca.clock);
  const signed = Buffer.from(request.signedEnrolment, 'base64');
  const message = readSignedMessage(signed, ca.config.scheme.enrolmentContentType);
  const enrolment = parseContent(message);
  checkDevice(ca, enrolment, request.deviceId);
  checkTerms(ca, enrolment);
  const wish = wishOf(ca, enrolment);
  const codeHash = request.enrolmentCode === undefined ? null : await codeHashOf(ca, request.enrolmentCode);
  const card = await cardOf(ca, message, enrolment, codeHash !== null);
  const asked = slots.flatMap((slot) => {
    const der = enrolment[`${slot}Request`];
    return der ? [{ slot, der, card: card[slot] }] : [];
  });
  const succession = phoneSuccession(ca, wish.succession, asked, card, `phone:${request.deviceId}`);
  const keys = await Promise.all(
    asked.map(async ({ slot, der, card }) => {
      const key = await ca.requestChecker.check(der, `${slot}Request`);
      return { slot, key, card };
    }),
  );
  checkPair(keys.map(({ key }) => key));
  const publicKeys = keys.map(({ key }) => key.publicKey);
  await ca.evidence.check(enrolment, publicKeys, request.deviceEvidence);
  const { deviceId, ...facts } = enrolment.device;
  const { enrolmentCode: _, ...kept } = request;
  return {
    ...by,
    ...wish,
    succession,
    mass: false,
    medium: {
      mediumId: `phone:${deviceId}`,
      holderId: card.holderId,
      type: 'phone',
      expiresMs: card.signer.notAfterMs,
      restsOn: card.mediumId,
      ...facts,
    },
    town: card.town,
    deskCode: ca.config.scheme.onlineDeskCode,
    identity: card.identity,
    certificates: keys.map(({ slot, key, card: { authority, epoch, position, notAfterMs } }) => ({
      slot,
      key,
      notAfterMs,
      restsOn: { authority, epoch, position },
    })),
    arrival: {
      waits: isStoredByTsm(ca.config) ? 'all' : 'nothing',
      waitMs: durationMs(ca.config.activation.storageWait),
      handedOver: null,
    },
    challengeHash: digest('sha256', enrolment.challenge),
    enrolledWith: card.signer,
    codeHash,
    // All that the phone's assurance rests on, as it came; the code is used up, and worth nothing.
    evidence: Buffer.from(JSON.stringify(kept)),
  };
}

/** Whether a phone's certificates are good only once the TSM confirms that they are stored. */
const isStoredByTsm = ({ activation, notices }: CertificateAuthority['config']): boolean =>
  activation.phone === 'when-stored' || (activation.phone === 'by-tsm' && notices.tsm !== undefined);

/** Keyed hash by which the record finds a desk's code. */
export const codeHashOf = (ca: Pick<CertificateAuthority, 'sealer'>, code: string): Promise<Bytes> =>
  ca.sealer.keyedHash(Buffer.from(`enrolment-code:${code}`));

type Wish = Pick<Application, 'function' | 'authenticationOnly'> & {
  readonly succession: ReturnType<typeof successionOf> | null;
};

/** What an operation asks for, and whose place it takes; `invalid-signed-request` where its members do not belong together. */
function wishOf(
  ca: CertificateAuthority,
  { operation, device, replaces, signingRequest, authenticationRequest }: PhoneEnrolment,
): Wish {
  const refuse = (what: string): never => {
    throw new PkiError('invalid-signed-request', `${operation}: ${what}`);
  };
  const isSuccession = operation === 'change-phone' || operation === 'renew-phone';
  const authenticationOnly =
    operation === 'issue-authentication-to-phone' || (isSuccession && !signingRequest);
  if (authenticationOnly ? signingRequest || !authenticationRequest : !signingRequest)
    refuse(authenticationOnly ? 'wants a request for authentication alone' : 'wants a request for signing');
  if ((replaces !== null) !== (operation === 'change-phone'))
    refuse(replaces === null ? 'names no phone to take the place of' : 'takes the place of no other phone');
  if (!isSuccession) return { function: 'phone-enrolment', authenticationOnly, succession: null };
  if (!authenticationRequest) refuse('wants both requests, or that for authentication alone');
  const event = operation === 'change-phone' ? 'phone-changed' : 'phone-renewed';
  const mediumId = `phone:${replaces ?? device.deviceId}`;
  const succession = successionOf(ca.config, { event, target: { type: 'medium', mediumId } });
  const fn = operation === 'change-phone' ? 'phone-change' : 'phone-renewal';
  return { function: fn, authenticationOnly, succession };
}

/** A phone that takes the place of another, or renews its own certificates. */
function phoneSuccession(
  { config, clock }: CertificateAuthority,
  succession: Wish['succession'],
  asked: readonly { readonly slot: Slot; readonly card: CertificateView }[],
  card: Awaited<ReturnType<typeof cardOf>>,
  mediumId: string,
): Application['succession'] {
  if (!succession) return null;
  const nowMs = clock.wallMs();
  const askedSlots = asked.map(({ slot }) => slot);
  const check = (certificates: readonly CertificateView[], facts: HolderFacts): void => {
    if (!succession.isRenewal) return;
    const of = { certificates, facts, nowMs };
    checkDue(config, of, mediumId, askedSlots);
    const ends = asked.map(({ slot, card: { notAfterMs } }) => ({ slot, notAfterMs }));
    checkGains(of, mediumId, ends);
  };
  check(card.certificates, card.facts);
  return { ...succession, checkDue: check };
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

/** Where the operator names versions of the terms of use, the holder has agreed to one of them. */
function checkTerms({ config }: CertificateAuthority, { terms }: PhoneEnrolment): void {
  const { termsVersions } = config.issuing;
  if (termsVersions.length === 0 || termsVersions.includes(terms ?? '')) return;
  throw new PkiError('terms-not-agreed', `terms: the holder has to agree to ${termsVersions.join(' or ')}`);
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

/** The card behind a message: found by the serial number of the certificate that signed, verified by its key. */
async function cardOf(
  ca: CertificateAuthority,
  message: SignedMessage,
  enrolment: PhoneEnrolment,
  hasCode: boolean,
) {
  const key = findSigner(ca, message);
  const view = key && (await ca.store.certificate(key));
  const isCard = view?.kind === 'card-signing' || (hasCode && view?.kind === 'card-authentication');
  if (!key || !view || !isCard || view.holderId === null || view.mediumId === null) {
    throw new PkiError('invalid-signed-request', 'the signer is not a card’s signing certificate of this CA');
  }
  const certificate = await openCertificate(ca, key);
  if (!certificate)
    throw new PkiError('card-certificate-not-good', 'the card’s certificate is not issued yet');
  message.verify(certificate);
  if (!equal(enrolment.cardCertificate, digest('sha256', certificate))) {
    throw new PkiError('invalid-signed-request', 'cardCertificate: not the hash of the signer’s certificate');
  }
  const { certificates = [], facts = noFacts, standing } = (await ca.store.holder(view.holderId)) ?? {};
  if (standing?.closedBy != null) throw closedError(standing);
  const nowMs = ca.clock.wallMs();
  const on = certificates.filter((candidate) => candidate.mediumId === view.mediumId);
  const authentication = youngestGood(on, 'card-authentication');
  checkGood(view, nowMs);
  if (!authentication) {
    throw new PkiError('card-certificate-not-good', 'the card has no good authentication certificate');
  }
  checkGood(authentication, nowMs);
  checkCode(view, on, enrolment, hasCode);
  const isSigning = view.kind === 'card-signing';
  return {
    holderId: view.holderId,
    mediumId: view.mediumId,
    town: townOfCard(ca, view, certificate),
    identity: isSigning ? identityIn(certificate) : null,
    certificates,
    facts,
    signer: view,
    // Where there is none, only authentication was asked for.
    signing: view,
    authentication,
  };
}

/** A desk's code stands for a card that has no signing certificate, and for authentication alone. */
function checkCode(
  signer: CertificateView,
  onCard: readonly CertificateView[],
  enrolment: PhoneEnrolment,
  hasCode: boolean,
): void {
  if (!hasCode) return;
  const refuse = (what: string): never => {
    throw new PkiError('invalid-signed-request', `enrolmentCode: ${what}`);
  };
  if (signer.kind !== 'card-authentication') refuse('the card’s signing key needs none');
  if (onCard.some(({ kind, state }) => kind === 'card-signing' && (state === 'good' || state === 'held')))
    refuse('the card has a signing certificate, whose key signs for a phone');
  if (enrolment.signingRequest)
    refuse(
      'allows a certificate for authentication alone: issue-authentication-to-phone, or change-phone with that request',
    );
}

/** While a renewed pair lives on beside its successor there are two: the younger is the one that will stay. */
function youngestGood(views: readonly CertificateView[], kind: string): CertificateView | undefined {
  return views
    .filter((candidate) => candidate.kind === kind && candidate.state === 'good')
    .sort((a, b) => b.notBeforeMs - a.notBeforeMs || b.position - a.position)[0];
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

/**
 * The town that a card's certificate was issued for, as it is now. One that is configured no more stays known by what the
 * certificate says.
 */
function townOfCard(ca: CertificateAuthority, { shard }: CertificateView, certificate: Bytes): Town {
  const [prefecture = '', municipality = ''] = namesIn(parseCertificate(certificate).subject)
    .filter(({ type }) => type === 'L')
    .map(({ value }) => value);
  const named = ca.config.municipalities.find(
    (one) => one.prefecture === prefecture && one.municipality === municipality,
  );
  const inShard = /^[a-z-]+\/\d+\/(\d{5})\//.exec(shard ?? '')?.[1];
  const code = inShard ?? named?.code;
  const town = code === undefined ? undefined : findTown(ca.config, code);
  if (town) return town;
  if (code !== undefined && prefecture !== '') return { code, prefecture, municipality };
  // CRLs that are not divided by towns: a certificate that names none may be issued for any.
  const [any] = ca.config.municipalities;
  if (!any) throw new PkiError('bad-request', 'the card’s municipality is not configured any more');
  return any;
}

/** The basic four as the card's certificate has them, octet for octet. */
function identityIn(certificate: Bytes): Bytes {
  const extension = parseCertificate(certificate).extensions.find(({ id }) => id === subjectAltNameId);
  if (!extension) throw new PkiError('internal', 'a card signing certificate without subjectAltName');
  return extension.value;
}
