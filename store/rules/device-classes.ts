import { keyOf } from '../../core/model/certificate-id.ts';
import {
  type DeviceClass,
  type DeviceFacts,
  type DeviceMatch,
  deviceClassName,
  deviceClassText,
} from '../../core/model/device.ts';
import { type ClassStatus, classStatus, type RestrictionFacts } from '../../core/model/restriction.ts';
import type { RevocationReason } from '../../core/model/revocation.ts';
import type { Medium, Phone } from '../api/certificate-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Load, type Lock, shared } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';

// Which class the phone of a certificate is of, and what restrictions make of it.

type OfCertificate = Pick<Row<'certificate'>, 'authority' | 'epoch' | 'position' | 'kind'>;

const isOfPhone = ({ kind }: Pick<OfCertificate, 'kind'>): boolean => kind.startsWith('phone-');

/** What every rule holds that reads the status of phones’ certificates: a restriction begins and ends between two of them. */
export const restrictionsLock: Lock = shared('restrictions');

export const restrictionLoads: readonly Load[] = [byIndex('restrictionEffect', { state: 'in-effect' })];

/** What classes a phone may come to is found by, before any lock is taken. */
export const classLocation = (mediumId: string): readonly Load[] => [
  byKey('phoneReport', { mediumId }),
  ...restrictionLoads,
];

/** Names of the classes that facts may come to: of each cohort that may be the current one. */
function classNames(facts: DeviceFacts, located: RecordReader): readonly string[] {
  const cohorts = effectsIn(located).map(({ lastCohort }) => (lastCohort ?? -1) + 1);
  return [...new Set([0, ...cohorts])].map((cohort) => deviceClassName(deviceClassText(facts, cohort)));
}

/** The names for a card or phone as it says now, also with what it has reported before; none for a card. */
export const namesFor = (medium: Medium, located: RecordReader): readonly string[] =>
  medium.type === 'phone'
    ? [...classNames(medium, located), ...classNames(factsOf(located, medium), located)]
    : [];

/** Of classes that may be put on record: two that meet the same kind of phone first do it one after the other. */
export const classLocks = (names: readonly string[]): readonly Lock[] =>
  [...new Set(names)].map((name) => exclusive('device-class', name));

export const classLoads = (names: readonly string[]): readonly Load[] =>
  [...new Set(names)].map((deviceClass) => byKey('deviceClass', { deviceClass }));

type Told = Pick<Row<'phoneReport'>, 'appletVersion' | 'appVersion' | 'holderId'>;

/** What is known of a phone: as it says now, and what it has reported before. A former holder's reports say nothing. */
function withReport(medium: Medium, report: Told | undefined): DeviceFacts {
  const { appletVersion: applet = null, appVersion: app = null } = medium.type === 'phone' ? medium : {};
  const known = report?.holderId === medium.holderId ? report : undefined;
  const appletVersion = applet ?? known?.appletVersion ?? null;
  return { ...medium, appletVersion, appVersion: app ?? known?.appVersion ?? null };
}

/** The same by the record. Reads `phoneReport` of it. */
export const factsOf = (reader: RecordReader, medium: Medium): DeviceFacts =>
  withReport(medium, reader.get('phoneReport', { mediumId: medium.mediumId }));

/** What the status of a certificate follows from, besides its own row. */
export const statusLoads = (row: OfCertificate): readonly Load[] =>
  isOfPhone(row)
    ? [
        byKey('phoneCertificate', keyOf(row), ({ deviceClass }) => [byKey('deviceClass', { deviceClass })]),
        ...restrictionLoads,
      ]
    : [];

export function effectOf({ state: _, match, reason, ...row }: Row<'restrictionEffect'>): RestrictionFacts {
  return { ...row, match: JSON.parse(match) as DeviceMatch, reason: reason as RevocationReason | null };
}

/** Restrictions of which the status of certificates may follow. */
export const effectsIn = (reader: RecordReader): RestrictionFacts[] =>
  reader.find('restrictionEffect', { state: 'in-effect' }).map(effectOf);

