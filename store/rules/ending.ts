import { type CertificateId, keyOf, sameKey } from '../../core/model/certificate-id.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateView, Ending, EndingCertificate } from '../api/certificate-store.ts';
import type { RecordReader } from '../engine/record.ts';
import { certificateView } from './views.ts';

/** Cards with a last day that moved, of one look at what ends. */
const movedMax = 10_000;

/** The order of ends. */
const order = ['notAfterMs', 'position', 'authority', 'epoch'] as const;

/**
 * Certificates of holders in force that end before a time, in the order of their ends, among so many rows from behind one on;
 * with the first rows also those that the last day of their card ends before their own.
 */
export function endingBefore(
  reader: RecordReader,
  within: {
    readonly nowMs: number;
    readonly beforeMs: number;
    readonly after: CertificateId | undefined;
    readonly limit: number;
  },
): Ending {
  const { nowMs, beforeMs, after, limit } = within;
  const from = after && reader.get('certificate', keyOf(after));
  if (after && !from) throw new PkiError('not-found', 'after: no such certificate');
  // Behind all that have ended: no position is as high.
  const behind = from
    ? order.map((column) => from[column])
    : [Math.floor(nowMs), Number.MAX_SAFE_INTEGER, '', 0];
  const rows = reader.scan('certificate', { order, after: behind, limit });
  const last = rows.at(-1);
  const ending = rows
    .filter((row) => row.notAfterMs <= beforeMs)
    .map((row) => certificateView(reader, row))
    .filter((view) => isInForce(view, nowMs))
    .map((view) => ({ ...view, endsMs: view.notAfterMs }));
  return {
    ending,
    outliving: after ? [] : outliving(reader, nowMs, beforeMs),
    next: rows.length < limit || !last || last.notAfterMs > beforeMs ? undefined : keyOf(last),
  };
}

const isInForce = (
  { state, holderId, notAfterMs }: Pick<CertificateView, 'state' | 'holderId' | 'notAfterMs'>,
  nowMs: number,
): boolean => (state === 'good' || state === 'held') && holderId !== null && notAfterMs > nowMs;

/** Certificates that the service ends with their card, before their own last day comes into sight. */
function outliving(reader: RecordReader, nowMs: number, beforeMs: number): EndingCertificate[] {
  const found: EndingCertificate[] = [];
  for (const { mediumId, holderId, toMs } of reader.findDue('movedDay', beforeMs, movedMax)) {
    const views = reader.find('certificate', { holderId }).map((row) => certificateView(reader, row));
    const onCard = views.filter((view) => view.mediumId === mediumId);
    const rests = ({ restsOn }: CertificateView): boolean =>
      restsOn !== null && onCard.some((card) => sameKey(card, restsOn));
    for (const view of views) {
      if ((view.mediumId !== mediumId && !rests(view)) || !isInForce(view, nowMs)) continue;
      if (view.notAfterMs > toMs && view.notAfterMs > beforeMs) found.push({ ...view, endsMs: toMs });
    }
  }
  return found;
}
