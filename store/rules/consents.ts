import { keyOf } from '../../core/model/certificate-id.ts';
import type { ConsentItem } from '../../core/model/consent.ts';
import { byIssue } from '../../core/model/issue-order.ts';
import type { Consent, Provision, Question } from '../api/consent-store.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { standingOf } from './standing.ts';
import { whyRefused } from './verifiers.ts';
import { isGoodNow, statusOf } from './views.ts';

// What is given out about a holder: never more than was consented to, to no one else, and nothing unless all is in order.

export function consentView(row: Row<'consent'>): Consent {
  const { authority: _, epoch: __, position: ___, keyHash: ____, items, ...consent } = row;
  return { ...consent, items: JSON.parse(items) as ConsentItem[], signedWith: keyOf(row) };
}

/**
 * Whether a consent counts by its signature: it outlives the certificate, unless the key is known to have been another's by then. A key
 * that is declared leaked, or blocked, without a date may have been from the beginning (RFC 5280 §5.3.2).
 */
function isSignatureTrusted(reader: RecordReader, row: Row<'consent'>): boolean {
  const signer = reader.get('certificate', keyOf(row));
  const status = signer && statusOf(reader, signer);
  const isLeaked = status?.state === 'revoked' && status.reason === 'keyCompromise';
  if (isLeaked) return status.invalidityMs !== null && status.invalidityMs > row.givenMs;
  return (reader.get('publicKey', { keyHash: row.keyHash })?.blockedMs ?? null) === null;
}

/** Whether a verifier asks for a service that it may ask for: its own, or one behind it. Of certificates for signing, both. */
export function mayAskFor(
  reader: RecordReader,
  { verifierId, serviceId }: Omit<Question, 'holderId'>,
  nowMs: number,
): boolean {
  const asks = reader.get('verifier', { verifierId });
  const service = verifierId === serviceId ? asks : reader.get('verifier', { verifierId: serviceId });
  if (!asks || !service || (service !== asks && service.platformId !== verifierId)) return false;
  return [asks, service].every(
    (row) =>
      whyRefused(reader, row, nowMs) === undefined && (JSON.parse(row.kinds) as string[]).includes('signing'),
  );
}

/** A holder's signing certificate that is good now: the card's before a phone's, the youngest first. */
function goodSigning(reader: RecordReader, holderId: string, nowMs: number): Row<'certificate'> | undefined {
  return reader
    .find('certificate', { holderId })
    .filter(
      (row) => (row.kind === 'card-signing' || row.kind === 'phone-signing') && isGoodNow(reader, row, nowMs),
    )
    .sort((a, b) => a.kind.localeCompare(b.kind) || byIssue(b, a))[0];
}

/** Whether a municipality has nothing given out about a holder. */
export const isWithheld = (reader: RecordReader, holderId: string): boolean =>
  (reader.get('withholding', { holderId })?.sinceMs ?? null) !== null;

/** See `ConsentStore.provision`. Reads all that it may depend on before it decides, so that a refusal takes no less time. */
export function provisionOf(reader: RecordReader, question: Question, nowMs: number): Provision | undefined {
  const { holderId, verifierId, serviceId } = question;
  const signing = goodSigning(reader, holderId, nowMs);
  const consents = reader
    .find('consent', { holderId })
    .map((row) => ({ row, isTrusted: isSignatureTrusted(reader, row) }))
    .filter(
      ({ row, isTrusted }) =>
        isTrusted &&
        row.verifierId === verifierId &&
        row.serviceId === serviceId &&
        row.withdrawnMs === null &&
        row.endsMs > nowMs,
    );
  const items = new Set(consents.flatMap(({ row }) => consentView(row).items));
  const isClosed = standingOf(reader, holderId)?.closedBy != null;
  const isAllowed = mayAskFor(reader, { verifierId, serviceId }, nowMs);
  if (isWithheld(reader, holderId) || isClosed || !isAllowed || items.size === 0 || !signing)
    return undefined;
  return { certificate: keyOf(signing), items: [...items] };
}
