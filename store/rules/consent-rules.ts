import { keyOf } from '../../core/model/certificate-id.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { type Consent, type ConsentStore, consentsMax, type Withholding } from '../api/consent-store.ts';
import type { RecordReader } from '../engine/record.ts';
import { byIndex, byKey, exclusive, shared } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { useChallenge } from './challenges.ts';
import { consentView, mayAskFor } from './consents.ts';
import { countDeskAct, deskLoads, deskLocks, reaches } from './desks.ts';
import { restrictionsLock, statusLoads } from './device-classes.ts';
import { challengeLock } from './holder-loads.ts';
import { isKnownHolder, knownHolderLoads } from './holders.ts';
import { answeredOnce } from './once.ts';
import { isGoodNow } from './views.ts';

// The rules of consents. Whether something is given by them is decided each time that it is asked for: see `consents.ts`.

type OfStore<T extends 'record' | 'withdraw' | 'withhold'> = Parameters<ConsentStore[T]>[0];

export const recordConsent = answeredOnce<OfStore<'record'>, Consent>({
  action: 'consent',
  subject: ({ consent: { consentId, verifierId, serviceId, items } }) => ({
    ...{ consentId, verifierId, serviceId, items },
  }),
  locks: ({ consent: { holderId, verifierId, serviceId }, challengeHash }) => [
    exclusive('holder', holderId),
    ...[...new Set([verifierId, serviceId])].map((id) => shared('verifier', id)),
    challengeLock(challengeHash),
    restrictionsLock,
  ],
  loads: ({ consent: { holderId, signedWith, verifierId, serviceId }, challengeHash }) => [
    byKey('challenge', { challengeHash }),
    byKey('certificate', keyOf(signedWith), statusLoads),
    byIndex('consent', { holderId }),
    byKey('verifier', { verifierId }),
    byKey('verifier', { verifierId: serviceId }),
  ],
  decide: ({ scope, actor, consent, challengeHash, keyHash, evidence }, tx, { nowMs }) => {
    useChallenge(tx, challengeHash, { scope, usedBy: actor.requestId, nowMs });
    const { holderId, signedWith, items, ...facts } = consent;
    const signer = tx.get('certificate', keyOf(signedWith));
    if (!signer || !isGoodNow(tx, signer, nowMs) || signer.holderId !== holderId)
      throw new PkiError('card-certificate-not-good', 'the certificate that signed is not good');
    if (!mayAskFor(tx, consent, nowMs))
      throw new PkiError(
        'forbidden',
        'service: is neither the verifier’s own nor one behind it, or one of them may not ask now about signing certificates',
      );
    const open = tx
      .find('consent', { holderId })
      .filter(({ withdrawnMs, endsMs }) => withdrawnMs === null && endsMs > nowMs);
    if (open.length >= consentsMax)
      throw new PkiError('quota-exceeded', `the holder has ${consentsMax} consents: withdraw some first`);
    const row: Row<'consent'> = {
      ...{ ...facts, holderId, items: JSON.stringify(items), ...keyOf(signedWith), keyHash },
      ...{ withdrawnMs: null, withdrawnBy: null },
    };
    tx.insert('consent', row);
    tx.insert('evidence', { issuanceId: consent.consentId, dataKey: evidence.key, octets: evidence.octets });
    return consentView(row);
  },
});

const holderOfConsent = (consentId: string, located: RecordReader): string | undefined =>
  located.get('consent', { consentId })?.holderId;

export const withdrawConsent = answeredOnce<OfStore<'withdraw'>, Consent>({
  action: 'withdrawConsent',
  subject: ({ consentId }) => ({ consentId }),
  locate: ({ consentId }) => [byKey('consent', { consentId })],
  locks: ({ consentId, by }, located) => {
    const holderId = holderOfConsent(consentId, located);
    return [
      ...(holderId === undefined ? [] : [exclusive('holder', holderId)]),
      ...(by.type === 'desk' ? deskLocks(by.mandate) : [challengeLock(by.challengeHash)]),
    ];
  },
  loads: ({ consentId, by }, located) => {
    const holderId = holderOfConsent(consentId, located);
    return [
      byKey('consent', { consentId }),
      ...(by.type === 'desk'
        ? deskLoads(by.mandate)
        : [byKey('challenge', { challengeHash: by.challengeHash })]),
      ...(holderId === undefined ? [] : [byKey('holderTown', { holderId })]),
    ];
  },
  decide: ({ consentId, by, scope, actor }, tx, { nowMs }) => {
    const row = tx.get('consent', { consentId });
    const isTheirs =
      row !== undefined &&
      (by.type === 'holder' ? row.holderId === by.holderId : reaches(tx, by.mandate, row.holderId, nowMs));
    if (!isTheirs) throw new PkiError('not-found', 'no such consent');
    if (by.type === 'holder') useChallenge(tx, by.challengeHash, { scope, usedBy: actor.requestId, nowMs });
    else countDeskAct(tx, by.mandate, nowMs);
    if (row.withdrawnMs !== null) return consentView(row);
    const withdrawnBy = by.type === 'holder' ? 'holder' : (by.mandate.desk?.code ?? scope.client);
    const after = { ...row, withdrawnMs: nowMs, withdrawnBy };
    tx.update('consent', after, row);
    return consentView(after);
  },
});

export const withhold = answeredOnce<OfStore<'withhold'>, Withholding>({
  action: 'withhold',
  subject: ({ isWithheld }) => ({ isWithheld }),
  locks: ({ holderId, mandate }) => [exclusive('holder', holderId), ...deskLocks(mandate)],
  loads: ({ holderId, mandate }) => [
    ...knownHolderLoads(holderId),
    byKey('holderTown', { holderId }),
    byKey('withholding', { holderId }),
    byIndex('consent', { holderId }),
    ...deskLoads(mandate),
  ],
  decide: ({ holderId, isWithheld, mandate, scope }, tx, { nowMs }) => {
    if (!isKnownHolder(tx, holderId) || !reaches(tx, mandate, holderId, nowMs))
      throw new PkiError('not-found', 'no such holder');
    countDeskAct(tx, mandate, nowMs);
    const before = tx.get('withholding', { holderId });
    const sinceMs = isWithheld ? (before?.sinceMs ?? nowMs) : null;
    // What was consented to meanwhile may not have been by the holder's own will.
    if (!isWithheld && before?.sinceMs != null)
      for (const row of tx.find('consent', { holderId }))
        if (row.withdrawnMs === null && row.givenMs >= before.sinceMs)
          tx.update('consent', { ...row, withdrawnMs: nowMs, withdrawnBy: 'desk' }, row);
    const by = { desk: mandate.desk?.code ?? '', client: scope.client };
    const row = { holderId, sinceMs, ...by, changedMs: nowMs };
    if (before) tx.update('withholding', row, before);
    else tx.insert('withholding', row);
    return { holderId, sinceMs };
  },
});
