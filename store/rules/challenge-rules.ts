import type { Bytes } from '../../core/runtime/bytes.ts';
import type { OperatorCommand } from '../api/operations-store.ts';
import type { Rule } from '../engine/rule.ts';
import { challengeLock } from './holder-loads.ts';
import { answeredOnce } from './once.ts';

interface PutChallenge extends OperatorCommand<null> {
  readonly challengeHash: Bytes;
  readonly expiresMs: number;
}

const given: Rule<PutChallenge, null> = {
  action: 'challenge',
  subject: () => ({}),
  locks: ({ challengeHash }) => [challengeLock(challengeHash)],
  loads: () => [],
  decide: ({ challengeHash, expiresMs, scope }, tx) => {
    tx.insert('challenge', { challengeHash, client: scope.client, expiresMs, usedBy: null });
    return null;
  },
};

/** See `CertificateStore.putChallenge`. */
export const putChallenge = answeredOnce(given);
