import type { Warning } from '../../core/node/warnings.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';

// Holds that one person has made, and that wait for another. What is held stays so; what is warned of grows with the time and the number.

const [hour, day] = [3_600_000, 86_400_000];
/** From when on it is said again, louder. */
const ages: readonly (readonly [ms: number, said: string])[] = [
  [30 * day, 'for more than 30 days'],
  [7 * day, 'for more than 7 days'],
  [3 * day, 'for more than 3 days'],
  [day, 'for more than a day'],
  [4 * hour, 'for more than 4 hours'],
  [hour, 'for more than an hour'],
];
/** Proposals that are looked through. */
const rowsMax = 10_000;

const howLong = (ms: number): string => ages.find(([from]) => ms >= from)?.[1] ?? 'for less than an hour';

/** A number by its order, so that a warning is another one when there are ten times as many. */
function howMany(count: number): string {
  if (count >= rowsMax) return `${rowsMax} or more`;
  return count < 10 ? `${count}` : `more than ${10 ** Math.floor(Math.log10(count))}`;
}

/** What waits for a second person and holds meanwhile, as warnings. */
export function holdWarnings(database: RecordDatabase, nowMs: number): Promise<readonly Warning[]> {
  return database.read((reader) => {
    const emergencies = reader
      .find('restriction', { state: 'in-force' })
      .flatMap(({ restrictionId }) => reader.find('massAct', { restrictionId }))
      .filter(({ approvedBy, state }) => approvedBy === null && (state === 'running' || state === 'done'));
    const ofEmergency = emergencies.map(({ actId, restrictionId, proposedMs }): Warning => {
      const about = `restriction ${restrictionId}: ${howLong(nowMs - proposedMs)}`;
      const act = `another client looks at it, and approves it (POST /v1/mass-acts/${actId}/approval), or proposes its end`;
      return { kind: 'hold-unconfirmed', about, atMs: null, act };
    });
    const waiting = reader.scan('proposal', {
      ...{ where: { state: 'proposed' }, order: ['proposalId'], limit: rowsMax },
    });
    const byClient = new Map<string, number[]>();
    for (const { act, client, proposedMs } of waiting)
      if (act === 'mass-revocation') byClient.set(client, [...(byClient.get(client) ?? []), proposedMs]);
    const ofClients = [...byClient].map(([client, times]): Warning => {
      const about = `${howMany(times.length)} revocations of client ${client.slice(0, 16)}…: ${howLong(nowMs - (times[0] ?? nowMs))}`;
      const act =
        'ask who did it: approve them (POST /v1/proposal-approvals), or shut the client out and release what it held';
      return { kind: 'revocations-wait', about, atMs: null, act };
    });
    return [...ofEmergency, ...ofClients];
  });
}
