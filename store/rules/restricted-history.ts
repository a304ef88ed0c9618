import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import type { DeviceClass } from '../../core/model/device.ts';
import { isAboutClass, type RestrictionFacts } from '../../core/model/restriction.ts';
import type { HistoryEntry } from '../api/certificate-store.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { effectOf } from './device-classes.ts';

type Line = HistoryEntry & Pick<Row<'history'>, 'eventPosition'>;
type Moment = readonly [action: string, atMs: number | null, change: string, reason: string | null];

/** A class that a certificate's phone was of for a time. */
interface Period {
  readonly phone: DeviceClass;
  readonly sinceMs: number;
  readonly untilMs: number;
}

/** What restrictions did to a certificate: it follows from the classes of its phone, and is not written of each. */
export function restrictedLines(reader: RecordReader, key: CertificateId): Line[] {
  const certificate = reader.get('certificate', keyOf(key));
  const periods = certificate ? periodsOf(reader, certificate) : [];
  if (periods.length === 0) return [];
  const effects = reader.find('restrictionEffect', {}).map(effectOf);
  return periods.flatMap(({ phone, sinceMs, untilMs }) =>
    effects
      .filter((effect) => isAboutClass(effect, phone))
      .flatMap((effect) =>
        momentsOf(effect).flatMap(([action, atMs, change, reason]) => {
          if (atMs === null || atMs < sinceMs || atMs >= untilMs) return [];
          const partOf = `restriction:${effect.restrictionId}`;
          const cause = { event: `restriction-${action}`, cascadedFrom: null, partOf };
          const actor = actorOf(reader, effect.restrictionId, action);
          // Behind what was written at that moment.
          const eventPosition = Number.MAX_SAFE_INTEGER;
          return [{ ...keyOf(key), atMs, eventPosition, change, reason, cause, actor }];
        }),
      ),
  );
}

/** Until it ended, or was revoked by itself. */
function periodsOf(reader: RecordReader, certificate: Row<'certificate'>): Period[] {
  const { state, revokedMs, notAfterMs } = certificate;
  const current = reader.get('phoneCertificate', keyOf(certificate));
  if (!current) return [];
  const endMs = Math.min(notAfterMs, state === 'revoked' ? (revokedMs ?? 0) : notAfterMs);
  const all = [...reader.find('formerClass', keyOf(certificate)), { ...current, untilMs: endMs }];
  return all.flatMap(({ deviceClass, sinceMs, untilMs }) => {
    const found = reader.get('deviceClass', { deviceClass });
    return found ? [{ phone: JSON.parse(found.facts) as DeviceClass, sinceMs, untilMs }] : [];
  });
}

const momentsOf = ({ heldMs, endedMs, revokedMs, reason }: RestrictionFacts): readonly Moment[] => [
  ['hold', heldMs, 'held', 'certificateHold'],
  ['revoke', revokedMs, 'revoked', reason],
  ['release', revokedMs === null ? endedMs : null, 'released', null],
];

/** Who had it happen: the second person, or in an emergency the first. */
function actorOf(reader: RecordReader, restrictionId: string, action: string): HistoryEntry['actor'] {
  const acts = reader.find('massAct', { restrictionId });
  const act = acts.find(
    (each) => each.action === action && (each.state === 'running' || each.state === 'done'),
  );
  const { proposedBy = '', approvedBy = null, actId = '' } = act ?? {};
  const approved = approvedBy === null ? {} : { approvedBy };
  return { client: proposedBy, role: 'revoker', requestId: actId, ...approved };
}
