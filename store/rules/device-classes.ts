import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
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
import { byIndex, byKey, type Load, type Lock, shared } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';

// Which class the phone of a certificate is of, and what restrictions make of it.

type OfCertificate = Pick<Row<'certificate'>, 'authority' | 'epoch' | 'position' | 'kind'>;

const isOfPhone = ({ kind }: Pick<OfCertificate, 'kind'>): boolean => kind.startsWith('phone-');

/** What every rule holds that reads the status of phones’ certificates: a restriction begins and ends between two of them. */
export const restrictionsLock: Lock = shared('restrictions');

export const restrictionLoads: readonly Load[] = [byIndex('restrictionEffect', { state: 'in-effect' })];

/** The class that a phone has, if what is issued to it is issued now: of each cohort that may be the current one. */
export function classLoads(medium: Medium): readonly Load[] {
  if (medium.type !== 'phone') return [];
  const { mediumId } = medium;
  const told = byKey('phoneReport', { mediumId }, (report) => [...classesOf(withReport(medium, report))]);
  return [...classesOf(medium), told];
}

/** The classes that facts name: of each cohort that may be the current one, or was. */
export function classesOf(facts: DeviceFacts): readonly Load[] {
  const ofCohort = (cohort: number): Load =>
    byKey('deviceClass', { deviceClass: deviceClassName(deviceClassText(facts, cohort)) });
  const each = ({ lastCohort }: Row<'restrictionEffect'>): readonly Load[] =>
    lastCohort === null ? [] : [ofCohort(lastCohort + 1)];
  return [ofCohort(0), byIndex('restrictionEffect', { state: 'in-effect' }, { each })];
}

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
  if (!isOfPhone(row)) return undefined;
  return statusesNow(reader)(row);
}

/** The same of many phones' certificates at one moment: the restrictions are read once, and a class once. */
export function statusesNow(reader: RecordReader): (key: CertificateId) => ClassStatus | undefined {
  const statusOfClass = classStatusesNow(reader);
  if (!statusOfClass) return () => undefined;
  return (key) => {
    const of = reader.get('phoneCertificate', keyOf(key));
    return of && statusOfClass(of.deviceClass);
  };
}

/** The same by the names of classes; undefined where nothing is restricted. */
export function classStatusesNow(
  reader: RecordReader,
): ((deviceClass: string) => ClassStatus | undefined) | undefined {
  const effects = reader.find('restrictionEffect', { state: 'in-effect' });
  if (effects.length === 0) return undefined;
  const known = workedOut(effects);
  return (deviceClass) => known.statusOf(deviceClass, reader);
}

/** Of how many classes it is remembered what was worked out. */
const classesMax = 10_000;

/** What one set of restrictions makes of classes: worked out once for each, for a pass asks of the same ones a million times. */
class WorkedOut {
  readonly #effects: readonly RestrictionFacts[];
  readonly #statuses = new Map<string, ClassStatus | undefined>();

  constructor(effects: readonly Row<'restrictionEffect'>[]) {
    this.#effects = effects.map(effectOf);
  }

  statusOf(deviceClass: string, reader: RecordReader): ClassStatus | undefined {
    if (this.#statuses.has(deviceClass)) return this.#statuses.get(deviceClass);
    const found = reader.get('deviceClass', { deviceClass });
    if (!found) return undefined;
    const status = classStatus(JSON.parse(found.facts) as DeviceClass, this.#effects);
    if (this.#statuses.size >= classesMax) this.#statuses.clear();
    this.#statuses.set(deviceClass, status);
    return status;
  }
}

let last = { key: '', workedOut: new WorkedOut([]) };

/** The same object for the same restrictions, of which an id and a version never say something else. */
function workedOut(effects: readonly Row<'restrictionEffect'>[]): WorkedOut {
  const key = effects.map(({ restrictionId, version }) => `${restrictionId}:${version}`).join();
  if (last.key !== key) last = { key, workedOut: new WorkedOut(effects) };
  return last.workedOut;
}

/** The class of a certificate's phone; undefined where it is not known: of certificates that a restore adopted. */
export function deviceClassOf(reader: RecordReader, row: OfCertificate): DeviceClass | undefined {
  const of = reader.get('phoneCertificate', keyOf(row));
  const found = of && reader.get('deviceClass', { deviceClass: of.deviceClass });
  return found && (JSON.parse(found.facts) as DeviceClass);
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

/** Puts on record what a phone says of its app and applet; what it leaves out stays as it was. */
export function noteReport(
  tx: Transaction,
  phone: Pick<Phone, 'mediumId' | 'holderId' | 'appletVersion' | 'appVersion'>,
  nowMs: number,
): void {
  const { mediumId, holderId, appletVersion = null, appVersion = null } = phone;
  const before = tx.get('phoneReport', { mediumId });
  if (appletVersion === null && appVersion === null && !before) return;
  const known = before?.holderId === holderId ? before : undefined;
  const row = {
    ...{ mediumId, holderId, reportedMs: nowMs },
    appletVersion: appletVersion ?? known?.appletVersion ?? null,
    appVersion: appVersion ?? known?.appVersion ?? null,
  };
  if (before) tx.update('phoneReport', row, before);
  else tx.insert('phoneReport', row);
}

/**
 * Has certificates that a phone carries be of what is known of it now: each keeps its cohort. One that a restriction has revoked stays of the
 * class of then, and revoked.
 */
export function reclassify(tx: Transaction, medium: Medium, nowMs: number): void {
  const { holderId, mediumId } = medium;
  for (const certificate of tx.find('certificate', { holderId })) {
    if (certificate.mediumId !== mediumId || certificate.state === 'revoked') continue;
    if (restrictedStatus(tx, certificate)?.state === 'revoked') continue;
    const before = isOfPhone(certificate) && tx.get('phoneCertificate', keyOf(certificate));
    const was = before && deviceClassOf(tx, certificate);
    if (!before || !was) continue;
    const deviceClass = keepClass(tx, deviceClassText(factsOf(tx, medium), was.cohort));
    if (deviceClass === before.deviceClass) continue;
    const row = { ...before, deviceClass, version: before.version + 1, sinceMs: nowMs };
    tx.update('phoneCertificate', row, before);
    const { version, sinceMs } = before;
    const former = { ...keyOf(before), version, deviceClass: before.deviceClass, sinceMs, untilMs: nowMs };
    tx.insert('formerClass', former);
    if (certificate.state !== 'reserved') announceClass(tx, certificate);
  }
}

/** Keeps a class under its name, and has followers know it where it is new. */
function keepClass(tx: Transaction, text: string): string {
  const deviceClass = deviceClassName(text);
  if (tx.insertNew('deviceClass', { deviceClass, facts: text }))
    tx.appendEvent({ type: 'device-class', deviceClass, facts: JSON.parse(text) as DeviceClass });
  return deviceClass;
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
