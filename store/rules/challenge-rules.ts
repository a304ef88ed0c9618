import { digest } from '../../core/runtime/bytes.ts';
import type { CertificateStore, GivenChallenge } from '../api/certificate-store.ts';
import { challengeLock } from './holder-loads.ts';
import { answeredOnce } from './once.ts';

/** See `CertificateStore.putChallenge`. The record finds a challenge by its hash. */
export const putChallenge = answeredOnce<Parameters<CertificateStore['putChallenge']>[0], GivenChallenge>({
  action: 'challenge',
  subject: () => ({}),
  locks: ({ challenge }) => [challengeLock(digest('sha256', challenge))],
  loads: () => [],
  decide: ({ challenge, expiresMs, scope }, tx) => {
    const challengeHash = digest('sha256', challenge);
    tx.insert('challenge', { challengeHash, client: scope.client, expiresMs, usedBy: null });
    return { challenge: Buffer.from(challenge).toString('base64'), expiresMs };
  },
});
