import type { Cause, CertificateView, Plan, Reissue, Target } from '../core/certificate-store.ts';
import type { Policy } from '../core/config.ts';
import { PkiError } from '../core/errors.ts';
import type { CertificateKey } from '../core/feed.ts';
import type { HolderKind } from '../core/kinds.ts';
import type { RevocationReason, StatusChange } from '../core/revocation.ts';

export type EventRule = Policy['events'][string];
export type Cell = EventRule['kinds'][HolderKind];

/** Certificates an act can still do something to. */
export const isLive = (view: CertificateView, nowMs: number): boolean =>
  (view.state === 'reserved' || view.state === 'good' || view.state === 'held') && view.notAfterMs > nowMs;

/** Those, and for keyCompromise the revoked too: worsening to it is the one change left to them. */
const isOpen = (view: CertificateView, cell: Cell, nowMs: number): boolean =>
  isLive(view, nowMs) ||
  (cell === 'revoke:keyCompromise' && view.state === 'revoked' && view.notAfterMs > nowMs);

/** What rests on a certificate that is not good, nor released with it, cannot be released, where a hold cascades. */
function mayRelease(
  policy: Policy,
  { view, views }: { readonly view: CertificateView; readonly views: readonly CertificateView[] },
  nowMs: number,
  rule?: EventRule,
): boolean {
  const { restsOn } = view;
  if (!restsOn || policy.cascade.hold === 'none') return true;
  const card = views.find((candidate) => sameKey(candidate, restsOn));
  if (!card || !isLive(card, nowMs)) return false;
  const isReleased = card.state === 'held' && card.heldBy.every((by) => by === 'event');
  return card.state === 'good' || (isReleased && rule?.kinds[card.kind as HolderKind] === 'release');
}

const sameKey = (a: CertificateKey, b: CertificateKey): boolean =>
  a.authority === b.authority && a.epoch === b.epoch && a.position === b.position;

const keyOf = ({ authority, epoch, position }: CertificateKey): CertificateKey => ({
  authority,
  epoch,
  position,
});

interface PlannedChange {
  readonly view: CertificateView;
  readonly change: StatusChange;
  readonly cause: Cause;
}

/** Finds an event of the table; `bad-request` where there is none, or it happens to something else. */
export function ruleOf(policy: Policy, event: string, target: Target): EventRule {
  const rule = Object.hasOwn(policy.events, event) ? policy.events[event] : undefined;
  if (!rule) throw new PkiError('bad-request', `event: there is no event ${event.slice(0, 40)}`);
  const fits =
    target.type === 'holder'
      ? rule.target === 'holder'
      : target.type === 'medium' && target.mediumId.startsWith(`${rule.target}:`);
  if (!fits) throw new PkiError('bad-request', `event: ${event} happens to a ${rule.target}`);
  return rule;
}

/**
 * What an event does to a holder's certificates. `partOf` names the issuance that it is part of. `bad-request` where the
 * table has no such event for the target.
 */
export function planEvent(
  policy: Policy,
  event: string,
  target: Target,
  nowMs: number,
  partOf: string | null = null,
) {
  const rule = ruleOf(policy, event, target);
  return (views: readonly CertificateView[]): Plan => {
    const changes: PlannedChange[] = [];
    for (const view of touchedBy(target, views)) {
      const cell = rule.kinds[view.kind as HolderKind];
      if (!isOpen(view, cell, nowMs)) continue;
      const change = changeOf(policy, rule, { view, views }, nowMs);
      if (change) changes.push({ view, change, cause: { event, cascadedFrom: null, partOf } });
    }
    const all = withCascade(policy, changes, { views, nowMs, reach: rule.cascade });
    return toPlan(all, rule.reissue, nowMs);
  };
}

/** What naming one certificate does, its cascade included. */
export function planCertificate(
  policy: Policy,
  key: CertificateKey,
  change: StatusChange,
  nowMs: number,
  event = 'certificate',
) {
  return (views: readonly CertificateView[]): Plan => {
    const view = views.find((candidate) => sameKey(candidate, key));
    if (!view) throw new PkiError('not-found', 'no such certificate');
    if (view.kind === 'authority')
      throw new PkiError('forbidden', 'that certificate is a CA’s own: its end is a ceremony');
    if (view.kind === 'ocsp-responder' && change.action !== 'revoke')
      throw new PkiError('forbidden', 'a responder’s certificate can be revoked, and nothing else');
    if (change.action === 'release') refuseRelease(policy, { view, views }, change, nowMs);
    const first = { view, change, cause: { event, cascadedFrom: null, partOf: null } };
    return toPlan(withCascade(policy, [first], { views, nowMs, reach: 'kind' }), [], nowMs);
  };
}

/** What blocking a key does to the certificate that it is in; a CA's own is a matter for a ceremony. */
export function planBlockedKey(policy: Policy, key: CertificateKey, nowMs: number) {
  const revoke = { action: 'revoke', reason: 'keyCompromise', invalidityMs: null } as const;
  return (views: readonly CertificateView[]): Plan => {
    const view = views.find((candidate) => sameKey(candidate, key));
    // What has ended has no status left to change; the key is blocked all the same.
    if (view?.kind === 'authority' || view?.state === 'retired') return toPlan([], [], nowMs);
    return planCertificate(policy, key, revoke, nowMs, 'key-blocked')(views);
  };
}

