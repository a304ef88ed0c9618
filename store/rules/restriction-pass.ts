import { actorOfNode } from '../../core/model/act.ts';
import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import type { DeviceClass, DeviceMatch } from '../../core/model/device.ts';
import {
  type ClassStatus,
  classStatus,
  effectiveStatus,
  type RestrictionFacts,
  restrictionsAfter,
  withoutAct,
} from '../../core/model/restriction.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Actor } from '../api/certificate-store.ts';
import type { NoticeOccasion } from '../api/outbox-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { Transaction } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Load, type Rule } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { endIfLost } from './activation.ts';
import { effectOf, restrictionsLock, statusLoads } from './device-classes.ts';
import { issuanceLoads } from './holder-loads.ts';
import { notify, orderDeletion } from './outbox.ts';
import { type Cursor, matchingAfter, readMatching } from './restricted-phones.ts';
import { isOccupying } from './restrictions.ts';
import { ownStatusOf } from './views.ts';

// A restriction is in effect at once, for all phones that it matches. What others must learn of each phone is written afterwards, in a
// pass over them: notices that were asked for, and, where it revokes, orders of deletion. The pass counts the phones as well.

/** Pages of one step, at most: what they come to is written with the next thing that is to be written, or at the end of the step. */
const pagesMax = 20;

type Act = Row<'massAct'>;
type PhoneCertificate = Row<'phoneCertificate'>;

/** The act after a step, and certificates that were passed over, because their rows were altered. */
export interface PassStep {
  readonly act: Act;
  readonly altered: readonly CertificateId[];
}

interface Step {
  readonly actId: string;
  readonly actor: Actor;
  /** Where the act stood as the phones were read. */
  readonly from: string | null;
  readonly cursor: Cursor | undefined;
  readonly isLast: boolean;
  readonly phones: number;
  readonly certificates: number;
  /** Of which something may have to be written. */
  readonly concerned: readonly PhoneCertificate[];
}

/** Takes the next step of an act, if it is running: reads phones until something is to be written, and writes it. */
export async function takeStep(database: RecordDatabase, actId: string, nowMs: number): Promise<PassStep> {
  const { act, effect } = await database.read((reader) => {
    const found = reader.get('massAct', { actId });
    if (!found) throw new PkiError('not-found', 'no such bulk operation');
    return {
      act: found,
      effect: reader.get('restrictionEffect', { restrictionId: found.restrictionId }),
    };
  });
  if (act.state !== 'running') return { act, altered: [] };
  if (!effect) throw new PkiError('record-unavailable', 'what the restriction does is not on record');
  const { step, altered } = await readPages(database, act, effect, nowMs);
  return { act: await database.run(writeStep, step, nowMs), altered };
}

/** Pages until one has something that is to be written: a transaction for each, so that others write in between. */
async function readPages(
  database: RecordDatabase,
  act: Act,
  effect: Row<'restrictionEffect'>,
  nowMs: number,
): Promise<{ readonly step: Step; readonly altered: readonly CertificateId[] }> {
  const about = { match: JSON.parse(effect.match) as DeviceMatch, lastCohort: effect.lastCohort };
  const altered: CertificateId[] = [];
  const concerned: PhoneCertificate[] = [];
  let cursor = act.cursor === null ? undefined : (JSON.parse(act.cursor) as Cursor);
  let [phones, certificates, isLast] = [0, 0, false];
  for (let pages = 0; pages < pagesMax && !isLast && concerned.length === 0; pages += 1) {
    const from = cursor;
    const { page, read } = await database.read((reader) => {
      const page = matchingAfter(reader, about, from);
      return { page, read: readMatching(reader, page.rows) };
    });
    ({ cursor, isLast } = page);
    altered.push(...read.altered);
    const live = read.found.filter(({ row, own }) => isOccupying({ ...row, state: own }, nowMs));
    phones += new Set(live.map(({ of }) => of.mediumId)).size;
    certificates += live.length;
    for (const { of, row } of live) if (act.action === 'revoke' || row.notify !== null) concerned.push(of);
    await new Promise((resolve) => setImmediate(resolve));
  }
  const actor = actorOfNode(database.writer, act.actId);
  const counted = { phones, certificates };
  return {
    step: { actId: act.actId, actor, from: act.cursor, cursor, isLast, ...counted, concerned },
    altered,
  };
}

/** What is read of one certificate: little, unless it has to arrive, or is watched. */
const concernedLoads = (of: PhoneCertificate): readonly Load[] => [
  byKey('certificate', keyOf(of), (row) => {
    const { issuanceId } = row;
    return [
      ...statusLoads(row),
      byKey('succession', { issuanceId }, () => issuanceLoads(issuanceId)),
      byKey('activation', { issuanceId }, ({ state }) =>
        state === 'awaited' ? [...issuanceLoads(issuanceId), ...messagesOf(of)] : [],
      ),
      ...(row.notify === null
        ? []
        : [byKey('wish', { holderId: of.holderId }), byIndex('watch', keyOf(row))]),
    ];
  }),
];

