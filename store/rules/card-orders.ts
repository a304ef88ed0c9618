import type { Mandate } from '../../core/model/desk.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { WantedIssuance } from '../api/certificate-store.ts';
import type { DeskStore } from '../api/desk-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byKey, exclusive, type Load } from '../engine/rule.ts';
import { deskLoads, deskLocks } from './desks.ts';
import { answeredOnce } from './once.ts';

// Orders of cards that replace good ones: their content is fixed as a second person approves them, and each line is used once.

/** Of each desk by itself: it learns of no other's orders. */
const codeOf = (mandate: Mandate | null | undefined): string => mandate?.desk?.code ?? '';
const cardOf = (cardId: string): string => `card:${cardId}`;

/** See `DeskStore.orderCards`. */
export const orderCards = answeredOnce<
  Parameters<DeskStore['orderCards']>[0],
  Awaited<ReturnType<DeskStore['orderCards']>>
>({
  action: 'orderCards',
  subject: ({ orderId, event, cards }) => ({ orderId, event, cards: cards.length }),
  locks: ({ cards, mandate }) => [
    ...cards.map(({ cardId }) => exclusive('medium', cardOf(cardId))),
    ...deskLocks(mandate),
  ],
  loads: ({ cards, mandate }) => [
    ...cards.map(({ cardId }) => byKey('cardOrder', { mediumId: cardOf(cardId), desk: codeOf(mandate) })),
    ...deskLoads(mandate),
  ],
  decide: ({ orderId, event, cards, mandate, expiresMs, scope }, tx, { nowMs }) => {
    for (const { holderId, cardId, replacesCardId } of cards) {
      const mediumId = cardOf(cardId);
      const desk = codeOf(mandate);
      const before = tx.get('cardOrder', { mediumId, desk });
      if (before && before.expiresMs > nowMs)
        throw new PkiError('in-use', `cards: ${cardId} is in the order ${before.orderId} already`);
      const row = {
        ...{ mediumId, orderId, holderId, replaces: cardOf(replacesCardId), event },
        ...{ desk, client: scope.client, expiresMs },
      };
      if (before) tx.update('cardOrder', row, before);
      else tx.insert('cardOrder', row);
    }
    return { orderId, cards: cards.length, expiresMs };
  },
});

/** Whether what is issued stands in an order, as it was approved. */
export function isOrdered(
  reader: RecordReader,
  { medium, mandate, succession }: Omit<WantedIssuance, 'scope'>,
  nowMs: number,
): boolean {
  const row = reader.get('cardOrder', { mediumId: medium.mediumId, desk: codeOf(mandate) });
  if (!row || row.expiresMs <= nowMs || succession?.target.type !== 'medium') return false;
  return (
    row.holderId === medium.holderId &&
    row.event === succession.event &&
    row.replaces === succession.target.mediumId
  );
}

/** Uses a line of an order up. */
export function useOrder(tx: Transaction, { medium, mandate }: Omit<WantedIssuance, 'scope'>): void {
  const key = { mediumId: medium.mediumId, desk: codeOf(mandate) };
  if (tx.get('cardOrder', key)) tx.remove('cardOrder', key);
}

/** What is read of orders, where a second person is wanted for a good card. */
export const orderLoads = ({
  medium,
  mandate,
}: Omit<WantedIssuance, 'scope' | 'certificates'>): readonly Load[] =>
  mandate?.approvalsWanted.includes('good-card')
    ? [byKey('cardOrder', { mediumId: medium.mediumId, desk: codeOf(mandate) })]
    : [];
