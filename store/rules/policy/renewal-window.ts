import { addMonths, dateInJapan, endOfDayInJapan } from '../../../core/model/calendar.ts';
import { sameKey } from '../../../core/model/certificate-id.ts';
import type { HolderFacts, MovedLastDay } from '../../../core/model/holder-life.ts';
import { type HolderKind, type Slot, slotOf } from '../../../core/model/kinds.ts';
import { PkiError } from '../../../core/runtime/errors.ts';
import type { CertificateView, Succession } from '../../api/certificate-store.ts';
import { isLive, issuedMs } from './cascade.ts';

// When a holder's certificates may be renewed.

/** How long before their last day certificates may be renewed. */
export interface RenewalWindow {
  readonly renewal: { readonly windowMonths: number };
}

/** Refuses with `not-due` a succession that is a renewal, where it is too early or would gain nothing. */
export function refuseEarlyRenewal(
  { target, slots, renewal }: Pick<Succession, 'target' | 'slots' | 'renewal'>,
  of: Renewable,
): void {
  if (!renewal || target.type !== 'medium') return;
  checkDue({ renewal }, of, target.mediumId, slots);
  if (renewal.ends) checkGains(of, target.mediumId, renewal.ends);
}

/** From when on certificates may be renewed: so many months before their last day, in Japan. */
function windowOpensMs({ renewal }: RenewalWindow, notAfterMs: number): number {
  return endOfDayInJapan(addMonths(dateInJapan(notAfterMs), -renewal.windowMonths));
}

/** What a holder has, as far as renewal depends on it. */
export interface Renewable {
  readonly certificates: readonly CertificateView[];
  readonly facts: HolderFacts;
  readonly nowMs: number;
}

/**
 * Whether a certificate has a successor already: it lives on for its overlap, and another of its kind is there that stays. A
 * phone whose card was renewed ends with the overlap too, and has none before it is renewed itself.
 */
export function isRenewed(view: CertificateView, { certificates, facts, nowMs }: Renewable): boolean {
  const isEnding = (one: CertificateView): boolean => facts.ending.some((key) => sameKey(key, one));
  return (
    isEnding(view) &&
    certificates.some((other) => other.kind === view.kind && isLive(other, nowMs) && !isEnding(other))
  );
}

/** Certificates on a medium that can be renewed: in force, and not renewed already. */
function renewable(of: Renewable, mediumId: string, slots: readonly Slot[]): readonly CertificateView[] {
  return of.certificates.filter(
    (view) =>
      view.mediumId === mediumId &&
      isLive(view, of.nowMs) &&
      slots.includes(slotOf(view.kind as HolderKind)) &&
      !isRenewed(view, of) &&
      // What has not arrived yet takes the place of what is renewed, and is not renewed itself.
      !view.heldBy.includes('not-delivered'),
  );
}

/** The last moment of the card on which a certificate is, or rests, where it moved after issue. */
function movedDayOf(view: CertificateView, { certificates, facts }: Renewable): MovedLastDay | undefined {
  const { restsOn } = view;
  const card = restsOn ? certificates.find((other) => sameKey(other, restsOn)) : view;
  return facts.movedDays
    .filter(({ mediumId, changedMs }) => mediumId === card?.mediumId && changedMs >= issuedMs(view))
    .sort((a, b) => b.changedMs - a.changedMs)[0];
}

/** When a certificate ends: with its own last day, or with that of its card, where that was moved to earlier. */
export function endsMs(view: CertificateView, of: Renewable): number {
  return Math.min(view.notAfterMs, movedDayOf(view, of)?.toMs ?? Number.POSITIVE_INFINITY);
}

/** From when on one certificate may be renewed: at once where the last day of its card moved beyond the certificate's. */
export function renewalOpensMs(config: RenewalWindow, view: CertificateView, of: Renewable): number {
  const moved = movedDayOf(view, of);
  const opens = windowOpensMs(config, endsMs(view, of));
  return moved && moved.toMs > view.notAfterMs ? Math.min(opens, moved.changedMs) : opens;
}

/** Whether a slot has come into its own window: then what is issued reaches to the sixth birthday, else to the fifth. */
export function isInWindow(config: RenewalWindow, of: Renewable, mediumId: string, slot: Slot): boolean {
  return renewable(of, mediumId, [slot]).some((view) => windowOpensMs(config, view.notAfterMs) <= of.nowMs);
}

/**
 * Refuses with `not-due` a renewal that is too early, or of nothing that is in force: it opens with the window of what ends
 * first, for the slots that are renewed.
 */
function checkDue(config: RenewalWindow, of: Renewable, mediumId: string, slots: readonly Slot[]): void {
  const renewed = renewable(of, mediumId, slots);
  if (renewed.length === 0) throw new PkiError('not-due', 'nothing is in force that could be renewed');
  const opensMs = Math.min(...renewed.map((view) => renewalOpensMs(config, view, of)));
  if (of.nowMs < opensMs)
    throw new PkiError('not-due', `renewal opens at ${new Date(opensMs).toISOString()}`);
}

/** The last moment that a phone's certificate would have if it were renewed now: that of a card certificate of its slot. */
export function phoneRenewalEndsMs(view: CertificateView, of: Renewable): number {
  const kind = `card-${slotOf(view.kind as HolderKind)}`;
  const cards = of.certificates.filter(
    (other) => other.kind === kind && other.state === 'good' && isLive(other, of.nowMs),
  );
  return Math.max(0, ...cards.map(({ notAfterMs }) => notAfterMs));
}

/** Refuses with `not-due` to renew a phone for the same last day: its card is what is renewed first. */
function checkGains(
  of: Renewable,
  mediumId: string,
  ends: readonly { readonly slot: Slot; readonly notAfterMs: number }[],
): void {
  const gains = ends.some(({ slot, notAfterMs }) =>
    renewable(of, mediumId, [slot]).some((view) => view.notAfterMs < notAfterMs),
  );
  if (!gains)
    throw new PkiError('not-due', 'the card’s certificates end the same day: the card is renewed first');
}