/** What restrictions make of a certificate; undefined where none is about it. */
export function restrictedStatus(reader: RecordReader, row: OfCertificate): ClassStatus | undefined {
  const statusOfClass = isOfPhone(row) ? classStatusesNow(reader) : undefined;
  const of = statusOfClass && reader.get('phoneCertificate', keyOf(row));
  return of && statusOfClass?.(of.deviceClass);
}

/** What they make of classes, by name, each worked out once; undefined where nothing is restricted. */
export function classStatusesNow(
  reader: RecordReader,
): ((deviceClass: string) => ClassStatus | undefined) | undefined {
  const effects = reader.find('restrictionEffect', { state: 'in-effect' });
  if (effects.length === 0) return undefined;
  const known = new WorkedOut(effects);
  return (deviceClass) => known.statusOf(deviceClass, reader);
}

/** What one set of restrictions makes of classes: worked out once for each. */
class WorkedOut {
  readonly #effects: readonly RestrictionFacts[];
  readonly #statuses = new Map<string, ClassStatus | undefined>();

  constructor(effects: readonly Row<'restrictionEffect'>[]) {
    this.#effects = effects.map(effectOf);
  }

  statusOf(deviceClass: string, reader: RecordReader): ClassStatus | undefined {
    if (this.#statuses.has(deviceClass)) return this.#statuses.get(deviceClass);
    const found = reader.get('deviceClass', { deviceClass });
    const status = found && classStatus(JSON.parse(found.facts) as DeviceClass, this.#effects);
    this.#statuses.set(deviceClass, status);
    return status;
  }
}

/** The cohort of what is issued now. */
export const currentCohort = (reader: RecordReader): number =>
  Math.max(-1, ...effectsIn(reader).map(({ lastCohort }) => lastCohort ?? -1)) + 1;

/** Puts on record of which class the phone of a new certificate is. Followers receive it with the certificate. */
export function insertPhoneCertificate(
  tx: Transaction,
  certificate: Row<'certificate'>,
  medium: Medium,
  nowMs: number,
): void {
  const { holderId, mediumId } = medium;
  const deviceClass = keepClass(tx, deviceClassText(factsOf(tx, medium), currentCohort(tx)));
  const row = { ...keyOf(certificate), holderId, mediumId, deviceClass, version: 1, sinceMs: nowMs };
  tx.insert('phoneCertificate', row);
}

const dayMs = 86_400_000;

/** Reports since when: a day at most. */
function countOf(before: Row<'phoneReport'> | undefined, more: number, nowMs: number) {
  const isToday = before !== undefined && nowMs - before.countedSinceMs < dayMs;
  return isToday
    ? { reports: before.reports + more, countedSinceMs: before.countedSinceMs }
    : { reports: more, countedSinceMs: nowMs };
}

/** Puts on record what a phone says of its app and applet; what it leaves out stays as it was. */
export function noteReport(
  tx: Transaction,
  phone: Pick<Phone, 'mediumId' | 'holderId' | 'appletVersion' | 'appVersion'>,
  nowMs: number,
  counts: 'counted' | 'not-counted' = 'not-counted',
): void {
  const { mediumId, holderId, appletVersion = null, appVersion = null } = phone;
  const before = tx.get('phoneReport', { mediumId });
  if (counts === 'not-counted' && appletVersion === null && appVersion === null && !before) return;
  const known = before?.holderId === holderId ? before : undefined;
  const row = {
    ...{ mediumId, holderId, reportedMs: nowMs },
    ...countOf(before, counts === 'counted' ? 1 : 0, nowMs),
    appletVersion: appletVersion ?? known?.appletVersion ?? null,
    appVersion: appVersion ?? known?.appVersion ?? null,
  };
  if (before) tx.update('phoneReport', row, before);
  else tx.insert('phoneReport', row);
}

/**
 * Moves certificates that a phone carries to the class of what is known of it now, in the current cohort: restrictions that revoked and have ended
 * do not apply to it. A revoked certificate keeps its class. A phone that enters a kind that is already restricted gets a class of its own, named
 * by `entered`: its restriction begins now. Returns the certificates that changed class.
 */
export function reclassify(
  tx: Transaction,
  medium: Medium,
  { nowMs, entered }: { readonly nowMs: number; readonly entered: string | null },
): Row<'certificate'>[] {
  const { holderId, mediumId } = medium;
  const text = deviceClassText(factsOf(tx, medium), currentCohort(tx));
  return tx.find('certificate', { holderId }).filter((certificate) => {
    const { state, notAfterMs } = certificate;
    if (certificate.mediumId !== mediumId || notAfterMs <= nowMs || state === 'retired') return false;
    const before = isOfPhone(certificate) && tx.get('phoneCertificate', keyOf(certificate));
    if (!before || state === 'revoked' || restrictedStatus(tx, certificate)?.state === 'revoked')
      return false;
    if (isSameKind(tx, before, text)) return false;
    const deviceClass = classFor(tx, text, { nowMs, entered });
    const row = { ...before, deviceClass, version: before.version + 1, sinceMs: nowMs };
    tx.update('phoneCertificate', row, before);
    const { version, sinceMs } = before;
    const former = { ...keyOf(before), version, deviceClass: before.deviceClass, sinceMs, untilMs: nowMs };
    tx.insert('formerClass', former);
    if (state !== 'reserved') announceClass(tx, certificate);
    return true;
  });
}

/** Whether a certificate's phone is what a class says, whatever its cohort and since when. */
function isSameKind(reader: RecordReader, row: Row<'phoneCertificate'>, text: string): boolean {
  const found = reader.get('deviceClass', { deviceClass: row.deviceClass });
  const plain = (facts: string): string => {
    const phone = JSON.parse(facts) as DeviceClass;
    return deviceClassText(phone, 0);
  };
  return found !== undefined && plain(found.facts) === plain(text);
}

/** Where a class of one phone alone is called by: the class of its kind, and what has brought it there. */
export const enteredName = (name: string, entered: string): string => `${name}.${entered}`;

function classFor(
  tx: Transaction,
  text: string,
  { nowMs, entered }: { readonly nowMs: number; readonly entered: string | null },
): string {
  const facts = JSON.parse(text) as DeviceClass;
  if (entered === null || !classStatus(facts, effectsIn(tx))) return keepClass(tx, text);
  const deviceClass = enteredName(deviceClassName(text), entered);
  // All certificates of the phone share it.
  if (!tx.get('deviceClass', { deviceClass })) putClass(tx, deviceClass, { ...facts, sinceMs: nowMs });
  return deviceClass;
}

/** Keeps a class under its name, and has followers know it where it is new. */
function keepClass(tx: Transaction, text: string): string {
  const deviceClass = deviceClassName(text);
  if (!tx.get('deviceClass', { deviceClass })) putClass(tx, deviceClass, JSON.parse(text) as DeviceClass);
  return deviceClass;
}

function putClass(tx: Transaction, deviceClass: string, facts: DeviceClass): void {
  tx.insert('deviceClass', { deviceClass, facts: JSON.stringify(facts) });
  tx.appendEvent({ type: 'device-class', deviceClass, facts });
}

/** Has followers know of which class a certificate's phone is. */
export function announceClass(tx: Transaction, certificate: Row<'certificate'>): void {
  const row = isOfPhone(certificate) && tx.get('phoneCertificate', keyOf(certificate));
  if (!row) return;
  const { deviceClass, version } = row;
  const { notAfterMs, shard } = certificate;
  tx.appendEvent({ type: 'device', ...keyOf(certificate), deviceClass, version, notAfterMs, shard });
}

/** Has followers know what a restriction does. */
export const announceEffect = (tx: Transaction, row: Row<'restrictionEffect'>): void =>
  tx.appendEvent({ type: 'restriction', ...effectOf(row) });
