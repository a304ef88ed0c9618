/**
 * The order in which certificates were issued, the first first. Positions do not say it: they are handed out in random order. Ids of
 * issuances begin with their time (RFC 9562 §5.7).
 */
export function byIssue(
  a: { readonly notBeforeMs: number; readonly issuanceId: string },
  b: { readonly notBeforeMs: number; readonly issuanceId: string },
): number {
  return a.notBeforeMs - b.notBeforeMs || a.issuanceId.localeCompare(b.issuanceId);
}
