import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import type { DeviceClass, DeviceMatch } from '../../core/model/device.ts';
import { effectiveStatus, isAboutClass } from '../../core/model/restriction.ts';
import type { CertificateState } from '../../core/model/revocation.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { classStatusesNow } from './device-classes.ts';
import { ownStatusOf } from './views.ts';

// Phones that match, found by their classes.

/** Certificates that are read at once: a thread is busy with them for a few milliseconds. */
const readAtOnce = 500;
/** Classes that are read at once, and how many are looked at in one page. */
const [classesAtOnce, classesMax] = [100, 1000];
const order = ['mediumId', 'authority', 'epoch', 'position'] as const;

type PhoneCertificate = Row<'phoneCertificate'>;

/** Where a pass over phones stands: behind this certificate. */
export type Cursor = readonly [
  deviceClass: string,
  mediumId: string,
  authority: string,
  epoch: number,
  position: number,
];

interface Page {
  readonly rows: readonly PhoneCertificate[];
  readonly cursor: Cursor | undefined;
  readonly isLast: boolean;
}

/** Certificates of phones that match, by class and phone, from behind a cursor on. All of one phone and class are in one page. */
export function matchingAfter(
  reader: RecordReader,
  about: { readonly match: DeviceMatch; readonly lastCohort: number | null },
  cursor: Cursor | undefined,
): Page {
  const rows: PhoneCertificate[] = [];
  let last = cursor?.[0];
  if (cursor) rows.push(...ofClass(reader, cursor[0], readAtOnce, cursor.slice(1)));
  for (let looked = 0; rows.length < readAtOnce; looked += classesAtOnce) {
    // Few of the classes may match: others have their turn in between.
    if (looked >= classesMax)
      return { rows, cursor: last === undefined ? cursor : behind(last), isLast: false };
    const after = last === undefined ? {} : { order: ['deviceClass'] as const, after: [last] };
    const classes = reader.scan('deviceClass', { limit: classesAtOnce, ...after });
    if (classes.length === 0) return { rows, cursor: cursorAt(rows.at(-1)) ?? cursor, isLast: true };
    for (const { deviceClass, facts } of classes) {
      if (rows.length >= readAtOnce) break;
      last = deviceClass;
      if (isAboutClass(about, JSON.parse(facts) as DeviceClass))
        rows.push(...ofClass(reader, deviceClass, readAtOnce - rows.length));
    }
  }
  const end = rows.at(-1);
  // The last phone may have more.
  const whole = rows.filter((row) => row.mediumId !== end?.mediumId || row.deviceClass !== end.deviceClass);
  const kept = whole.length > 0 ? whole : rows;
  return { rows: kept, cursor: cursorAt(kept.at(-1)), isLast: false };
}

function ofClass(
  reader: RecordReader,
  deviceClass: string,
  limit: number,
  after?: readonly (string | number)[],
): PhoneCertificate[] {
  const options = { where: { deviceClass }, order, limit };
  return reader.scan('phoneCertificate', after ? { ...options, after } : options);
}

/** Behind all phones of a class: no id is as high. */
const behind = (deviceClass: string): Cursor => [deviceClass, '\u{10ffff}', '', 0, 0];

const cursorAt = (row: PhoneCertificate | undefined): Cursor | undefined =>
  row && [row.deviceClass, row.mediumId, row.authority, row.epoch, row.position];

/** What is read of it. */
const read = ['state', 'reason', 'revokedMs', 'invalidityMs', 'heldBy', 'notAfterMs', 'notify'] as const;

/** A certificate of a phone that matches. */
export interface Matching {
  readonly of: PhoneCertificate;
  readonly row: Pick<Row<'certificate'>, (typeof read)[number]>;
  /** What it is, and what it is whatever restricts its phone. */
  readonly state: CertificateState;
  readonly own: CertificateState;
}

/** The certificates of a page, and those of which the row was altered. */
export function readMatching(
  reader: RecordReader,
  rows: readonly PhoneCertificate[],
): { readonly found: readonly Matching[]; readonly altered: readonly CertificateId[] } {
  const found: Matching[] = [];
  const altered: CertificateId[] = [];
  const statusOfClass = classStatusesNow(reader);
  for (const of of rows) {
    const row = reader.part('certificate', keyOf(of), read);
    if (!row) continue;
    try {
      const own = ownStatusOf(row);
      const { state } = effectiveStatus(own, statusOfClass?.(of.deviceClass), row.notAfterMs);
      found.push({ of, row, state, own: own.state });
    } catch (error) {
      if (!(error instanceof PkiError) || error.code !== 'record-unavailable') throw error;
      altered.push(keyOf(of));
    }
  }
  return { found, altered };
}
