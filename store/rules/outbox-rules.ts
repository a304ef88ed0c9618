import { keyOf } from '../../core/model/certificate-id.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Message, OutboxStore } from '../api/outbox-store.ts';
import type { RecordReader } from '../engine/record.ts';
import { byKey, exclusive, type Load, type Lock, type Rule } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { answeredOnce } from './once.ts';
import { messageView } from './outbox.ts';

// The rules of messages: what becomes of them, and who wants them.

const messageLoads = (messageId: string): readonly Load[] => [
  byKey('message', { messageId }, (row) => [byKey('certificate', keyOf(row))]),
  byKey('messageDetail', { messageId }),
  byKey('townMessage', { messageId }),
];

/** A message is guarded by the locks of holder and medium that it is about. */
export const messageLocksOf = ({
  messageId,
  holderId,
  mediumId,
}: Pick<Row<'message'>, 'messageId' | 'holderId' | 'mediumId'>): readonly Lock[] => [
  holderId === null ? exclusive('message', messageId) : exclusive('holder', holderId),
  ...(mediumId === null ? [] : [exclusive('medium', mediumId)]),
];

const messageLocks = (messageId: string, located: RecordReader): readonly Lock[] =>
  messageLocksOf(located.get('message', { messageId }) ?? { messageId, holderId: null, mediumId: null });

/** See `OutboxStore.settle`. */
export const settle: Rule<Parameters<OutboxStore['settle']>[0], void> = {
  action: 'deliver',
  subject: ({ messageId }) => ({ messageId }),
  locate: ({ messageId }) => [byKey('message', { messageId })],
  locks: ({ messageId }, located) => messageLocks(messageId, located),
  loads: ({ messageId }) => [byKey('message', { messageId })],
  decide: ({ messageId, state, error, dueMs }, tx, { nowMs }) => {
    const row = tx.get('message', { messageId });
    // Confirmed meanwhile: what came of the attempt no longer matters.
    if (!row || row.state === 'confirmed') return;
    // Its verifier has fetched it while an attempt was under way.
    if (row.type === 'verifier-notice' && row.state === 'delivered') return;
    const deliveredMs = error === null ? (row.deliveredMs ?? nowMs) : row.deliveredMs;
    const attempts = error === null ? 0 : row.attempts + 1;
    tx.update('message', { ...row, state, dueMs, lastError: error, deliveredMs, attempts }, row);
  },
};

function changeMessage(
  action: string,
  changed: (row: Row<'message'>, nowMs: number) => Row<'message'>,
): Rule<Parameters<OutboxStore['confirm']>[0], Message> {
  return answeredOnce<Parameters<OutboxStore['confirm']>[0], Message>({
    action,
    subject: ({ messageId }) => ({ messageId }),
    locate: ({ messageId }) => [byKey('message', { messageId })],
    locks: ({ messageId }, located) => messageLocks(messageId, located),
    loads: ({ messageId }) => messageLoads(messageId),
    decide: ({ messageId }, tx, { nowMs }) => {
      const row = tx.get('message', { messageId });
      if (!row) throw new PkiError('not-found', 'no such message');
      const after = changed(row, nowMs);
      tx.update('message', after, row);
      // Readers of the answer get no address.
      return { ...messageView(tx, after), address: null };
    },
  });
}

/** See `OutboxStore.confirm`. */
export const confirm = changeMessage('confirm', (row, nowMs) => {
  if (row.type === 'personalisation')
    throw new PkiError(
      'illegal-transition',
      'what was stored is confirmed with POST /v1/issuances/{issuanceId}/storage, where the issuance is the instance',
    );
  if (row.type !== 'remote-deletion') throw new PkiError('illegal-transition', 'only orders are confirmed');
  return { ...row, state: 'confirmed', dueMs: null, confirmedMs: row.confirmedMs ?? nowMs };
});

/** See `OutboxStore.replay`. */
export const replay = changeMessage('replay', (row, nowMs) => {
  if (row.state !== 'dead')
    throw new PkiError('illegal-transition', `the message is ${row.state}, not given up`);
  return { ...row, state: 'waiting', attempts: 0, dueMs: nowMs };
});
