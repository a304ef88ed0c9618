import { DerError } from '../../core/asn1/der-reader.ts';
import { durationMs } from '../../core/config/duration.ts';
import { unknownModel, versionPattern } from '../../core/model/device.ts';
import { type Slot, slots } from '../../core/model/kinds.ts';
import { type Bytes, digest } from '../../core/runtime/bytes.ts';
import { refuseUnreliable } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateView } from '../../store/api/certificate-store.ts';
import { refuseEarlyRenewal } from '../../store/rules/policy/renewal-window.ts';
import { type PhoneEnrolment, parsePhoneEnrolment } from '../request/enrolment.ts';
import type { DeviceEvidence } from '../request/evidence/evidence.ts';
import { readSignedMessage, type SignedMessage } from '../request/signed-message.ts';
import { checkPair } from './card.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { cardOf } from './enrolling-card.ts';
import type { IssuanceRequest } from './issuance.ts';
import { successionOf } from './succession.ts';

/** What a phone sends, through the issuing system. */
export interface PhoneRequest {
  readonly deviceId: string;
  /** CMS SignedData over a PhoneEnrolment, base64 of DER, made with the card's signing key. */
  readonly signedEnrolment: string;
  /** A desk's code, where the card has no signing certificate: then its authentication key signs. */
  readonly enrolmentCode?: string;
  readonly deviceEvidence?: DeviceEvidence;
}

/** The card's signing key, and with it its authentication key. */
const signersMax = 2;

/** Facts of a device: short, printable, so that operators can match on them. */
const deviceFact = /^[\x20-\x7e]{1,64}$/;
const comparable = new RegExp(versionPattern);

/**
 * Checks what a phone sent. Its assurance is the card's: the message is signed with the card's signing key, the
 * card's certificates are good, and the basic four are copied from them. Where the card has no signing certificate the
 * assurance is a desk's: its code comes with the message, which the card's authentication key signs; that key alone
 * enrols nothing, for relying parties have it sign what they like.
 */
export async function applyForPhone(
  ca: CertificateAuthority,
  request: PhoneRequest,
  by: Pick<IssuanceRequest, 'scope' | 'actor' | 'mandate'>,
): Promise<IssuanceRequest> {
  refuseUnreliable(ca.clock);
  const signed = Buffer.from(request.signedEnrolment, 'base64');
  const message = readSignedMessage(signed, ca.config.scheme.enrolmentContentType, signersMax);
  const enrolment = parseContent(message);
  const challengeHash = digest('sha256', enrolment.challenge);
  // First, because it is cheap: a request without a valid challenge costs nothing more.
  await ca.store.checkChallenge(challengeHash, by.scope.client);
  checkDevice(ca, enrolment, request.deviceId);
  checkTerms(ca, enrolment);
  const terms = operationTerms(ca, enrolment);
  const codeHash = request.enrolmentCode === undefined ? null : await codeHashOf(ca, request.enrolmentCode);
  const card = await cardOf(ca, message, enrolment, codeHash !== null);
  const asked = slots.flatMap((slot) => {
    const der = enrolment[`${slot}Request`];
    return der ? [{ slot, der, card: card[slot] }] : [];
  });
  const succession = phoneSuccession(ca, terms.succession, asked, card);
  const keys = await Promise.all(
    asked.map(async ({ slot, der, card }) => {
      const key = await ca.requestChecker.check(der, `${slot}Request`);
      return { slot, key, card };
    }),
  );
  checkPair(keys.map(({ key }) => key));
  const publicKeys = keys.map(({ key }) => key.publicKey);
  const { isModelUnknown, patchLevel } = await ca.evidence.check(
    enrolment,
    publicKeys,
    request.deviceEvidence,
  );
  const { deviceId, ...facts } = enrolment.device;
  const { enrolmentCode: _, ...kept } = request;
  return {
    ...by,
    ...terms,
    succession,
    mass: false,
    medium: {
      mediumId: `phone:${deviceId}`,
      holderId: card.holderId,
      type: 'phone',
      expiresMs: card.signer.notAfterMs,
      restsOn: card.mediumId,
      ...facts,
      model: facts.model || unknownModel,
      isModelUnknown,
      patchLevel,
      appletVersion: enrolment.appletVersion ?? null,
      appVersion: enrolment.appVersion ?? null,
    },
    town: card.town,
    municipality: null,
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
    challengeHash,
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

type OperationTerms = Pick<IssuanceRequest, 'function' | 'authenticationOnly'> & {
  readonly succession: ReturnType<typeof successionOf> | null;
};

/** What an operation asks for, and whose place it takes; `invalid-signed-request` where its members do not belong together. */
function operationTerms(
  ca: CertificateAuthority,
  { operation, device, replaces, signingRequest, authenticationRequest }: PhoneEnrolment,
): OperationTerms {
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
  succession: OperationTerms['succession'],
  asked: readonly { readonly slot: Slot; readonly card: CertificateView }[],
  card: Awaited<ReturnType<typeof cardOf>>,
): IssuanceRequest['succession'] {
  if (!succession) return null;
  const slots = asked.map(({ slot }) => slot);
  const ends = asked.map(({ slot, card: { notAfterMs } }) => ({ slot, notAfterMs }));
  const { windowMonths } = config.renewal;
  const terms = succession.isRenewal ? { renewal: { windowMonths, ends } } : {};
  // Asked again in the transaction: here it spares the rest of the work.
  refuseEarlyRenewal({ ...succession, ...terms, slots }, { ...card, nowMs: clock.wallMs() });
  return { ...succession, ...terms };
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

/** Whether a text is a month or a day that there is. */
function isMonthOrDay(text: string): boolean {
  if (!/^\d{4}-\d{2}(-\d{2})?$/.test(text)) return false;
  const day = text.length === 7 ? `${text}-01` : text;
  const date = new Date(`${day}T00:00:00Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day);
}

function checkDevice(
  ca: CertificateAuthority,
  { device, appletVersion, appVersion }: PhoneEnrolment,
  deviceId: string,
): void {
  if (!ca.config.scheme.platforms.includes(device.platform)) {
    throw new PkiError('bad-request', `device.platform: not one of ${ca.config.scheme.platforms.join(', ')}`);
  }
  if (device.deviceId !== deviceId) {
    throw new PkiError('invalid-signed-request', 'deviceId: not the one that the card signed for');
  }
  const { patchLevel, ...facts } = device;
  if (patchLevel !== '' && !isMonthOrDay(patchLevel))
    throw new PkiError('bad-request', 'device.patchLevel: neither YYYY-MM nor YYYY-MM-DD');
  if (!comparable.test(facts.osVersion))
    throw new PkiError('bad-request', 'device.osVersion: the OS version is not numbers separated by dots');
  for (const [field, value] of Object.entries({ appletVersion, appVersion }))
    if (value != null && !comparable.test(value))
      throw new PkiError('bad-request', `${field}: not numbers separated by dots`);
  for (const [field, value] of Object.entries(facts)) {
    const isUnknown = field === 'model' && value === '';
    if (!isUnknown && !deviceFact.test(value))
      throw new PkiError('bad-request', `device.${field}: not 1 to 64 printable ASCII characters`);
  }
}
