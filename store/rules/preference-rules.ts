import { keyOf } from '../../core/model/certificate-id.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type {
  AddressToConfirm,
  Language,
  NoticePreferences,
  PreferenceStore,
  PreferencesSet,
} from '../api/preference-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import { byKey, exclusive, type Load, type Rule } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { useChallenge } from './challenges.ts';
import { challengeLock, holderLoads, holderLocation, holderLocks } from './holder-loads.ts';
import { answeredOnce } from './once.ts';
import { orderNotice, want, wants, wantsNotices } from './outbox.ts';

// The rules of notice preferences. A new address takes effect once it is confirmed.

/** Wrong codes after which an address can no longer be confirmed. */
const wrongCodesMax = 5;
/** Codes that a holder can have sent within a day, to whatever addresses. */
const codesMax = 5;
const codesWithinMs = 86_400_000;

const preferenceLoads = (holderId: string): readonly Load[] => [
  ...holderLoads(holderId),
  byKey('wishLanguage', { holderId }),
  byKey('addressToConfirm', { holderId }, ({ messageId }) => [
    byKey('message', { messageId }, (row) => [byKey('certificate', keyOf(row))]),
  ]),
];

export const setPreferences = answeredOnce<Parameters<PreferenceStore['setPreferences']>[0], PreferencesSet>({
  action: 'setPreferences',
  subject: ({ occasions }) => ({ occasions }),
  locate: ({ holderId }) => holderLocation(holderId),
  locks: ({ holderId, challengeHash }, located) => [
    ...holderLocks(holderId, located),
    challengeLock(challengeHash),
  ],
  loads: ({ holderId, challengeHash }) => [
    byKey('challenge', { challengeHash }),
    ...preferenceLoads(holderId),
  ],
  decide: (command, tx, { nowMs }) => {
    const { scope, actor, holderId, occasions, language, mailAddress, changedMs, challengeHash } = command;
    useChallenge(tx, challengeHash, { scope, usedBy: actor.requestId, nowMs });
    const before = tx.get('wish', { holderId });
    if ((before?.changedMs ?? null) !== changedMs)
      throw new PkiError('request-in-progress', 'the preferences were changed at the same moment: ask again');
    const { dataKey = null, address = null } = mailAddress === null ? {} : (before ?? {});
    const row = { holderId, occasions: occasions.join(' '), dataKey, address, changedMs: nowMs };
    writePreferences(tx, { before, row, about: command.signedWith, nowMs });
    writeLanguage(tx, { holderId, language });
    const added = mailAddress === 'kept' ? null : mailAddress;
    if (added) askToConfirm(tx, command, added, nowMs);
    else forgetUnconfirmed(tx, holderId);
    return preferencesSet(row, language, added && command.expiresMs);
  },
});

export const countWrongCode: Rule<AddressToConfirm, void> = {
  action: 'countWrongCode',
  subject: () => ({}),
  locks: ({ holderId }) => [exclusive('holder', holderId)],
  loads: ({ holderId }) => [byKey('addressToConfirm', { holderId })],
  decide: ({ holderId, messageId }, tx) => {
    const row = tx.get('addressToConfirm', { holderId });
    if (row?.messageId !== messageId) return;
    tx.update('addressToConfirm', { ...row, wrongCodes: row.wrongCodes + 1 }, row);
  },
};

export const confirmAddress = answeredOnce<Parameters<PreferenceStore['confirmAddress']>[0], PreferencesSet>({
  action: 'confirmAddress',
  subject: () => ({}),
  locate: ({ holderId }) => holderLocation(holderId),
  locks: ({ holderId }, located) => holderLocks(holderId, located),
  loads: ({ holderId }) => preferenceLoads(holderId),
  decide: ({ holderId, messageId }, tx, { nowMs }) => {
    const row = tx.get('addressToConfirm', { holderId });
    const before = tx.get('wish', { holderId });
    const message = row && tx.get('message', { messageId: row.messageId });
    if (!before || !message || row.messageId !== messageId || !isOpen(row, nowMs))
      throw new PkiError('code-not-usable', 'no address waits for that code');
    const { dataKey, address } = row;
    const after = { ...before, dataKey, address, changedMs: nowMs };
    writePreferences(tx, { before, row: after, about: keyOf(message), nowMs });
    tx.remove('addressToConfirm', { holderId });
    const { language = 'ja' } = tx.get('wishLanguage', { holderId }) ?? {};
    return preferencesSet(after, language as Language, null);
  },
});

