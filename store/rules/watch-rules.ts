import { dateInJapan } from '../../core/model/calendar.ts';
import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { OperatorCommand } from '../api/outcome.ts';
import type { Watch, WatchStore } from '../api/watch-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Load, type Lock, type Rule } from '../engine/rule.ts';
import type { Key, Row } from '../schema/schema.ts';
import { holderLoads, holderLocation, holderLocks, ownCertificateLocks } from './holder-loads.ts';
import { answeredOnce } from './once.ts';
import { notify, want, wants, writeVerifierNotice } from './outbox.ts';
import { statusOf } from './views.ts';

// The rules of what verifiers watch, and of what they use.

type OfCertificate = OperatorCommand & { readonly verifier: string; readonly key: CertificateId };

const watchesLock = (verifier: string): Lock => exclusive('watches', verifier);
/** How many certificates a verifier watches. */
const counter = (verifier: string) => ({ name: `watches:${verifier}` });

export const locateHolder = ({ key }: { readonly key: CertificateId }): readonly Load[] => [
  byKey('certificate', keyOf(key), ({ holderId }) => (holderId === null ? [] : holderLocation(holderId))),
];

const holderOf = ({ key }: { readonly key: CertificateId }, located: RecordReader): string | null =>
  located.get('certificate', keyOf(key))?.holderId ?? null;

/** Of a certificate, its holder, and who watches it. */
export function certificateLocks(
  input: { readonly key: CertificateId },
  located: RecordReader,
): readonly Lock[] {
  const row = located.get('certificate', keyOf(input.key));
  return [...holderLocks(holderOf(input, located), located), ...ownCertificateLocks(row ? [row] : [])];
}

export function certificateLoads(
  input: { readonly key: CertificateId },
  located: RecordReader,
): readonly Load[] {
  const holderId = holderOf(input, located);
  return [
    byKey('certificate', keyOf(input.key)),
    byIndex('watch', keyOf(input.key)),
    ...(holderId === null ? [] : holderLoads(holderId)),
  ];
}

/** Of what one verifier watches. */
export const watchLocks = (verifier: string): readonly Lock[] => [
  watchesLock(verifier),
  exclusive('meta', counter(verifier).name),
];
export const watchLoads = (verifier: string, key: CertificateId): readonly Load[] => [
  byKey('watchDetail', { verifier, ...keyOf(key) }),
  byKey('meta', counter(verifier)),
];

/** A rule about one certificate of a holder, and one verifier. Throws `not-found` where there is no such certificate. */
function ofVerifier<Input extends OfCertificate, Outcome>(
  action: string,
  more: {
    readonly locks: (input: Input, holderId: string | null) => readonly Lock[];
    readonly loads: (input: Input, holderId: string | null) => readonly Load[];
    readonly decide: (tx: Transaction, input: Input, row: Row<'certificate'>, nowMs: number) => Outcome;
  },
): Rule<Input, Outcome> {
  return answeredOnce<Input, Outcome>({
    action,
    subject: ({ verifier, key }) => ({ verifier, ...keyOf(key) }),
    locate: locateHolder,
    locks: (input, located) => [
      ...certificateLocks(input, located),
      ...more.locks(input, holderOf(input, located)),
    ],
    loads: (input, located) => [
      ...certificateLoads(input, located),
      ...more.loads(input, holderOf(input, located)),
    ],
    decide: (input, tx, { nowMs }) => {
      const row = tx.get('certificate', keyOf(input.key));
      if (!row) throw new PkiError('not-found', 'no such certificate');
      return more.decide(tx, input, row, nowMs);
    },
  });
}

const watchView = (row: Row<'watchDetail'>): Watch => ({
  key: keyOf(row),
  reference: row.reference,
  createdMs: row.createdMs,
});

const watchedBy = (tx: Transaction, verifier: string): number =>
  Number(tx.get('meta', counter(verifier))?.value ?? 0);

function count(tx: Transaction, verifier: string, by: 1 | -1): void {
  const before = tx.get('meta', counter(verifier));
  const after = { ...counter(verifier), value: String(watchedBy(tx, verifier) + by) };
  if (before) tx.update('meta', after, before);
  else tx.insert('meta', after);
}

