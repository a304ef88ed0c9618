import { keyOf } from '../../core/model/certificate-id.ts';
import type { Mandate } from '../../core/model/desk.ts';
import type { Actor } from '../api/certificate-store.ts';
import type { RecordReader } from '../engine/record.ts';
import { byIndex, type Load } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';

// Who ended a holder's last card. A client that both ends and issues could put a card of its own in the place of any good one.

const isEndedCard = ({ kind, state }: Pick<Row<'certificate'>, 'kind' | 'state'>): boolean =>
  kind.startsWith('card-') && state === 'revoked';

/** What `endedLastBy` reads, where a second person is wanted for a good card. */
export const endLoads = (holderId: string, mandate: Mandate | null | undefined): readonly Load[] =>
  mandate?.approvalsWanted.includes('good-card')
    ? [
        byIndex(
          'certificate',
          { holderId },
          { each: (row) => (isEndedCard(row) ? [byIndex('history', keyOf(row))] : []) },
        ),
      ]
    : [];

/** Whether a client is the one that ended the last of a holder's cards before its time, or moved that one's last day forward. */
export function endedLastBy(reader: RecordReader, holderId: string, client: string, nowMs: number): boolean {
  const forward = reader.find('movedDay', { holderId }).filter(({ fromMs, toMs }) => toMs < fromMs);
  const moved = new Set(forward.map(({ mediumId }) => mediumId));
  const hasMoved = reader
    .find('lifeEvent', { holderId })
    .some((event) => event.client === client && event.mediumId !== null && moved.has(event.mediumId));
  if (hasMoved) return true;
  const ended = reader
    .find('certificate', { holderId })
    .filter((row) => isEndedCard(row) && row.notAfterMs > nowMs);
  const ends = ended
    .flatMap((row) => reader.find('history', keyOf(row)))
    .filter(({ change }) => change === 'revoked')
    .sort((a, b) => b.atMs - a.atMs);
  return ends[0] !== undefined && (JSON.parse(ends[0].actor) as Actor).client === client;
}