function refuseRelease(
  policy: Policy,
  on: { readonly view: CertificateView; readonly views: readonly CertificateView[] },
  change: Extract<StatusChange, { action: 'release' }>,
  nowMs: number,
): void {
  const { view } = on;
  const refuse = (what: string): never => {
    throw new PkiError('illegal-transition', what);
  };
  if (!policy.releasable.includes(view.kind as HolderKind))
    refuse(`a ${view.kind} certificate is not released from hold`);
  if (!mayRelease(policy, on, nowMs)) refuse('the card certificate it rests on is not good');
  if (view.state === 'held' && !view.heldBy.includes(change.by))
    refuse('the certificate is held by a usage restriction, and released as that ends');
}

function touchedBy(target: Target, views: readonly CertificateView[]): readonly CertificateView[] {
  if (target.type !== 'medium') return views;
  const onMedium = views.filter((view) => view.mediumId === target.mediumId);
  const resting = views.filter(({ restsOn }) => restsOn && onMedium.some((view) => sameKey(view, restsOn)));
  return [...onMedium, ...resting];
}

function changeOf(
  policy: Policy,
  rule: EventRule,
  on: { readonly view: CertificateView; readonly views: readonly CertificateView[] },
  nowMs: number,
): StatusChange | undefined {
  const cell = rule.kinds[on.view.kind as HolderKind];
  if (cell === 'none') return undefined;
  if (cell === 'hold') return { action: 'hold', by: 'event' };
  if (cell === 'release')
    return on.view.state === 'held' && mayRelease(policy, on, nowMs, rule)
      ? { action: 'release', by: 'event' }
      : undefined;
  return { action: 'revoke', reason: cell.slice('revoke:'.length) as RevocationReason, invalidityMs: null };
}

/**
 * Adds what follows from each change for the certificates that rest on it, or, where all of a phone goes, for those beside
 * them; what is stronger already stays.
 */
function withCascade(
  policy: Policy,
  direct: readonly PlannedChange[],
  on: {
    readonly views: readonly CertificateView[];
    readonly nowMs: number;
    readonly reach: EventRule['cascade'];
  },
): PlannedChange[] {
  const changes = [...direct];
  for (const { view: card, change, cause } of direct) {
    if (change.action === 'release' || (change.action === 'hold' && policy.cascade.hold === 'none')) continue;
    const resting = on.views.filter(
      (view) => view.restsOn && sameKey(view.restsOn, card) && isLive(view, on.nowMs),
    );
    const whole = on.reach === 'whole' && change.action === 'revoke';
    const reached = whole ? besides(resting, direct, on) : resting;
    for (const view of reached) {
      if (!isLive(view, on.nowMs)) continue;
      const index = changes.findIndex((planned) => sameKey(planned.view, view));
      const planned = changes[index];
      if (planned?.change.action === 'revoke') continue;
      if (planned?.change.action === 'hold' && change.action === 'hold') continue;
      const cascaded = {
        view,
        change,
        cause: { ...cause, cascadedFrom: keyOf(card) },
      };
      if (index >= 0) changes[index] = cascaded;
      else changes.push(cascaded);
    }
  }
  return changes;
}

/** All that is on the phones of some certificates, but for what rests on a card certificate that lives on. */
function besides(
  resting: readonly CertificateView[],
  direct: readonly PlannedChange[],
  { views, nowMs }: { readonly views: readonly CertificateView[]; readonly nowMs: number },
): CertificateView[] {
  const livesOn = (key: CertificateKey): boolean =>
    views.some((view) => sameKey(view, key) && isLive(view, nowMs)) &&
    !direct.some(({ view, change }) => sameKey(view, key) && change.action === 'revoke');
  return views.filter(
    ({ mediumId, restsOn }) =>
      resting.some((view) => view.mediumId === mediumId) && !(restsOn && livesOn(restsOn)),
  );
}

/** A phone certificate that ceases has its key deleted: one order a key, for others on the phone may live on. */
function toPlan(changes: readonly PlannedChange[], reissued: readonly HolderKind[], nowMs: number): Plan {
  const ceasing = changes.filter(
    ({ view, change }) => change.action === 'revoke' && view.state !== 'revoked' && isLive(view, nowMs),
  );
  const reissue = new Map<string, Reissue>();
  for (const { view } of ceasing) {
    const kind = view.kind as HolderKind;
    if (view.mediumId === null || !reissued.includes(kind)) continue;
    reissue.set(`${kind} ${view.mediumId}`, { kind, mediumId: view.mediumId });
  }
  return {
    changes: changes.map(({ view, change, cause }) => ({ ...keyOf(view), change, cause })),
    orders: ceasing.flatMap(({ view }) =>
      view.mediumId === null || !view.kind.startsWith('phone')
        ? []
        : [{ type: 'remote-deletion' as const, ...keyOf(view), mediumId: view.mediumId }],
    ),
    reissue: [...reissue.values()],
  };
}
