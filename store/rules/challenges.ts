import { type Bytes, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { RequestScope } from '../api/certificate-store.ts';
import type { HolderStore } from '../api/holder-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byKey, exclusive, type Rule } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';

/** A challenge; `challenge-not-usable` unless it was given to that client, not long ago, and not used before. */
export function usableChallenge(
  reader: RecordReader,
  challengeHash: Bytes,
  { client, nowMs }: { readonly client: string; readonly nowMs: number },
): Row<'challenge'> {
  const challenge = reader.get('challenge', { challengeHash });
  if (!challenge || challenge.client !== client)
    throw new PkiError('challenge-not-usable', 'the challenge was not given to this client');
  if (challenge.usedBy !== null) throw new PkiError('challenge-not-usable', 'the challenge was used before');
  if (challenge.expiresMs <= nowMs) throw new PkiError('challenge-not-usable', 'the challenge has expired');
  return challenge;
}

/** Uses a challenge up for what writes nothing else. */
export const spendChallenge: Rule<Parameters<HolderStore['useChallenge']>[0], void> = {
  action: 'useChallenge',
  actor: ({ actor }) => actor,
  subject: () => ({}),
  locks: ({ challengeHash }) => [exclusive('challenge', hex(challengeHash))],
  loads: ({ challengeHash }) => [byKey('challenge', { challengeHash })],
  decide: ({ challengeHash, scope, actor }, tx, { nowMs }) =>
    useChallenge(tx, challengeHash, { scope, usedBy: actor.requestId, nowMs }),
};

/** Uses a challenge up, or refuses as `usableChallenge`. */
export function useChallenge(
  tx: Transaction,
  challengeHash: Bytes,
  by: { readonly scope: RequestScope; readonly usedBy: string; readonly nowMs: number },
): void {
  const { scope, usedBy, nowMs } = by;
  const challenge = usableChallenge(tx, challengeHash, { client: scope.client, nowMs });
  tx.update('challenge', { ...challenge, usedBy }, challenge);
}
