import { durationMs } from '../../core/config/duration.ts';
import {
  ageOn,
  birthdayAfter,
  type CivilDate,
  compareDates,
  dateInJapan,
  endOfDayInJapan,
  parseDate,
} from '../../core/model/calendar.ts';
import { noFacts, type ReportedEvent } from '../../core/model/holder-life.ts';
import { type Slot, slots } from '../../core/model/kinds.ts';
import { refuseUnreliable } from '../../core/runtime/clock.ts';
import { must, PkiError } from '../../core/runtime/errors.ts';
import { isInWindow, refuseEarlyRenewal } from '../../store/rules/policy/renewal-window.ts';
import { wantedApprovals } from '../config/approvals.ts';
import type { ProvenKey } from '../request/certification-request.ts';
import { checkHolderId } from '../request/holder-id.ts';
import { type BasicFour, encodeIdentity, type Identity, parseBasicFour } from '../request/identity.ts';
import { occurredMs } from '../request/occurrence.ts';
import { townOf } from '../request/towns.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import type { IssuanceRequest } from './issuance.ts';
import { refuseOtherPerson } from './same-person.ts';
import { signedChangeOf } from './signed-change.ts';
import { successionOf } from './succession.ts';
import { cardNotAfter } from './validity.ts';

/** What a counter sends for a card. */
export interface CardRequest {
  readonly holderId: string;
  readonly cardId: string;
  /** `YYYY-MM-DD`, the card's last day. */
  readonly cardExpiresOn: string;
  readonly municipalityCode: string;
  readonly deskCode: string;
  /** Not needed for authentication alone. */
  readonly basicFour?: BasicFour;
  /** PKCS#10, base64 of DER, for each slot to be filled: both, or one, where the other is good. */
  readonly requests: Readonly<Partial<Record<Slot, string>>>;
  /** The holder may not have, or does not want, a certificate for signing. */
  readonly authenticationOnly?: boolean;
  /** The event of the policy table by which the new certificates take the place of others. */
  readonly event?: string;
  /** The caller's id of the event, and when it occurred (RFC 3339). */
  readonly eventId?: string;
  readonly occurredAt?: string;
  /** The card whose certificates are replaced; this card by default. */
  readonly replacesCardId?: string;
  /** The desk hands the card over now: nothing waits for its delivery. */
  readonly handedOver?: boolean;
  /** CMS of a `CardChange` by the card’s signing key, base64. */
  readonly signedChange?: string;
}

/** What a counter says of holder and card, checked: all but the keys. Throws `bad-request`. */
export function checkCard(ca: Pick<CertificateAuthority, 'config' | 'clock'>, request: CardRequest) {
  const nowMs = ca.clock.wallMs();
  const { scheme } = ca.config;
  checkHolderId(request.holderId);
  const town = townOf(ca.config, request.municipalityCode);
  const cardExpiresOn = futureDay(request.cardExpiresOn, nowMs);
  const succession = cardSuccession(ca, request);
  checkSlots(request, succession?.isRenewal ?? false);
  if (!request.basicFour && request.requests.signing !== undefined)
    throw new PkiError('bad-request', 'basicFour: a signing certificate speaks of them');
  const identity = request.basicFour && parseBasicFour(request.basicFour, scheme, nowMs);
  checkAge(request, identity, scheme, nowMs);
  // A card's last day is a birthday, unless it ends with a permission to stay: without a birth date the day says as much.
  const birthDate = identity?.birthDate ?? cardExpiresOn;
  checkLastDay(
    cardExpiresOn,
    { birthDate, isKnown: identity !== undefined, succeeds: succession !== null },
    scheme,
    nowMs,
  );
  const notAfterMs = (isRenewal: boolean): number =>
    cardNotAfter({ birthDate, cardExpiresOn, issuedMs: nowMs, leapDay: scheme.leapDayBirthday, isRenewal });
  return {
    identity: identity ? encodeIdentity(identity) : null,
    town,
    expiresMs: endOfDayInJapan(cardExpiresOn),
    /** Of a slot, that is renewed within its own window or not. */
    notAfterMs,
    succession,
    occurredMs: occurredMs(request.occurredAt, nowMs),
  };
}

function checkSlots({ requests, authenticationOnly }: CardRequest, isRenewal: boolean): void {
  const { signing, authentication } = requests;
  const isRight = authenticationOnly ? !signing && authentication : signing || (isRenewal && authentication);
  if (!isRight)
    throw new PkiError(
      'bad-request',
      'requests: a card gets both certificates, or a signing certificate alone, or with authenticationOnly that one; a renewal may be of one',
    );
}

