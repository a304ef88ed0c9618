import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import { isAboutClass, type RestrictionFacts } from '../../core/model/restriction.ts';
import type { HistoryEntry } from '../api/certificate-store.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { deviceClassOf, effectOf } from './device-classes.ts';

type Line = HistoryEntry & Pick<Row<'history'>, 'eventPosition'>;
type Moment = readonly [action: string, atMs: number | null, change: string, reason: string | null];

/** What restrictions did to a certificate: it follows from the class of its phone, and is not written of each. */
export function restrictedLines(reader: RecordReader, key: CertificateId): Line[] {
  const certificate = reader.get('certificate', keyOf(key));
  const phone = certificate && deviceClassOf(reader, certificate);
  const of = phone && reader.get('phoneCertificate', keyOf(key));
  if (!of) return [];
  const { state, revokedMs } = certificate;
  const untilMs = Math.min(certificate.notAfterMs, state === 'revoked' ? (revokedMs ?? 0) : Number.MAX_VALUE);
  const effects = reader.find('restrictionEffect', {}).map(effectOf);
  const about = effects.filter((effect) => isAboutClass(effect, phone));
  return about.flatMap((effect) =>
    momentsOf(effect).flatMap(([action, atMs, change, reason]) => {
      if (atMs === null || atMs < of.sinceMs || atMs > untilMs) return [];
      const by = actorOf(reader, effect.restrictionId, action);
      const cause = {
        ...{
          event: `restriction-${action}`,
          cascadedFrom: null,
          partOf: `restriction:${effect.restrictionId}`,
        },
      };
      // Behind what was written at that moment.
      return [
        { ...keyOf(key), atMs, eventPosition: Number.MAX_SAFE_INTEGER, change, reason, cause, actor: by },
      ];
    }),
  );
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
