import type { Actor, RequestScope, Sealed } from '../../core/model/act.ts';
import type { RecordedReport, ReportedEvent } from '../../core/model/holder-life.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { answerIn } from './requests.ts';

// What was reported of holders. An id of a caller's stands for one event, for ever; what was reported under it gives the
// first answer.

/** What became of an event that a client reported under an id of its own. */
export function findReport(
  reader: RecordReader,
  client: string,
  eventId: string,
): RecordedReport | undefined {
  const [row] = reader.find('lifeEvent', { client, eventId });
  return row && reportOf(row);
}

function reportOf(row: Row<'lifeEvent'>): RecordedReport {
  const { contentHash, route, idempotencyKey, issuanceId } = row;
  return { contentHash, route, idempotencyKey, issuanceId, answer: answerIn(row) ?? null };
}

/** Refuses an id that the client has used: the two requests came at the same moment, or the first would have been answered again. */
export function refuseReported(reader: RecordReader, client: string, report: ReportedEvent): void {
  if (report.eventId === null) return;
  const before = findReport(reader, client, report.eventId);
  if (!before) return;
  if (Buffer.compare(before.contentHash, report.contentHash) !== 0)
    throw new PkiError('event-id-reused', 'eventId: stands for another event already');
  throw new PkiError('request-in-progress', 'eventId: the same event came at the same moment');
}

/** Entries of an issuance: of its event, and of its delivery where it was handed over at once. */
export const reportIds = (issuanceId: string): readonly [event: string, delivery: string] => [
  issuanceId,
  `${issuanceId}/delivery`,
];

/** Writes down what was reported, with what it was answered; of an issuance, under the issuance's id. */
export function recordReport(
  tx: Transaction,
  report: ReportedEvent,
  by: {
    readonly holderId: string;
    readonly scope: RequestScope;
    readonly actor: Actor;
    readonly issuanceId: string | null;
    readonly outcome: Sealed | null;
    readonly nowMs: number;
  },
): void {
  const { scope, issuanceId, outcome, nowMs } = by;
  const [first, second] = issuanceId === null ? [tx.newId(nowMs)] : reportIds(issuanceId);
  const isTaken = second !== undefined && tx.get('lifeEvent', { entryId: first }) !== undefined;
  tx.insert('lifeEvent', {
    entryId: isTaken ? second : first,
    holderId: by.holderId,
    mediumId: report.mediumId,
    event: report.event,
    client: scope.client,
    eventId: report.eventId,
    contentHash: report.contentHash,
    occurredMs: report.occurredMs ?? nowMs,
    isStated: report.occurredMs === null ? 0 : 1,
    recordedMs: nowMs,
    issuanceId,
    route: scope.route,
    idempotencyKey: scope.idempotencyKey,
    status: null,
    dataKey: outcome?.key ?? null,
    body: outcome?.octets ?? null,
    actor: JSON.stringify(by.actor),
  });
}
