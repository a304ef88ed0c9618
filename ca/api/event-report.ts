import type { Bytes } from '../../core/runtime/bytes.ts';
import { must, PkiError } from '../../core/runtime/errors.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { answerOf } from './answer.ts';
import { changePresentation } from './changes.ts';

// An eventId names one event of its client, permanently: a report of the same content gets the first answer, of other content none.

/** Keyed hash of all that a report says; how it is to be carried out is no part of it. */
export function contentHashOf(ca: Pick<CertificateAuthority, 'sealer'>, body: object): Promise<Bytes> {
  const { dryRun: _, planHash: __, ...content } = body as { dryRun?: boolean; planHash?: string };
  return ca.sealer.keyedHash(Buffer.from(`event-content:${canonical(content)}`));
}

/** JSON with the members of each object in order. */
const canonical = (value: unknown): string =>
  JSON.stringify(value, (_name, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );

/** What an event of that id was answered first; undefined where the caller has reported none. `event-id-reused`. */
export async function firstAnswer(
  ca: CertificateAuthority,
  client: string,
  report: { readonly eventId: string | undefined; readonly contentHash: Bytes },
): Promise<{ status: number; body: unknown } | undefined> {
  const { eventId, contentHash } = report;
  const before = eventId === undefined ? undefined : await ca.store.reported(client, eventId);
  if (!before) return undefined;
  if (Buffer.compare(before.contentHash, contentHash) !== 0)
    throw new PkiError('event-id-reused', 'eventId: stands for another event already');
  const { route, idempotencyKey, issuanceId, answer } = before;
  const scope = { client, route, idempotencyKey };
  if (issuanceId !== null) return answerOf(ca, { type: 'issuance', issuanceId }, scope);
  return answerOf(ca, must(answer, 'answer of an event'), scope, changePresentation(ca));
}
