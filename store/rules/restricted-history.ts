import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import type { DeviceClass } from '../../core/model/device.ts';
import {
  classStatus,
  isAboutClass,
  type RestrictionFacts,
  restrictionsAfter,
  withoutAct,
} from '../../core/model/restriction.ts';
import type { HistoryEntry } from '../api/certificate-store.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { effectOf } from './device-classes.ts';

type Line = HistoryEntry & Pick<Row<'history'>, 'eventPosition'>;

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
  const lines: Line[] = [];
  for (const { phone, sinceMs, untilMs } of periods) {
    const moments = effects
      .filter((effect) => isAboutClass(effect, phone))
      .flatMap(momentsOf)
      .filter(({ atMs }) => atMs >= sinceMs && atMs < untilMs)
      .sort((a, b) => a.atMs - b.atMs);
    for (const { effect, action, atMs } of moments) {
      const after = restrictionsAfter(effects, { restrictionId: effect.restrictionId, atMs });
      const [was, is] = [withoutAct(after, { ...effect, action }), after].map((each) =>
        classStatus(phone, each),
      );
      // What is held by another as well stays held; what is revoked is so for good.
      if (was?.state === is?.state) continue;
      const change = is === undefined ? 'released' : is.state;
      const reason = is?.state === 'revoked' ? is.reason : is ? 'certificateHold' : null;
      const partOf = `restriction:${effect.restrictionId}`;
      const cause = { event: `restriction-${action}`, cascadedFrom: null, partOf };
      const actor = actorOf(reader, effect.restrictionId, action);
      // Behind what was written at that moment.
      const eventPosition = Number.MAX_SAFE_INTEGER;
      lines.push({ ...keyOf(key), atMs, eventPosition, change, reason, cause, actor });
    }
  }
  return lines;
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

interface Moment {
  readonly effect: RestrictionFacts;
  readonly action: 'hold' | 'revoke' | 'release';
  readonly atMs: number;
}

/** What a restriction has done, each by an act. */
const momentsOf = (effect: RestrictionFacts): Moment[] =>
  (
    [
      ['hold', effect.heldMs],
      ['revoke', effect.revokedMs],
      ['release', effect.endedMs],
    ] as const
  ).flatMap(([action, atMs]) => (atMs === null ? [] : [{ effect, action, atMs }]));

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
