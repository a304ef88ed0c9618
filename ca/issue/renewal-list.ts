import { must } from '../../core/runtime/errors.ts';
import type { EndingCertificate } from '../../store/api/certificate-store.ts';
import {
  endsMs,
  isRenewed,
  phoneRenewalEndsMs,
  renewalOpensMs,
} from '../../store/rules/policy/renewal-window.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import type { HolderOnRecord } from './issuance.ts';

/** A certificate that ends, and from when on issuing renews it. */
export interface Renewal {
  readonly view: EndingCertificate;
  /** null where renewing it by itself is refused: a phone's has the last day of its card, which is renewed first. */
  readonly opensMs: number | null;
}

/** What of some ending certificates is to be renewed: what was renewed already, or awaits its delivery, is not. */
export async function renewalsOf(
  ca: CertificateAuthority,
  ending: readonly EndingCertificate[],
): Promise<Renewal[]> {
  const holders = new Map<string, HolderOnRecord | undefined>();
  const renewals: Renewal[] = [];
  for (const view of ending) {
    const holderId = must(view.holderId, 'holder of a certificate that ends');
    if (!holders.has(holderId)) holders.set(holderId, await ca.store.holder(holderId));
    const holder = holders.get(holderId);
    if (!holder || isRenewed(view, { ...holder, nowMs: ca.clock.wallMs() })) continue;
    if (view.heldBy.includes('not-delivered')) continue;
    const of = { ...holder, nowMs: ca.clock.wallMs() };
    renewals.push({ view: { ...view, endsMs: endsMs(view, of) }, opensMs: opensMs(ca, view, holder) });
  }
  return renewals;
}

function opensMs(ca: CertificateAuthority, view: EndingCertificate, holder: HolderOnRecord): number | null {
  const of = { ...holder, nowMs: ca.clock.wallMs() };
  if (view.kind.startsWith('phone') && phoneRenewalEndsMs(view, of) <= view.notAfterMs) return null;
  return renewalOpensMs(ca.config, view, of);
}
