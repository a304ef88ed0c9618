import { type CertificateId, sameKey } from '../../../core/model/certificate-id.ts';
import type { HolderKind } from '../../../core/model/kinds.ts';
import type { Plan } from '../../../core/model/plan.ts';
import type { StatusChange } from '../../../core/model/revocation.ts';
import { PkiError } from '../../../core/runtime/errors.ts';
import type { CertificateView } from '../../api/certificate-store.ts';
import type { PlanRequest, ReleaseRequest } from '../../api/plan-request.ts';
import type { PolicyTable } from '../../api/policy.ts';
import { mayRelease, type Owned, type Reach, toPlan, withCascade } from './cascade.ts';

// What naming one certificate does.

const everything: Reach = { cascade: 'kind', concerns: () => true, holds: () => true };

/** What naming one certificate does, its cascade included. */
export function planCertificate(
  policy: PolicyTable,
  {
    key,
    change: requested,
    event = 'certificate',
  }: Omit<Extract<PlanRequest, { type: 'certificate' }>, 'type'> & { readonly event?: string },
  owned: Owned,
): Plan {
  const view = owned.views.find((candidate) => sameKey(candidate, key));
  if (!view) throw new PkiError('not-found', 'no such certificate');
  if (view.kind === 'authority' || view.kind === 'authority-link')
    throw new PkiError('forbidden', 'that certificate is a CA’s own: its end is a ceremony');
  if (view.kind === 'ocsp-responder' && requested.action !== 'revoke')
    throw new PkiError('forbidden', 'a responder’s certificate can be revoked, and nothing else');
  const change = requested.action === 'release-requested' ? releaseOf(view, requested) : requested;
  if (change.action === 'release') refuseRelease(policy, view, change, owned);
  const first = { view, change, cause: { event, cascadedFrom: null, partOf: null } };
  return toPlan(withCascade(policy, [first], owned, everything), [], owned.nowMs);
}

/** What blocking a key does to the certificate that it is in; a CA's own is a matter for a ceremony. */
export function planBlockedKey(policy: PolicyTable, key: CertificateId, owned: Owned): Plan {
  const view = owned.views.find((candidate) => sameKey(candidate, key));
  // What has ended has no status left to change; the key is blocked all the same.
  if (view?.kind === 'authority' || view?.state === 'retired') return toPlan([], [], owned.nowMs);
  const change = { action: 'revoke', reason: 'keyCompromise', invalidityMs: null } as const;
  return planCertificate(policy, { key, change, event: 'key-blocked' }, owned);
}

/** One hold at a time ends: a hold of another source must be named, so that no caller ends it by accident. */
function releaseOf(
  view: CertificateView,
  { named, own }: ReleaseRequest,
): StatusChange & { action: 'release' } {
  if (named !== undefined) return { action: 'release', by: named };
  const ended = view.heldBy.filter((by) => by === own || by === 'event' || by.startsWith('event:'));
  const [only, another] = ended.includes(own) ? [own] : ended;
  if (another !== undefined)
    throw new PkiError(
      'illegal-transition',
      `the certificate is held by ${view.heldBy.join(' and ')}: name one in heldBy`,
    );
  return { action: 'release', by: only ?? own };
}

function refuseRelease(
  policy: PolicyTable,
  view: CertificateView,
  change: Extract<StatusChange, { action: 'release' }>,
  owned: Owned,
): void {
  const by = [change.by].flat();
  const refuse = (what: string): never => {
    throw new PkiError('illegal-transition', what);
  };
  if (!policy.releasable.includes(view.kind as HolderKind))
    refuse(
      `a ${view.kind} certificate is not released from hold (policy.releasable): it is replaced, or revoked`,
    );
  if (by.includes('not-delivered')) refuse('that hold ends when delivery or storage is confirmed');
  if (by.some((one) => one.startsWith('restriction:'))) refuse('that hold ends with its usage restriction');
  if (!mayRelease(policy, { view, by }, owned)) refuse('the card certificate it rests on is not good');
  if (view.state !== 'held' || view.heldBy.some((one) => by.includes(one))) return;
  if (view.heldBy.every((one) => one.startsWith('restriction:')))
    refuse('the certificate is held by a usage restriction, and released as that ends');
  refuse(`the certificate is held by ${view.heldBy.join(' and ')}: name one in heldBy`);
}
