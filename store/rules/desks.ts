import { ApprovalNeeded } from '../../core/model/approval.ts';
import { type DeskFunction, functionsOfKind, type Mandate } from '../../core/model/desk.ts';
import type { Consequence } from '../../core/model/plan.ts';
import type { RecordedStatus } from '../../core/model/revocation.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateView, WantedIssuance } from '../api/certificate-store.ts';
import type { RecordedDesk } from '../api/desk-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byKey, type Load, type Lock, shared } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { isRelease } from './change.ts';
import { countOfDay, dayCountLoad, dayCountLock } from './day-count.ts';
import { orderTownNotice } from './outbox.ts';

// In whose name a caller acts: desks, and the municipalities on whose holders they act. Whose holder one is does not show in a refusal:
// to a caller that may not act on one, there is none.

type Named = Mandate | null | undefined;

/** Of how many acts a desk has done on a day. */
const counter = (code: string): string => `desk:${code}`;

export const deskLocks = (mandate: Named): readonly Lock[] =>
  mandate?.desk ? [shared('desk', mandate.desk.code), dayCountLock(counter(mandate.desk.code))] : [];

export const deskLoads = (mandate: Named): readonly Load[] =>
  mandate?.desk
    ? [byKey('desk', { deskCode: mandate.desk.code }), dayCountLoad(counter(mandate.desk.code))]
    : [];

export function deskView(row: Row<'desk'>): RecordedDesk {
  const listed = (column: string): string[] => JSON.parse(column) as string[];
  return {
    ...row,
    kind: row.kind as RecordedDesk['kind'],
    functions: listed(row.functions) as DeskFunction[],
    municipalities: listed(row.municipalities),
  };
}

const notAllowed = (what: string): PkiError => new PkiError('desk-not-allowed', what);

/** What the desk of a mandate is now; undefined where there is none. Throws `desk-not-allowed` where it may not do what is done. */
function deskIn(
  reader: RecordReader,
  { desk: named }: Mandate,
  nowMs: number,
): Pick<RecordedDesk, 'municipalities' | 'functions' | 'actsPerDay'> | undefined {
  if (!named) return undefined;
  const { code, function: wanted, otherwise } = named;
  const row = reader.get('desk', { deskCode: code });
  const unrecorded = otherwise && {
    functions: functionsOfKind[otherwise] as readonly DeskFunction[],
    municipalities: ['*'],
    actsPerDay: null,
  };
  const desk = row ? deskView(row) : unrecorded;
  if (!desk) throw notAllowed(`desk ${code} is not on record: an administrator records it (POST /v1/desks)`);
  if (row?.suspendedMs != null) throw notAllowed(`desk ${code} is suspended`);
  if (row && (row.validFromMs > nowMs || (row.validToMs ?? Number.POSITIVE_INFINITY) <= nowMs))
    throw notAllowed(`desk ${code} is not open on this day`);
  if (wanted !== null && !desk.functions.includes(wanted))
    throw notAllowed(`desk ${code} does not ${wanted}: it may ${desk.functions.join(', ')}`);
  return desk;
}

/** Throws `desk-not-allowed` where the desk of a mandate may not do what is done. */
export function checkDeskOf(reader: RecordReader, mandate: Mandate, nowMs: number): void {
  deskIn(reader, mandate, nowMs);
}

/** Counts an act of a desk; `quota-exceeded` where it has done as many as it may on that day. */
export function countDeskAct(tx: Transaction, mandate: Named, nowMs: number): void {
  const desk = mandate && deskIn(tx, mandate, nowMs);
  if (!mandate?.desk || desk?.actsPerDay == null) return;
  if (!countOfDay(tx, counter(mandate.desk.code), desk.actsPerDay, nowMs))
    throw new PkiError(
      'quota-exceeded',
      `desk ${mandate.desk.code} has done ${desk.actsPerDay} acts today, as many as it may`,
    );
}

/** The municipalities on whose holders a mandate reaches; null: the nation's. */
function reachOf(reader: RecordReader, mandate: Mandate, nowMs: number): readonly string[] | null {
  const present = (code: string): string => mandate.merged[code] ?? code;
  const desk = deskIn(reader, mandate, nowMs)?.municipalities;
  const ofDesk = desk === undefined || desk.includes('*') ? null : desk.map(present);
  const ofClient = mandate.municipalities?.map(present) ?? null;
  if (ofDesk === null || ofClient === null) return ofDesk ?? ofClient;
  return ofDesk.filter((code) => ofClient.includes(code));
}

