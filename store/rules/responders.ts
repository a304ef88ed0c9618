import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import { changeStatus } from '../../core/model/revocation.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Actor } from '../api/certificate-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byKey, exclusive, type Rule } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { changeName, writeStatus } from './change.ts';
import { ownStatusOf } from './views.ts';

// Responder certificates by client. Each client has one in force for each authority and suite, and its predecessor for one
// hour, so that a stolen client key cannot accumulate delegations.

/** How long a responder certificate stays good after its successor is issued. */
const overlapMs = 3_600_000;
const dayMs = 86_400_000;
const prefix = 'responder:';

/** A client that answers for an authority with keys of a suite. */
export interface Responsibility {
  readonly client: string;
  readonly authority: string;
  readonly suite: string;
  /** Certificates that may be issued for it in 24 hours. */
  readonly perDay: number;
}

/** What `meta` keeps of a responsibility, as JSON. */
interface Issued {
  /** When certificates were issued, within the last 24 hours. */
  readonly issuedMs: readonly number[];
  /** Those that are not known to have ended, the newest last. */
  readonly certificates: readonly (CertificateId & { readonly sinceMs: number })[];
}

/** The row of `meta` that a responsibility is kept in. */
export const responderName = ({
  client,
  authority,
  suite,
}: Pick<Responsibility, 'client' | 'authority' | 'suite'>): string =>
  `${prefix}${client}:${authority}:${suite}`;

const nothingIssued: Issued = { issuedMs: [], certificates: [] };

/** Within a transaction: notes a responder certificate; `quota-exceeded` where the client has had too many of them. */
export function noteResponder(
  tx: Transaction,
  { client, authority, suite, perDay }: Responsibility,
  key: CertificateId,
  nowMs: number,
): void {
  const name = responderName({ client, authority, suite });
  const row = tx.get('meta', { name });
  const before = row ? (JSON.parse(row.value) as Issued) : nothingIssued;
  // Times in the future come from a clock that was ahead.
  const recent = before.issuedMs.filter((ms) => ms > nowMs - dayMs && ms <= nowMs);
  if (recent.length >= perDay) {
    const what = `${recent.length} responder certificates for ${authority} (${suite})`;
    throw new PkiError('quota-exceeded', `this client has had ${what} within 24 hours`);
  }
  const after: Issued = {
    issuedMs: [...recent, nowMs],
    certificates: [...before.certificates, { ...keyOf(key), sinceMs: nowMs }],
  };
  const value = JSON.stringify(after);
  if (row) tx.update('meta', { name, value }, row);
  else tx.insert('meta', { name, value });
}

const certificatesIn = ({ value }: Row<'meta'>): Issued['certificates'] =>
  (JSON.parse(value) as Issued).certificates;

const endSupersededOf: Rule<{ readonly actor: Actor; readonly name: string }, void> = {
  action: 'endResponders',
  actor: ({ actor }) => actor,
  subject: ({ name }) => ({ name }),
  locate: ({ name }) => [byKey('meta', { name })],
  locks: ({ name }, located) => {
    const row = located.get('meta', { name });
    const keys = row ? certificatesIn(row) : [];
    return [
      exclusive('meta', name),
      ...keys.map(({ authority, epoch, position }) => exclusive('certificate', authority, epoch, position)),
    ];
  },
  loads: ({ name }) => [
    byKey('meta', { name }, (row) => certificatesIn(row).map((key) => byKey('certificate', keyOf(key)))),
  ],
  decide: ({ name, actor }, tx, { nowMs }) => {
    const row = tx.get('meta', { name });
    if (row) endSuperseded(tx, row, { actor, nowMs });
  },
};

/** Revokes what has been superseded: a predecessor after its hour, and all that came before it at once. */
export async function endSupersededResponders(
  database: RecordDatabase,
  actor: Actor,
  nowMs: number,
): Promise<void> {
  const names = await database.read((reader) => {
    const ours = reader.find('meta', {}).filter(({ name }) => name.startsWith(prefix));
    return ours.filter((row) => superseded(reader, row, nowMs).length > 0).map(({ name }) => name);
  });
  for (const name of names) await database.run(endSupersededOf, { actor, name }, nowMs);
}

function endSuperseded(
  tx: Transaction,
  row: Row<'meta'>,
  { actor, nowMs }: { readonly actor: Actor; readonly nowMs: number },
): void {
  const ending = superseded(tx, row, nowMs);
  for (const certificate of ending) {
    if (certificate.notAfterMs <= nowMs) continue;
    const from = ownStatusOf(certificate);
    const to = changeStatus(from, { action: 'revoke', reason: 'superseded', invalidityMs: null }, nowMs);
    if (!to || to === from) continue;
    const cause = { event: 'responder-superseded', cascadedFrom: null, partOf: null };
    writeStatus(tx, { row: certificate, to, change: changeName({ to }), cause, actor, nowMs });
  }
  const issued = JSON.parse(row.value) as Issued;
  const certificates = issued.certificates.filter(
    (key) => !ending.some((end) => end.epoch === key.epoch && end.position === key.position),
  );
  tx.update('meta', { ...row, value: JSON.stringify({ ...issued, certificates }) }, row);
}

/** The certificates of a responsibility that must end or have ended; only a good certificate supersedes. */
function superseded(reader: RecordReader, row: Row<'meta'>, nowMs: number): Row<'certificate'>[] {
  const found = certificatesIn(row).map((key) => ({
    sinceMs: key.sinceMs,
    row: reader.get('certificate', keyOf(key)),
  }));
  const newest = found.findLastIndex(({ row }) => row?.state === 'good');
  const current = found[newest];
  if (!current) return [];
  const before = found.slice(0, newest);
  const predecessor = before.findLastIndex(({ row }) => row?.state === 'good');
  const isOver = Math.abs(nowMs - current.sinceMs) >= overlapMs;
  return before
    .filter((_, index) => index !== predecessor || isOver)
    .flatMap(({ row }) => (row ? [row] : []));
}
