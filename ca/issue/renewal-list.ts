import type { CertificateId } from '../../core/model/certificate-id.ts';
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

/** Rows that are looked through together, certificates that one page lists at least where there are as many, and rows that it looks through. */
const [rowsAtOnce, listedMin, rowsMax] = [25, 25, 200];

/**
 * One page of what is to be renewed because it ends before a time; `readable` says which of them the caller may see. A page with few
 * certificates, or none, may have others behind it.
 */
export async function renewalsBefore(
  ca: CertificateAuthority,
  beforeMs: number,
  after: CertificateId | undefined,
  readable: (all: readonly EndingCertificate[]) => Promise<readonly EndingCertificate[]>,
): Promise<{ readonly renewals: readonly Renewal[]; readonly next: CertificateId | undefined }> {
  const renewals: Renewal[] = [];
  let next = after;
  for (let looked = 0; looked < rowsMax && renewals.length < listedMin; looked += rowsAtOnce) {
    const page = await ca.store.endingBefore(beforeMs, next, rowsAtOnce);
    renewals.push(...(await renewalsOf(ca, await readable([...page.ending, ...page.outliving]))));
    next = page.next;
    if (!next) break;
  }
  return { renewals, next };
}

/** What of some ending certificates is to be renewed: what was renewed already, or awaits its delivery, is not. */
async function renewalsOf(
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