/** A child has no signing certificate. */
function checkAge(
  { requests }: CardRequest,
  identity: Identity | undefined,
  { signingAge, leapDayBirthday }: CertificateAuthority['config']['scheme'],
  nowMs: number,
): void {
  if (requests.signing === undefined || !identity) return;
  if (ageOn(identity.birthDate, dateInJapan(nowMs), leapDayBirthday) < signingAge)
    throw new PkiError(
      'signing-not-allowed',
      `no signing certificate below the age of ${signingAge}: send authenticationOnly`,
    );
}

/** A card lasts to a birthday after its issue: the fifth of a minor, one more where it takes the place of another. */
function checkLastDay(
  day: CivilDate,
  holder: { readonly birthDate: CivilDate; readonly isKnown: boolean; readonly succeeds: boolean },
  scheme: CertificateAuthority['config']['scheme'],
  nowMs: number,
): void {
  const today = dateInJapan(nowMs);
  const isMinor = holder.isKnown && ageOn(holder.birthDate, today, scheme.leapDayBirthday) < scheme.minorAge;
  const years =
    (isMinor ? scheme.minorCardYears : scheme.cardYears) + (holder.succeeds ? scheme.earlyRenewalYears : 0);
  const last = birthdayAfter(holder.birthDate, today, years, scheme.leapDayBirthday);
  if (compareDates(day, last) > 0)
    throw new PkiError(
      'bad-request',
      `cardExpiresOn: later than the holder’s birthday no. ${years} after issue`,
    );
}

/** A last day that moves on the same card: to a day to come, and no further than a card can last. */
export function checkMovedDay(
  text: string,
  scheme: CertificateAuthority['config']['scheme'],
  nowMs: number,
): CivilDate {
  const day = futureDay(text, nowMs);
  checkLastDay(day, { birthDate: day, isKnown: false, succeeds: true }, scheme, nowMs);
  return day;
}

function cardSuccession({ config }: Pick<CertificateAuthority, 'config'>, request: CardRequest) {
  const { event, holderId, cardId, replacesCardId, eventId, occurredAt } = request;
  if (event === undefined) {
    for (const [member, value] of Object.entries({ replacesCardId, eventId, occurredAt }))
      if (value !== undefined)
        throw new PkiError('bad-request', `${member}: wants the event that it belongs to`);
    return null;
  }
  const isOfHolder = config.policy.events[event]?.target === 'holder';
  const mediumId = `card:${replacesCardId ?? cardId}`;
  return successionOf(config, {
    event,
    target: isOfHolder ? { type: 'holder', holderId } : { type: 'medium', mediumId },
  });
}

