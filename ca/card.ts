import { type CivilDate, endOfDayInJapan, parseDate } from '../core/calendar.ts';
import { PkiError } from '../core/errors.ts';
import { type Slot, slots } from '../core/kinds.ts';
import type { ProvenKey } from './certification-request.ts';
import { type BasicFour, encodeIdentity, parseBasicFour } from './identity.ts';
import type { Application, CertificateAuthority } from './issue.ts';
import { checkDue, successionOf } from './succession.ts';
import { cardNotAfter } from './validity.ts';

/** What a counter sends for a card. */
export interface CardRequest {
  readonly holderId: string;
  readonly cardId: string;
  /** `YYYY-MM-DD`, the card's last day. */
  readonly cardExpiresOn: string;
  readonly municipalityCode: string;
  readonly deskCode: string;
  readonly basicFour: BasicFour;
  /** PKCS#10, base64 of DER, for each slot to be filled: both, or signing alone to replace a revoked one. */
  readonly requests: Readonly<Partial<Record<Slot, string>>>;
  /** The holder may not have, or does not want, a certificate for signing. */
  readonly authenticationOnly?: boolean;
  /** The event of the policy table by which the new certificates take the place of others. */
  readonly event?: string;
  /** The card whose certificates are replaced; this card by default. */
  readonly replacesCardId?: string;
}

/** What a counter says of holder and card, checked: all but the keys. Throws `bad-request`. */
export function checkCard(ca: Pick<CertificateAuthority, 'config' | 'clock'>, request: CardRequest) {
  const nowMs = ca.clock.wallMs();
  const cardExpiresOn = futureDay(request.cardExpiresOn, nowMs);
  const identity = parseBasicFour(request.basicFour, ca.config.scheme, nowMs);
  const succession = cardSuccession(ca, request);
  const notAfterMs = cardNotAfter({
    birthDate: identity.birthDate,
    cardExpiresOn,
    issuedMs: nowMs,
    leapDay: ca.config.scheme.leapDayBirthday,
    isRenewal: succession?.isRenewal ?? false,
  });
  const { signing, authentication } = request.requests;
  if (request.authenticationOnly ? signing || !authentication : !signing) {
    throw new PkiError(
      'bad-request',
      'requests: a card gets both certificates, or a signing certificate alone, or with authenticationOnly that one',
    );
  }
  return {
    identity: encodeIdentity(identity),
    expiresMs: endOfDayInJapan(cardExpiresOn),
    notAfterMs,
    succession,
  };
}

function cardSuccession({ config }: Pick<CertificateAuthority, 'config'>, request: CardRequest) {
  const { event, holderId, cardId, replacesCardId } = request;
  if (event === undefined) {
    if (replacesCardId === undefined) return null;
    throw new PkiError('bad-request', 'replacesCardId: wants the event by which that card is replaced');
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
  by: Pick<Application, 'scope' | 'actor' | 'mass'>,
): Promise<Application> {
  const { identity, expiresMs, notAfterMs, succession } = checkCard(ca, request);
  if (succession?.isRenewal) await checkCardDue(ca, request);
  const keys = await provenKeys(ca, request.requests);
  return {
    ...by,
    medium: {
      mediumId: `card:${request.cardId}`,
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
    municipalityCode: request.municipalityCode,
    deskCode: request.deskCode,
    identity,
    certificates: keys.map(({ slot, key }) => ({ slot, key, notAfterMs, restsOn: null })),
    challengeHash: null,
    evidence: null,
    function: succession?.isRenewal ? 'card-renewal' : 'card-issuing',
    authenticationOnly: request.authenticationOnly ?? false,
    succession,
  };
}

async function checkCardDue(ca: CertificateAuthority, request: CardRequest): Promise<void> {
  const mediumId = `card:${request.replacesCardId ?? request.cardId}`;
  const { certificates = [] } = (await ca.store.holder(request.holderId)) ?? {};
  const renewed = certificates.filter((view) => view.mediumId === mediumId);
  checkDue(ca.config, renewed, ca.clock.wallMs());
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