/** Whether a mandate reaches a holder. Of what belongs to no holder only the nation disposes. */
export function reaches(
  reader: RecordReader,
  mandate: Named,
  holderId: string | null | undefined,
  nowMs: number,
): boolean {
  const reach = mandate ? reachOf(reader, mandate, nowMs) : null;
  if (!mandate || reach === null) return true;
  const town = holderId == null ? undefined : reader.get('holderTown', { holderId });
  return town !== undefined && reach.includes(mandate.merged[town.municipality] ?? town.municipality);
}

/**
 * Refuses a desk that does not act for the municipality that issues, and a holder of another one: that may move here with the card on
 * record, which has signed for the event of a move.
 */
export function refuseOtherTown(
  reader: RecordReader,
  { mandate, municipality }: Pick<WantedIssuance, 'mandate' | 'municipality'>,
  of: { readonly holderId: string; readonly mayMove: boolean },
  nowMs: number,
): void {
  if (!mandate) return;
  const reach = reachOf(reader, mandate, nowMs);
  if (municipality == null) return;
  if (reach !== null && !reach.includes(municipality))
    throw notAllowed(`desk ${mandate.desk?.code} does not act for municipality ${municipality}`);
  const town = reader.get('holderTown', { holderId: of.holderId });
  const present = town && (mandate.merged[town.municipality] ?? town.municipality);
  if (present === undefined || present === municipality || of.mayMove) return;
  // For the one before it acts as well, and may move holders between them.
  const isOfBoth = reach === null || reach.includes(present);
  const isRecorded = mandate.desk && reader.get('desk', { deskCode: mandate.desk.code }) !== undefined;
  if (isOfBoth && (!isRecorded || mandate.desk?.function === 'move')) return;
  throw notAllowed(
    'the holder is not of that municipality: the register reports the move first, or the card on record signs for it (signedChange)',
  );
}

/** Whether a certificate is in its holder's hands: good, or held for another reason than that it has not arrived. */
const isInHand = ({ state, heldBy }: RecordedStatus): boolean =>
  state === 'good' || (state === 'held' && heldBy.some((by) => by !== 'not-delivered'));

/**
 * Refuses with `ApprovalNeeded` what gives trust on one person's word: releasing what is held; ending card certificates by issuing others,
 * a signing certificate on a card in use that has never had one, and a card in the place of one that the same client has ended, unless the
 * card has signed for it, or two persons have ordered it. One that is held counts like a good one: anyone can report a loss.
 */
export function refuseAlone(
  wanted: Omit<WantedIssuance, 'scope'> & { readonly isOrdered: boolean },
  consequence: Pick<Consequence, 'changes'> | null,
  of: {
    readonly onMedium: readonly CertificateView[];
    /** Whether the client that issues is the one that ended the holder's last card. */
    readonly endedByItself: () => boolean;
  },
): void {
  const { mandate, isSignedByCard, certificates, succession } = wanted;
  const { onMedium } = of;
  const acts = mandate?.approvalsWanted ?? [];
  const changes = consequence?.changes ?? [];
  if (acts.includes('release') && changes.some(isRelease)) throw new ApprovalNeeded('release');
  if (isSignedByCard || wanted.isOrdered || !acts.includes('good-card')) return;
  const endsCard = changes.some(
    ({ kind, from, to }) => kind.startsWith('card-') && isInHand(from) && to.state === 'revoked',
  );
  const isFirstSigning =
    succession === null &&
    certificates.some(({ kind }) => kind === 'card-signing') &&
    onMedium.some((view) => view.kind === 'card-authentication' && view.state === 'good') &&
    !onMedium.some(({ kind }) => kind === 'card-signing');
  const isToCard = certificates.some(({ kind }) => kind.startsWith('card-'));
  if (endsCard || isFirstSigning || (isToCard && of.endedByItself())) throw new ApprovalNeeded('good-card');
}

/** Records the municipality that a holder is of from now on; the one before is told. */
export function settleHolder(
  tx: Transaction,
  holderId: string,
  municipality: string,
  { merged, nowMs }: { readonly merged: Mandate['merged']; readonly nowMs: number },
): void {
  const before = tx.get('holderTown', { holderId });
  const row = { holderId, municipality, changedMs: nowMs };
  const old = before && (merged[before.municipality] ?? before.municipality);
  if (!before) tx.insert('holderTown', row);
  if (!before || old === undefined || old === municipality) return;
  tx.update('holderTown', row, before);
  const [about] = tx.find('certificate', { holderId });
  if (about) orderTownNotice(tx, about, old, nowMs);
}