function preferencesSet(row: Row<'wish'>, language: Language, confirmByMs: number | null): PreferencesSet {
  const { occasions, mailAddress } = preferenceView(row, language);
  return { occasions, language, hasAddress: mailAddress !== null, confirmByMs };
}

export const isOpen = (
  { expiresMs, wrongCodes }: Pick<Row<'addressToConfirm'>, 'expiresMs' | 'wrongCodes'>,
  nowMs: number,
): boolean => expiresMs > nowMs && wrongCodes < wrongCodesMax;

export const addressView = ({
  holderId,
  messageId,
  expiresMs,
}: Row<'addressToConfirm'>): AddressToConfirm => ({
  holderId,
  messageId,
  expiresMs,
});

export function preferencesOf(reader: RecordReader, holderId: string): NoticePreferences | undefined {
  const row = reader.get('wish', { holderId });
  if (!row) return undefined;
  const { language = 'ja' } = reader.get('wishLanguage', { holderId }) ?? {};
  return preferenceView(row, language as Language);
}

function preferenceView(
  { holderId, occasions, dataKey, address, changedMs }: Row<'wish'>,
  language: Language,
): NoticePreferences {
  return {
    holderId,
    occasions: occasions.split(' ').filter((occasion) => occasion !== '') as NoticePreferences['occasions'],
    mailAddress: dataKey === null || address === null ? null : { key: dataKey, octets: address },
    language,
    changedMs,
  };
}

/** Writes the preferences, marks the holder's certificates for notification, and notifies the previous address. */
function writePreferences(
  tx: Transaction,
  write: {
    readonly before: Row<'wish'> | undefined;
    readonly row: Row<'wish'>;
    readonly about: Parameters<typeof keyOf>[0];
    readonly nowMs: number;
  },
): void {
  const { before, row, about, nowMs } = write;
  const { holderId } = row;
  if (before) tx.update('wish', row, before);
  else tx.insert('wish', row);
  for (const certificate of tx.find('certificate', { holderId }))
    want(tx, certificate, wants.holder, wantsNotices(row));
  if (!before) return;
  const signer = tx.get('certificate', keyOf(about));
  if (!signer) throw new Error('preferences that no certificate signed');
  const address =
    before.dataKey === null || before.address === null
      ? null
      : { key: before.dataKey, octets: before.address };
  orderNotice(tx, signer, { occasion: 'wishes-changed', address, nowMs });
}

function writeLanguage(tx: Transaction, row: Row<'wishLanguage'>): void {
  const before = tx.get('wishLanguage', { holderId: row.holderId });
  if (!before) tx.insert('wishLanguage', row);
  else if (before.language !== row.language) tx.update('wishLanguage', row, before);
}

/** Sends a code to an address, which counts once the code comes back. */
function askToConfirm(
  tx: Transaction,
  command: Parameters<PreferenceStore['setPreferences']>[0],
  address: { readonly key: string; readonly octets: Uint8Array },
  nowMs: number,
): void {
  const { holderId, signedWith, expiresMs } = command;
  const before = tx.get('addressToConfirm', { holderId });
  const isRecent = before !== undefined && nowMs - before.sinceMs < codesWithinMs;
  if (isRecent && before.codes >= codesMax)
    throw new PkiError('quota-exceeded', 'so many codes were sent for this holder today: try again tomorrow');
  const signer = tx.get('certificate', keyOf(signedWith));
  if (!signer) throw new Error('preferences that no certificate signed');
  const messageId = orderNotice(tx, signer, { occasion: 'address-code', address, nowMs });
  const row = {
    holderId,
    messageId,
    dataKey: address.key,
    address: address.octets,
    expiresMs,
    wrongCodes: 0,
    codes: isRecent ? before.codes + 1 : 1,
    sinceMs: isRecent ? before.sinceMs : nowMs,
  };
  if (before) tx.update('addressToConfirm', row, before);
  else tx.insert('addressToConfirm', row);
}

/** A newer message replaces an address that was not confirmed. */
function forgetUnconfirmed(tx: Transaction, holderId: string): void {
  const row = tx.get('addressToConfirm', { holderId });
  if (row) tx.update('addressToConfirm', { ...row, expiresMs: 0 }, row);
}
