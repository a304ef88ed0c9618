import type { Cause, CertificateView, Plan, Target } from '../core/certificate-store.ts';
import type { Policy } from '../core/config.ts';
import { PkiError } from '../core/errors.ts';
import type { CertificateKey } from '../core/feed.ts';
import { type HolderKind, holderKinds } from '../core/kinds.ts';
import { isRevocationReason, type RevocationReason, type StatusChange } from '../core/revocation.ts';

type EventRule = Policy['events'][string];
type Cell = EventRule['kinds'][HolderKind];

/** Certificates an act can still do something to. */
const isLive = (view: CertificateView, nowMs: number): boolean =>
  (view.state === 'reserved' || view.state === 'good' || view.state === 'held') && view.notAfterMs > nowMs;

/** Those, and for keyCompromise the revoked too: worsening to it is the one change left to them. */
const isOpen = (view: CertificateView, cell: Cell, nowMs: number): boolean =>
  isLive(view, nowMs) ||
  (cell === 'revoke:keyCompromise' && view.state === 'revoked' && view.notAfterMs > nowMs);

/** What rests on a certificate that is not good cannot be released, where a hold cascades. */
function mayRelease(policy: Policy, view: CertificateView, views: readonly CertificateView[]): boolean {
  const { restsOn } = view;
  if (!restsOn || policy.cascade.hold === 'none') return true;
  return views.some((card) => sameKey(card, restsOn) && card.state === 'good');
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

/** What an event does to a holder's certificates. `bad-request` where the table has no such event for the target. */
export function planEvent(policy: Policy, event: string, target: Target, nowMs: number) {
  const rule = policy.events[event];
  if (!rule) throw new PkiError('bad-request', `event: there is no event ${event.slice(0, 40)}`);
  const fits =
    target.type === 'holder'
      ? rule.target === 'holder'
      : target.type === 'medium' && mediumFits(target, rule);
  if (!fits) throw new PkiError('bad-request', `event: ${event} happens to a ${rule.target}`);
  return (views: readonly CertificateView[]): Plan => {
    const changes: PlannedChange[] = [];
    for (const view of touchedBy(target, views)) {
      const cell = rule.kinds[view.kind as HolderKind];
      if (!isOpen(view, cell, nowMs)) continue;
      const change = changeOf(policy, cell, view, views);
      if (change) changes.push({ view, change, cause: { event, cascadedFrom: null } });
    }
    return toPlan(withCascade(policy, changes, views, nowMs));
  };
}

function mediumFits(target: Extract<Target, { type: 'medium' }>, rule: EventRule): boolean {
  return target.mediumId.startsWith(`${rule.target}:`);
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
    if (!(holderKinds as readonly string[]).includes(view.kind)) {
      throw new PkiError('forbidden', 'that certificate is not a holder’s');
    }
    if (change.action === 'release' && !policy.releasable.includes(view.kind as HolderKind)) {
      throw new PkiError('illegal-transition', `a ${view.kind} certificate is not released from hold`);
    }
    if (change.action === 'release' && !mayRelease(policy, view, views)) {
      throw new PkiError('illegal-transition', 'the card certificate it rests on is not good');
    }
    const first = { view, change, cause: { event, cascadedFrom: null } };
    return toPlan(withCascade(policy, [first], views, nowMs));
  };
}

function touchedBy(target: Target, views: readonly CertificateView[]): readonly CertificateView[] {
  if (target.type !== 'medium') return views;
  const onMedium = views.filter((view) => view.mediumId === target.mediumId);
  const resting = views.filter(({ restsOn }) => restsOn && onMedium.some((view) => sameKey(view, restsOn)));
  return [...onMedium, ...resting];
}

function changeOf(
  policy: Policy,
  cell: Cell,
  view: CertificateView,
  views: readonly CertificateView[],
): StatusChange | undefined {
  if (cell === 'none') return undefined;
  if (cell === 'hold') return { action: 'hold' };
  if (cell === 'release')
    return view.state === 'held' && mayRelease(policy, view, views) ? { action: 'release' } : undefined;
  return { action: 'revoke', reason: cell.slice('revoke:'.length) as RevocationReason, invalidityMs: null };
}

/** Adds what follows from each change for the certificates that rest on it; what is stronger already stays. */
function withCascade(
  policy: Policy,
  direct: readonly PlannedChange[],
  views: readonly CertificateView[],
  nowMs: number,
): PlannedChange[] {
  const changes = [...direct];
  for (const { view: card, change, cause } of direct) {
    if (change.action === 'release' || (change.action === 'hold' && policy.cascade.hold === 'none')) continue;
    for (const view of views) {
      if (!view.restsOn || !sameKey(view.restsOn, card) || !isLive(view, nowMs)) continue;
      const index = changes.findIndex((planned) => sameKey(planned.view, view));
      const planned = changes[index];
      if (planned?.change.action === 'revoke') continue;
      if (planned?.change.action === 'hold' && change.action === 'hold') continue;
      const cascaded = { view, change, cause: { event: cause.event, cascadedFrom: keyOf(card) } };
      if (index >= 0) changes[index] = cascaded;
      else changes.push(cascaded);
    }
  }
  return changes;
}

/** A phone certificate that ceases has its key deleted: one order a key, for others on the phone may live on. */
function toPlan(changes: readonly PlannedChange[]): Plan {
  const ceasing = changes.filter(
    ({ view, change }) =>
      change.action === 'revoke' && view.state !== 'revoked' && view.kind.startsWith('phone'),
  );
  return {
    changes: changes.map(({ view, change, cause }) => ({ ...keyOf(view), change, cause })),
    orders: ceasing.flatMap(({ view }) =>
      view.mediumId === null
        ? []
        : [{ type: 'remote-deletion' as const, ...keyOf(view), mediumId: view.mediumId }],
    ),
  };
}

/** Checks a table at start; throws `bad-request`, naming the cell. */
export function checkPolicy(policy: Policy): void {
  for (const [event, { kinds, target }] of Object.entries(policy.events)) {
    for (const kind of holderKinds) {
      const cell = kinds[kind];
      const fail = (what: string): never => {
        throw new PkiError('bad-request', `policy: ${event}, ${kind}: ${what}`);
      };
      const reason = cell.startsWith('revoke:') ? cell.slice('revoke:'.length) : undefined;
      if (
        reason !== undefined &&
        (!isRevocationReason(reason) || reason === 'certificateHold' || reason === 'cACompromise')
      ) {
        fail(`${reason} is no reason to revoke`);
      }
      if (cell === 'release' && !policy.releasable.includes(kind)) fail('the kind cannot be released');
      if (target === 'phone' && kind.startsWith('card') && cell !== 'none')
        fail('a phone’s event reaches no card');
    }
  }
}
