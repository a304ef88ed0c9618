import { createHash } from 'node:crypto';
import { type Slot, slots } from '../../core/model/kinds.ts';
import { type Bytes, equal } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { parseCardChange } from '../request/card-change.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { readHolderMessage } from './holder-message.ts';

/** What a counter sends for a card, as far as the card has signed for it. */
interface ChangeRequest {
  readonly holderId: string;
  readonly cardId: string;
  readonly replacesCardId?: string;
  readonly event?: string;
  readonly requests: Readonly<Partial<Record<Slot, string>>>;
  /** CMS of a `CardChange`, base64. */
  readonly signedChange?: string;
}

/** SHA-256 of the requests that a card signs for: signing, then authentication. */
export function requestsHash(requests: ChangeRequest['requests']): Bytes {
  const hash = createHash('sha256');
  for (const slot of slots) hash.update(Buffer.from(requests[slot] ?? '', 'base64'));
  return hash.digest();
}

/**
 * Checks that the card whose certificates are replaced has signed for it, in this municipality, for this event, card and keys: then its holder is
 * there, and no second person is wanted. The hash of the challenge, which is used up; null where nothing was signed. Throws
 * `invalid-signed-request`, `challenge-not-usable`.
 */
export async function signedChangeOf(
  ca: CertificateAuthority,
  request: ChangeRequest,
  { code, client }: { readonly code: string; readonly client: string },
): Promise<Bytes | null> {
  const { signedChange, holderId, cardId, replacesCardId = cardId, event, requests } = request;
  if (signedChange === undefined) return null;
  if (event === undefined)
    throw new PkiError(
      'bad-request',
      'signedChange: requires the event by which the card’s certificates are replaced',
    );
  const form = {
    contentType: ca.config.scheme.changeContentType,
    name: 'CardChange',
    parse: parseCardChange,
    kinds: ['card-signing'],
    mayBeHeld: false,
  } as const;
  const { content, view, challengeHash } = await readHolderMessage(ca, form, {
    der: Buffer.from(signedChange, 'base64'),
    client,
  });
  const refuse = (what: string): never => {
    throw new PkiError('invalid-signed-request', `signedChange: ${what}`);
  };
  if (view.holderId !== holderId || view.mediumId !== `card:${replacesCardId}`)
    refuse('not signed by the card that is replaced');
  if (content.municipalityCode !== code) refuse('signed for another municipality');
  if (content.event !== event) refuse('signed for another event');
  if (content.cardId !== cardId) refuse('signed for another card');
  if (!equal(content.requests, requestsHash(requests))) refuse('signed for other keys');
  return challengeHash;
}