/** Checks what a counter sent; every field of what is issued follows from the result. */
export async function applyForCard(
  ca: CertificateAuthority,
  request: CardRequest,
  by: Pick<IssuanceRequest, 'scope' | 'actor' | 'mass' | 'mandate'> &
    Pick<Partial<ReportedEvent>, 'contentHash'>,
): Promise<IssuanceRequest> {
  refuseUnreliable(ca.clock);
  const { identity, town, expiresMs, notAfterMs, succession, ...checked } = checkCard(ca, request);
  const { scope, actor, mass, mandate = null } = by;
  const { code } = town;
  const challengeHash = await signedChangeOf(ca, request, { code, client: scope.client });
  const rule = request.event === undefined ? undefined : ca.config.policy.events[request.event];
  const nowMs = ca.clock.wallMs();
  const mediumId = `card:${request.cardId}`;
  const replaced = `card:${request.replacesCardId ?? request.cardId}`;
  const asked = slots.filter((slot) => request.requests[slot] !== undefined);
  // A pair without an event is the first of its holder, nearly always: looking for another would cost each a wait for the disk.
  const isFirst = !succession && asked.length === slots.length;
  const mayMove = challengeHash !== null && rule?.town === 'moves';
  // Before the holder is looked up: of another municipality's a desk learns nothing.
  if (mandate && !isFirst)
    await ca.desks.checkTown({ mandate, municipality: code, holderId: request.holderId, mayMove });
  const holder = isFirst ? undefined : await ca.store.holder(request.holderId);
  const renewable = { certificates: holder?.certificates ?? [], facts: holder?.facts ?? noFacts, nowMs };
  await refuseOtherPerson(ca, request.event, identity, holder);
  const renewal = { windowMonths: ca.config.renewal.windowMonths, ends: null };
  if (succession?.isRenewal) refuseEarlyRenewal({ ...succession, renewal, slots: asked }, renewable);
  const keys = await provenKeys(ca, request.requests);
  const certificates = keys.map(({ slot, key }) => {
    const isRenewal = succession?.isRenewal === true && isInWindow(ca.config, renewable, replaced, slot);
    return { slot, key, notAfterMs: notAfterMs(isRenewal), restsOn: null };
  });
  return {
    scope,
    actor,
    mass,
    medium: {
      mediumId,
      holderId: request.holderId,
      type: 'card',
      expiresMs,
      restsOn: null,
      platform: null,
      model: null,
      osVersion: null,
      secureElement: null,
      patchLevel: null,
    },
    town,
    deskCode: request.deskCode,
    identity,
    certificates,
    mandate,
    municipality: code,
    isSignedByCard: challengeHash !== null,
    comparedIdentity: await comparedIdentity(ca, identity, certificates),
    challengeHash,
    evidence: formsOf(request),
    function: succession?.isRenewal ? 'card-renewal' : 'card-issuing',
    authenticationOnly: request.authenticationOnly ?? false,
    movesLastDay: rule?.lastDay === 'moves',
    arrival: {
      waits: ca.config.activation.card === 'when-delivered' ? 'successors' : 'nothing',
      waitMs: durationMs(ca.config.activation.wait),
      handedOver: request.handedOver ? confirmingEvent(ca) : null,
    },
    succession: succession && {
      ...succession,
      ...(succession.isRenewal ? { renewal } : {}),
      report: {
        event: must(request.event, 'event of a succession'),
        mediumId: succession.target.type === 'medium' ? succession.target.mediumId : null,
        eventId: request.eventId ?? null,
        contentHash: by.contentHash ?? scope.bodyHash,
        occurredMs: checked.occurredMs,
      },
    },
  };
}

/** What a new holder is compared by with those on record, where a second person is wanted for one who looks like another. */
async function comparedIdentity(
  { config, sealer }: CertificateAuthority,
  identity: Uint8Array | null,
  certificates: IssuanceRequest['certificates'],
): Promise<IssuanceRequest['comparedIdentity']> {
  const signing = certificates.find(({ slot }) => slot === 'signing');
  if (!identity || !signing || !wantedApprovals({ config }).includes('same-person')) return null;
  const hash = await sealer.keyedHash(Buffer.from('basic-four:'), identity);
  return { hash, year: new Date(signing.notAfterMs).getUTCFullYear() };
}

/** The event by which the table knows that a card was delivered. */
const confirmingEvent = ({ config }: CertificateAuthority): string | null =>
  Object.entries(config.policy.events).find(([, { delivery }]) => delivery === 'confirms')?.[0] ?? null;

/** Reading and Roman form of a name, to be kept with the issuance. */
function formsOf({ basicFour }: CardRequest): Uint8Array | null {
  const { nameReading, nameRoman } = basicFour ?? {};
  if (nameReading === undefined && nameRoman === undefined) return null;
  return Buffer.from(JSON.stringify({ nameReading, nameRoman }));
}

function futureDay(text: string, nowMs: number): CivilDate {
  const day = parseDate(text);
  if (!day || endOfDayInJapan(day) <= nowMs) {
    throw new PkiError('bad-request', 'cardExpiresOn: not a day to come');
  }
  return day;
}

async function provenKeys(
  ca: CertificateAuthority,
  requests: CardRequest['requests'],
): Promise<{ slot: Slot; key: ProvenKey }[]> {
  const asked = slots.filter((slot) => requests[slot] !== undefined);
  const keys = await Promise.all(
    asked.map(async (slot) => {
      const der = Buffer.from(requests[slot] ?? '', 'base64');
      return { slot, key: await ca.requestChecker.check(der, `requests.${slot}`) };
    }),
  );
  checkPair(keys.map(({ key }) => key));
  return keys;
}

/** One key for two purposes is no pair: a signature made to log in could pass for a declaration. Nor are two suites. */
export function checkPair(keys: readonly ProvenKey[]): void {
  const [first, second] = keys;
  if (first && second && Buffer.compare(first.keyHash, second.keyHash) === 0) {
    throw new PkiError('already-certified', 'requests: both are for the same public key');
  }
  if (first && second && first.type !== second.type) {
    throw new PkiError('invalid-key', `requests: a pair of ${first.type} and ${second.type} keys`);
  }
}
