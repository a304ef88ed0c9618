import type { Actor } from '../../core/model/act.ts';
import type { AwaitedDelivery, HolderFacts, LifeEvent } from '../../core/model/holder-life.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { replacedIn } from './replaced.ts';

/** What plans depend on besides a holder's certificates. */
export function factsOf(reader: RecordReader, holderId: string): HolderFacts {
  const successions = reader.find('succession', { holderId });
  const activations = reader.find('activation', { holderId });
  const enrolments = reader.find('enrolment', { holderId });
  const awaited = activations.flatMap(({ issuanceId, mediumId, state }): AwaitedDelivery[] => {
    const succession = successions.find((row) => row.issuanceId === issuanceId);
    if (state !== 'awaited') return [];
    const { event = null, mediumId: replacedMediumId = null, overlapMs = 0 } = succession ?? {};
    return [{ issuanceId, mediumId, event, replacedMediumId, overlapMs }];
  });
  return {
    events: reader.find('lifeEvent', { holderId }).map(lifeEventView),
    awaited,
    ending: successions.flatMap(({ dueMs, replaced }) => (dueMs === null ? [] : replacedIn(replaced).ending)),
    enrolledWith: new Map(
      enrolments.map(({ issuanceId, signerAuthority, signerEpoch, signerPosition }) => [
        issuanceId,
        { authority: signerAuthority, epoch: signerEpoch, position: signerPosition },
      ]),
    ),
    movedDays: reader.find('movedDay', { holderId }).map(({ mediumId, changedMs, fromMs, toMs }) => ({
      mediumId,
      changedMs,
      fromMs,
      toMs,
    })),
  };
}

function lifeEventView(row: Row<'lifeEvent'>): LifeEvent {
  const { event, mediumId, occurredMs, isStated, recordedMs, eventId, issuanceId, actor } = row;
  const by = JSON.parse(actor) as Actor;
  return {
    event,
    mediumId,
    occurredMs,
    isStated: isStated === 1,
    recordedMs,
    eventId,
    issuanceId,
    actor: by,
  };
}