const messagesOf = ({ mediumId, holderId }: PhoneCertificate): readonly Load[] => {
  const each = (row: Row<'message'>) => (row.holderId === holderId ? [byKey('certificate', keyOf(row))] : []);
  return [byIndex('message', { mediumId }, { each })];
};

const writeStep: Rule<Step, Act> = {
  action: 'advance',
  actor: ({ actor }) => actor,
  subject: ({ actId }) => ({ actId }),
  locks: ({ concerned }) => [
    exclusive('mass-acts'),
    restrictionsLock,
    ...concerned.flatMap(({ holderId, mediumId }) => [
      exclusive('holder', holderId),
      exclusive('medium', mediumId),
    ]),
  ],
  loads: ({ actId, concerned }) => [
    byKey('massAct', { actId }),
    byIndex('restrictionEffect', {}),
    ...concerned.flatMap(concernedLoads),
  ],
  decide: (step, tx, { nowMs }) => {
    const act = tx.get('massAct', { actId: step.actId });
    if (!act) throw new PkiError('not-found', 'no such bulk operation');
    // Advanced by another node meanwhile.
    if (act.state !== 'running' || act.cursor !== step.from) return act;
    const changeOf = changesBy(tx, act);
    const ended = new Set<string>();
    for (const key of step.concerned) {
      const row = tx.part('certificate', keyOf(key), read);
      const of = tx.get('phoneCertificate', keyOf(key));
      const change = of && changeOf(of);
      if (row && change && writeOf(tx, act, { of, row, change, nowMs })) ended.add(row.issuanceId);
    }
    for (const issuanceId of ended) endIfLost(tx, issuanceId);
    const after = {
      ...act,
      cursor: step.cursor ? JSON.stringify(step.cursor) : null,
      phones: act.phones + step.phones,
      certificates: act.certificates + step.certificates,
      ...(step.isLast ? { state: 'done', finishedMs: nowMs } : {}),
    };
    tx.update('massAct', after, act);
    return after;
  },
};

/** What is read of a certificate. */
const read = [
  'state',
  'reason',
  'revokedMs',
  'invalidityMs',
  'heldBy',
  'notAfterMs',
  'notify',
  'kind',
  'issuanceId',
] as const;

/** What restrictions made of a class just before an act, and by it. */
interface ClassChange {
  readonly before: ClassStatus | undefined;
  readonly after: ClassStatus | undefined;
}

/** What an act changed of each class: as of then, for others may have begun or ended since. undefined where the phone has come later. */
function changesBy(tx: Transaction, act: Act): (of: PhoneCertificate) => ClassChange | undefined {
  const effects = tx.find('restrictionEffect', {}).map(effectOf);
  const own = effects.find(({ restrictionId }) => restrictionId === act.restrictionId);
  const times: Readonly<Record<string, number | null | undefined>> = {
    ...{ hold: own?.heldMs, release: own?.endedMs, revoke: own?.revokedMs },
  };
  const atMs = times[act.action] ?? null;
  if (atMs === null) throw new PkiError('record-unavailable', 'what the restriction does is not on record');
  const after = restrictionsAfter(effects, { restrictionId: act.restrictionId, atMs });
  const before = withoutAct(after, act);
  const known = new Map<string, ClassChange>();
  return ({ deviceClass, sinceMs }) => {
    const change = known.get(deviceClass) ?? classChange(tx, deviceClass, before, after);
    known.set(deviceClass, change);
    return sinceMs > atMs ? undefined : change;
  };
}

function classChange(
  tx: Transaction,
  deviceClass: string,
  before: readonly RestrictionFacts[],
  after: readonly RestrictionFacts[],
): ClassChange {
  const found = tx.get('deviceClass', { deviceClass });
  if (!found) return { before: undefined, after: undefined };
  const phone = JSON.parse(found.facts) as DeviceClass;
  return { before: classStatus(phone, before), after: classStatus(phone, after) };
}

/** Writes what others must learn of one certificate; gives whether it has ceased by this act. */
function writeOf(
  tx: Transaction,
  { action }: Act,
  about: {
    readonly of: PhoneCertificate;
    readonly row: Pick<Row<'certificate'>, (typeof read)[number]>;
    readonly change: ClassChange;
    readonly nowMs: number;
  },
): boolean {
  const { of, row, change, nowMs } = about;
  const own = ownStatusOf(row);
  if (!isOccupying({ ...row, state: own.state }, nowMs)) return false;
  const [before, after] = [change.before, change.after].map((each) =>
    effectiveStatus(own, each, row.notAfterMs),
  );
  // Held or revoked by something else as well, it was so before.
  if (!before || !after || before.state === after.state) return false;
  const occasion = { hold: 'held', release: 'released', revoke: 'revoked' }[action] as
    | NoticeOccasion
    | undefined;
  const whole = row.notify === null ? undefined : tx.get('certificate', keyOf(of));
  if (whole && occasion) notify(tx, whole, { occasion, reason: after.reason, nowMs });
  if (action !== 'revoke') return false;
  orderDeletion(tx, { ...of, kind: row.kind }, nowMs);
  return true;
}