/** Has a verifier watch a certificate, or call it by another reference; undefined where it watches `max`: then nothing is written. */
export function addWatch(
  tx: Transaction,
  row: Row<'certificate'>,
  by: Pick<Parameters<WatchStore['watch']>[0], 'verifier' | 'reference' | 'max'> & { readonly nowMs: number },
): Watch | undefined {
  const { verifier, reference, max, nowMs } = by;
  const key = { verifier, ...keyOf(row) };
  const before = tx.get('watchDetail', key);
  if (before) {
    if (before.reference !== reference) tx.update('watchDetail', { ...before, reference }, before);
    return watchView({ ...before, reference });
  }
  if (watchedBy(tx, verifier) >= max) return undefined;
  count(tx, verifier, 1);
  const endsMs = row.notAfterMs > nowMs ? row.notAfterMs : null;
  const detail = { ...key, reference, createdMs: nowMs, endsMs };
  tx.insert('watchDetail', detail);
  tx.insertNew('watch', { ...keyOf(row), verifier, createdMs: nowMs });
  want(tx, row, wants.verifier, true);
  return watchView(detail);
}

/** See `WatchStore.watch`. */
export const watch = ofVerifier<Parameters<WatchStore['watch']>[0], Watch>('watch', {
  locks: ({ verifier }) => watchLocks(verifier),
  loads: ({ verifier, key }) => watchLoads(verifier, key),
  decide: (tx, { verifier, reference, max }, row, nowMs) => {
    const added = addWatch(tx, row, { verifier, reference, max, nowMs });
    if (!added)
      throw new PkiError('quota-exceeded', `the verifier watches ${max} certificates: end some first`);
    return added;
  },
});

/** See `WatchStore.end`. */
export const endWatch = ofVerifier<OfCertificate, Watch>('endWatch', {
  locks: ({ verifier }) => watchLocks(verifier),
  loads: ({ verifier, key }) => watchLoads(verifier, key),
  decide: (tx, { verifier }, row) => {
    const key = { verifier, ...keyOf(row) };
    const before = tx.get('watchDetail', key);
    if (!before) throw new PkiError('not-found', 'the verifier does not watch that certificate');
    tx.remove('watchDetail', key);
    tx.remove('watch', key);
    count(tx, verifier, -1);
    if (tx.find('watch', keyOf(row)).length === 0) want(tx, row, wants.verifier, false);
    return watchView(before);
  },
});

/** Notifies a verifier that a certificate which it watches has expired, once; of one that is revoked it knows more. */
export const noteExpiry: Rule<Key<'watchDetail'>, void> = {
  action: 'noteExpiry',
  subject: ({ verifier, ...key }) => ({ verifier, ...keyOf(key) }),
  locate: (key) => locateHolder({ key }),
  locks: ({ verifier, ...key }, located) => [...certificateLocks({ key }, located), watchesLock(verifier)],
  loads: ({ verifier, ...key }, located) => [
    ...certificateLoads({ key }, located),
    byKey('watchDetail', { verifier, ...keyOf(key) }),
  ],
  decide: (key, tx, { nowMs }) => {
    const detail = tx.get('watchDetail', key);
    const row = tx.get('certificate', keyOf(key));
    if (!detail || !row || detail.endsMs === null || detail.endsMs > nowMs) return;
    tx.update('watchDetail', { ...detail, endsMs: null }, detail);
    if (statusOf(tx, row).state === 'revoked') return;
    const { verifier } = key;
    writeVerifierNotice(tx, row, { verifier, occasion: 'expired', reason: null, nowMs });
  },
};

/** A day in Japan as a number: YYYYMMDD. */
export function dayNumber(nowMs: number): number {
  const { year, month, day } = dateInJapan(nowMs);
  return year * 10_000 + month * 100 + day;
}

/** See `WatchStore.used`. */
export const reportUse: Rule<Parameters<WatchStore['used']>[0] & { readonly day: number }, null> = ofVerifier<
  Parameters<WatchStore['used']>[0] & { readonly day: number },
  null
>('used', {
  locks: () => [],
  loads: ({ verifier, day }, holderId) =>
    holderId === null ? [] : [byKey('useCount', { day, verifier, holderId })],
  decide: (tx, { verifier, max, day }, row, nowMs) => {
    const { holderId } = row;
    if (holderId !== null) {
      const before = tx.get('useCount', { day, verifier, holderId });
      const uses = (before?.uses ?? 0) + 1;
      // No refusal: it would say which certificates are one person's.
      if (uses > max) return null;
      if (before) tx.update('useCount', { ...before, uses }, before);
      else tx.insert('useCount', { day, verifier, holderId, uses });
    }
    notify(tx, row, { occasion: 'used', reason: null, nowMs, verifier });
    return null;
  },
});

/** Removes counts of days that are over. */
export const purgeUses: Rule<{ readonly rows: readonly Key<'useCount'>[] }, void> = {
  action: 'purgeUses',
  subject: () => ({}),
  locks: ({ rows }) => rows.map(({ holderId }) => exclusive('holder', holderId)),
  loads: ({ rows }) => rows.map((key) => byKey('useCount', key)),
  decide: ({ rows }, tx) => {
    for (const key of rows) if (tx.get('useCount', key)) tx.remove('useCount', key);
  },
};
