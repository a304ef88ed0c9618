import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { parseHolderMove } from '../request/holder-move.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { readHolderMessage } from './holder-message.ts';

/** What a counter sends for a card, as far as a move is concerned. */
interface MoveRequest {
  readonly holderId: string;
  readonly cardId: string;
  readonly event?: string;
  /** CMS of a `HolderMove`, base64. */
  readonly signedMove?: string;
}

/**
 * Checks that the card which is issued to has signed for a move to this municipality: then the new one may act on a holder of another.
 * The hash of the challenge, which is used up; null where nothing was signed. Throws `invalid-signed-request`, `challenge-not-usable`.
 */
export async function signedMoveOf(
  ca: CertificateAuthority,
  { signedMove, holderId, cardId, event }: MoveRequest,
  { code, client }: { readonly code: string; readonly client: string },
): Promise<Bytes | null> {
  if (signedMove === undefined) return null;
  if (event === undefined || ca.config.policy.events[event]?.town !== 'moves')
    throw new PkiError('bad-request', 'signedMove: wants an event by which the holder’s municipality moves');
  const form = {
    contentType: ca.config.scheme.moveContentType,
    name: 'HolderMove',
    parse: parseHolderMove,
    kinds: ['card-signing'],
    mayBeHeld: false,
  } as const;
  const { content, view, challengeHash } = await readHolderMessage(ca, form, {
    der: Buffer.from(signedMove, 'base64'),
    client,
  });
  if (view.holderId !== holderId || view.mediumId !== `card:${cardId}`)
    throw new PkiError('invalid-signed-request', 'signedMove: not signed by the card that is issued to');
  if (content.municipalityCode !== code)
    throw new PkiError('invalid-signed-request', 'signedMove: signed for a move to another municipality');
  return challengeHash;
}
