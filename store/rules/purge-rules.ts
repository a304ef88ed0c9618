import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import { hex } from '../../core/runtime/bytes.ts';
import { byIndex, byKey, exclusive, type Rule } from '../engine/rule.ts';
import type { Key, Row } from '../schema/schema.ts';
import { challengeLock, ownCertificateLocks } from './holder-loads.ts';
import { requestLoad, requestLock } from './once.ts';
import { messageLocksOf } from './outbox-rules.ts';

// The rules by which expired rows are removed. Candidates were read before; each is checked again here.

/** Removes answers, challenges and enrolment codes that have expired. */
export const purgeExpired: Rule<
  {
    readonly requests: readonly Key<'request'>[];
    readonly challenges: readonly Key<'challenge'>[];
    readonly codes: readonly Key<'enrolmentCode'>[];
  },
  void
> = {
  action: 'purge',
  subject: () => ({}),
  locks: ({ requests, challenges, codes }) => [
    ...requests.map(requestLock),
    ...challenges.map(({ challengeHash }) => challengeLock(challengeHash)),
    ...codes.map(({ codeHash }) => exclusive('code', hex(codeHash))),
  ],
  loads: ({ requests, challenges, codes }) => [
    ...requests.map(requestLoad),
    ...challenges.map(({ challengeHash }) => byKey('challenge', { challengeHash })),
    ...codes.map(({ codeHash }) => byKey('enrolmentCode', { codeHash })),
  ],
  decide: ({ requests, challenges, codes }, tx, { nowMs }) => {
    const isOver = (row: { readonly expiresMs: number } | undefined): boolean =>
      row !== undefined && row.expiresMs < nowMs;
    for (const key of requests) if (isOver(tx.get('request', key))) tx.remove('request', key);
    for (const key of challenges) if (isOver(tx.get('challenge', key))) tx.remove('challenge', key);
    for (const key of codes) if (isOver(tx.get('enrolmentCode', key))) tx.remove('enrolmentCode', key);
  },
};

/** Removes messages that were delivered or confirmed, and were created before then. */
export const purgeMessages: Rule<
  { readonly messages: readonly Row<'message'>[]; readonly beforeMs: number },
  void
> = {
  action: 'purgeOutbox',
  subject: () => ({}),
  locks: ({ messages }) => messages.flatMap(messageLocksOf),
  loads: ({ messages }) =>
    messages.flatMap(({ messageId }) => [
      byKey('message', { messageId }),
      byKey('messageDetail', { messageId }),
      byKey('townMessage', { messageId }),
    ]),
  decide: ({ messages, beforeMs }, tx) => {
    for (const { messageId } of messages) {
      const row = tx.get('message', { messageId });
      if (!row || row.createdMs >= beforeMs || row.dueMs !== null) continue;
      tx.remove('message', row);
      for (const table of ['messageDetail', 'townMessage'] as const)
        if (tx.get(table, { messageId })) tx.remove(table, { messageId });
    }
  },
};

/** See `RetentionStore.purgeOctets`. */
export const purgeOctets: Rule<
  {
    readonly certificates: readonly (CertificateId & Pick<Row<'certificate'>, 'holderId' | 'issuanceId'>)[];
    readonly beforeMs: number;
  },
  void
> = {
  action: 'purgeOctets',
  subject: ({ certificates }) => ({ certificates: certificates.length }),
  locks: ({ certificates }) =>
    [...new Set(certificates.map(({ holderId }) => holderId).filter((holderId) => holderId !== null))]
      .map((holderId) => exclusive('holder', holderId))
      .concat(ownCertificateLocks(certificates)),
  loads: ({ certificates }) =>
    certificates.flatMap((of) => [
      byKey('certificate', keyOf(of)),
      byKey('encoding', keyOf(of)),
      byKey('signature', keyOf(of)),
      byKey('evidence', { issuanceId: of.issuanceId }),
      byIndex('certificate', { issuanceId: of.issuanceId }),
    ]),
  decide: ({ certificates, beforeMs }, tx) => {
    for (const { issuanceId, ...of } of certificates) {
      const row = tx.get('certificate', keyOf(of));
      if (!row || row.notAfterMs >= beforeMs || row.holderId !== of.holderId) continue;
      for (const table of ['encoding', 'signature'] as const)
        if (tx.get(table, keyOf(of))) tx.remove(table, keyOf(of));
      // It is the proof of all certificates of the issuance, which may end on different days.
      const isOver = tx.find('certificate', { issuanceId }).every((each) => each.notAfterMs < beforeMs);
      if (isOver && tx.get('evidence', { issuanceId })) tx.remove('evidence', { issuanceId });
    }
  },
};
