import type { FeedEvent } from '../../core/feed/feed.ts';
import { keyOf } from '../../core/model/certificate-id.ts';
import { type DeviceClass, deviceClassName, deviceClassText } from '../../core/model/device.ts';
import { ownStatus } from '../../core/model/restriction.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { EntryDraft } from '../engine/audit-entry.ts';
import type { RecordReader, RecordWriter } from '../engine/record.ts';
import { effectOf } from '../rules/device-classes.ts';
import { ownStatusOf } from '../rules/views.ts';
import type { Row } from '../schema/schema.ts';
import type { Migration } from './migration.ts';
import { migrationEntries } from './migration-entry.ts';

/** Phones of one entry of the audit chain. */
const phonesAtOnce = 250;

/**
 * From restrictions that hold each certificate by itself to restrictions that are in effect for classes of phones. What a restriction holds is
 * held by the class of its phone from then on, and by nothing in its own row.
 */
export const toSchema7: Migration = {
  from: '6',
  to: '7',
  // Of a record of phones alone: a class, and an event, for each certificate.
  writes: 0.5,
  prepare: async (context, reader) => {
    const { writeEntry, writeMore } = await migrationEntries(toSchema7, context, reader);
    return (record) => {
      const { rows } = record;
      record.createMissing();
      if (rows.scan('deviceClass', { limit: 1 }).length > 0 || rows.find('restrictionEffect', {}).length > 0)
        throw new PkiError(
          'record-unavailable',
          'the record was altered: it has rows of a later schema; restore a backup',
        );
      record.dropIndex('mediumByplatformmodelmediumId');
      // Restrictions first: no follower takes what they hold for good in between.
      writeEntry(record, (draft) => restrictionsOf(rows, draft));
      for (const phones of phonesIn(rows))
        writeMore(record, (draft) => classify(rows, draft, phones, context.nowMs));
    };
  },
};

function* phonesIn(rows: RecordReader): Iterable<readonly Row<'medium'>[]> {
  let after: readonly string[] = [''];
  for (;;) {
    const media = rows.scan('medium', { order: ['mediumId'], after, limit: phonesAtOnce });
    const last = media.at(-1);
    if (!last) return;
    after = [last.mediumId];
    const phones = media.filter(({ type }) => type === 'phone');
    if (phones.length > 0) yield phones;
  }
}

/** What restrictions that are in force do; gives the events that say so. */
function restrictionsOf(rows: RecordWriter, draft: EntryDraft): FeedEvent[] {
  return rows.find('restriction', { state: 'in-force' }).map((restriction) => {
    const { restrictionId, match } = restriction;
    const acts = rows
      .find('massAct', { restrictionId })
      .filter(({ state }) => state === 'running' || state === 'done');
    const timeOf = (action: string): number | null => {
      const act = acts.find((each) => each.action === action);
      return act ? (act.approvedMs ?? act.proposedMs) : null;
    };
    const [revokedMs, endedMs] = [timeOf('revoke'), timeOf('release')];
    const reason = acts.find(({ action }) => action === 'revoke')?.reason ?? null;
    const effect: Row<'restrictionEffect'> = {
      ...{ restrictionId, match, version: 1, revokedMs, endedMs, reason },
      heldMs: timeOf('hold') ?? restriction.createdMs,
      state: endedMs === null || revokedMs !== null ? 'in-effect' : 'over',
      lastCohort: endedMs === null ? null : 0,
    };
    insert(rows, draft, 'restrictionEffect', effect);
    if (endedMs !== null) update(rows, draft, 'restriction', { ...restriction, state: 'ended' }, restriction);
    // What it has not come to is counted, and written, from the beginning.
    for (const act of acts)
      if (act.state === 'running')
        update(rows, draft, 'massAct', { ...act, cursor: null, phones: 0, certificates: 0 }, act);
    return { type: 'restriction', ...effectOf(effect) };
  });
}

/** Puts the classes of some phones on record; gives the events that say so. */
function classify(
  rows: RecordWriter,
  draft: EntryDraft,
  phones: readonly Row<'medium'>[],
  nowMs: number,
): FeedEvent[] {
  const events: FeedEvent[] = [];
  for (const phone of phones) {
    const { holderId, mediumId } = phone;
    const isModelUnknown = rows.get('unknownModel', { mediumId }) !== undefined;
    const text = deviceClassText({ ...phone, isModelUnknown }, 0);
    const deviceClass = deviceClassName(text);
    for (const row of rows.find('certificate', { holderId })) {
      if (row.mediumId !== mediumId || row.state === 'revoked' || row.state === 'retired') continue;
      if (!rows.get('deviceClass', { deviceClass })) {
        insert(rows, draft, 'deviceClass', { deviceClass, facts: text });
        events.push({ type: 'device-class', deviceClass, facts: JSON.parse(text) as DeviceClass });
      }
      const of = { ...keyOf(row), holderId, mediumId, deviceClass, version: 1, sinceMs: nowMs };
      insert(rows, draft, 'phoneCertificate', of);
      if (row.state === 'reserved') continue;
      const { notAfterMs, shard } = row;
      events.push({ type: 'device', ...keyOf(row), deviceClass, version: 1, notAfterMs, shard });
      events.push(...released(rows, draft, row));
    }
  }
  return events;
}

/** What a restriction held in the row itself is held by its class alone. */
function released(rows: RecordWriter, draft: EntryDraft, row: Row<'certificate'>): FeedEvent[] {
  const before = ownStatusOf(row);
  const { heldBy, ...status } = ownStatus(before, before, 0);
  const held = heldBy.length === 0 ? null : heldBy.join(' ');
  if (held === row.heldBy) return [];
  // It was held while it was being issued: it is good once it is signed.
  if (held === null && rows.get('reservation', { issuanceId: row.issuanceId })) {
    update(rows, draft, 'certificate', { ...row, ...status, state: 'reserved', heldBy: null }, row);
    return [];
  }
  const version = row.version + 1;
  update(rows, draft, 'certificate', { ...row, ...status, heldBy: held, version }, row);
  const change = status.state === 'good' ? 'released' : 'held';
  const { notAfterMs, shard } = row;
  return [{ type: 'status', change, ...keyOf(row), ...status, version, notAfterMs, shard }];
}

function insert<T extends 'restrictionEffect' | 'deviceClass' | 'phoneCertificate'>(
  rows: RecordWriter,
  draft: EntryDraft,
  table: T,
  row: Row<T>,
): void {
  rows.insert(table, row);
  draft.add(table, row as never, undefined, row);
}

function update<T extends 'restriction' | 'massAct' | 'certificate'>(
  rows: RecordWriter,
  draft: EntryDraft,
  table: T,
  row: Row<T>,
  before: Row<T>,
): void {
  rows.update(table, row, before);
  draft.add(table, row as never, before, row);
}
