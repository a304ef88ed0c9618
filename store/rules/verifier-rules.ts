import type { Actor } from '../../core/model/act.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import {
  type Credential,
  credentialsMax,
  type RecordedVerifier,
  type Verifier,
  type VerifierStore,
} from '../api/verifier-store.ts';
import type { Transaction } from '../engine/record.ts';
import { byIndex, byKey, exclusive, type Load, type Lock, type Rule, shared } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { answeredOnce } from './once.ts';
import { announce, verifierLoads, verifierView } from './verifiers.ts';

// The rules of the register of verifiers. Each change is announced to OCSP and CRL nodes in its transaction.

const verifierLock = (verifierId: string): Lock => exclusive('verifier', verifierId);
const credentialLock = ({ type, value }: { readonly type: string; readonly value: string }): Lock =>
  exclusive('credential', type, value);

const platformLocks = ({ platformId }: Pick<Verifier, 'platformId'>): readonly Lock[] =>
  platformId === null ? [] : [shared('verifier', platformId)];
const platformLoads = ({ platformId }: Pick<Verifier, 'platformId'>): readonly Load[] =>
  platformId === null ? [] : [byKey('verifier', { verifierId: platformId })];

/** A service provider asks through its platform, and no one else has one. */
function checkPlatform(tx: Transaction, { type, platformId, kinds, verifierId }: Verifier): void {
  if ((type === 'provider') !== (platformId !== null))
    throw new PkiError(
      'bad-request',
      type === 'provider'
        ? 'platformId: is missing: a service provider asks through a platform'
        : 'platformId: belongs to service providers',
    );
  if (platformId === null) return;
  const platform = platformId === verifierId ? undefined : tx.get('verifier', { verifierId: platformId });
  if (platform?.type !== 'platform')
    throw new PkiError('bad-request', `platformId: ${platformId} is no platform on the register`);
  const known = JSON.parse(platform.kinds) as string[];
  const other = kinds.find((kind) => !known.includes(kind));
  if (other !== undefined)
    throw new PkiError('bad-request', `kinds: the platform may not ask about ${other} certificates`);
}

/** Writes a verifier that is new, or as it is from now on, and announces it. */
function write(tx: Transaction, verifier: Verifier, nowMs: number): RecordedVerifier {
  const { verifierId } = verifier;
  const before = tx.get('verifier', { verifierId });
  if (before && before.type !== verifier.type)
    throw new PkiError(
      'illegal-transition',
      `type: it is a ${before.type}, and stays one; record another verifier`,
    );
  checkPlatform(tx, verifier);
  const row: Row<'verifier'> = {
    ...verifier,
    kinds: JSON.stringify(verifier.kinds),
    purposes: JSON.stringify(verifier.purposes),
    delivery: verifier.url === null ? null : 'webhook',
    suspendedMs: before?.suspendedMs ?? null,
    version: (before?.version ?? 0) + 1,
    changedMs: nowMs,
  };
  if (before) tx.update('verifier', row, before);
  else tx.insert('verifier', row);
  announce(tx, verifierId, nowMs);
  return verifierView(tx, row);
}

/** A verifier with one more change, announced. Throws `not-found`. */
function change(
  tx: Transaction,
  verifierId: string,
  nowMs: number,
  columns: Partial<Row<'verifier'>> = {},
): RecordedVerifier {
  const before = tx.get('verifier', { verifierId });
  if (!before) throw noVerifier();
  const row = { ...before, ...columns, version: before.version + 1, changedMs: nowMs };
  tx.update('verifier', row, before);
  announce(tx, verifierId, nowMs);
  return verifierView(tx, row);
}

const noVerifier = (): PkiError => new PkiError('not-found', 'no such verifier');

export const recordVerifier = answeredOnce<Parameters<VerifierStore['record']>[0], RecordedVerifier>({
  action: 'recordVerifier',
  subject: ({ verifier: { verifierId, type, platformId } }) => ({ verifierId, type, platformId }),
  locks: ({ verifier, credentials }) => [
    verifierLock(verifier.verifierId),
    ...platformLocks(verifier),
    ...credentials.map(credentialLock),
  ],
  loads: ({ verifier, credentials }) => [
    ...verifierLoads(verifier.verifierId),
    ...platformLoads(verifier),
    ...credentials.map(ofSame),
  ],
  decide: ({ verifier, credentials }, tx, { nowMs }) => {
    for (const credential of credentials) insertCredential(tx, verifier, credential, nowMs);
    return write(tx, verifier, nowMs);
  },
});

/** Who has, or had, a credential. */
const ofSame = ({ type, value }: Pick<Credential, 'type' | 'value'>): Load =>
  byIndex('verifierCredential', { type, value });

/** Writes a credential of a verifier. Throws `in-use`, `quota-exceeded` and `bad-request`. */
function insertCredential(
  tx: Transaction,
  { verifierId, type: verifierType }: { readonly verifierId: string; readonly type: string },
  credential: Omit<Credential, 'addedMs'>,
  nowMs: number,
): void {
  const { type, value } = credential;
  if (verifierType === 'provider')
    throw new PkiError(
      'bad-request',
      'credentials: a service provider asks through its platform, and has none',
    );
  if (tx.find('verifierCredential', { type, value }).length > 0)
    throw new PkiError('in-use', `${type}: it is, or was, that of a verifier; take another`);
  const open = tx
    .find('verifierCredential', { verifierId })
    .filter(({ toMs }) => (toMs ?? Number.POSITIVE_INFINITY) > nowMs);
  if (open.length >= credentialsMax)
    throw new PkiError('quota-exceeded', `the verifier has ${credentialsMax} credentials: end some first`);
  tx.insert('verifierCredential', { ...credential, verifierId, addedMs: nowMs });
}

/** A platform of a verifier on record: read before any lock, which is right because it seldom changes and is looked at again. */
const locatePlatform = ({ verifierId }: { readonly verifierId: string }): readonly Load[] => [
  byKey('verifier', { verifierId }),
];

type OfVerifier<T extends keyof VerifierStore> = VerifierStore[T] extends (command: infer C) => unknown
  ? C
  : never;

export const suspendVerifier = answeredOnce<OfVerifier<'suspend'>, RecordedVerifier>({
  action: 'suspendVerifier',
  subject: ({ verifierId, isSuspended }) => ({ verifierId, isSuspended }),
  locate: locatePlatform,
  locks: ({ verifierId }, located) => [
    verifierLock(verifierId),
    ...platformLocks(located.get('verifier', { verifierId }) ?? { platformId: null }),
  ],
  loads: ({ verifierId }, located) => [
    ...verifierLoads(verifierId),
    ...platformLoads(located.get('verifier', { verifierId }) ?? { platformId: null }),
  ],
  decide: ({ verifierId, isSuspended }, tx, { nowMs }) => {
    const before = tx.get('verifier', { verifierId });
    return change(tx, verifierId, nowMs, {
      suspendedMs: isSuspended ? (before?.suspendedMs ?? nowMs) : null,
    });
  },
});

export const addCredential = answeredOnce<OfVerifier<'addCredential'>, RecordedVerifier>({
  action: 'addCredential',
  subject: ({ verifierId, credential: { credentialId, type } }) => ({ verifierId, credentialId, type }),
  locks: ({ verifierId, credential }) => [verifierLock(verifierId), credentialLock(credential)],
  loads: ({ verifierId, credential }) => [...verifierLoads(verifierId), ofSame(credential)],
  decide: ({ verifierId, credential }, tx, { nowMs }) => {
    const verifier = tx.get('verifier', { verifierId });
    if (!verifier) throw noVerifier();
    insertCredential(tx, verifier, credential, nowMs);
    return change(tx, verifierId, nowMs);
  },
});

export const endCredential = answeredOnce<OfVerifier<'endCredential'>, RecordedVerifier>({
  action: 'endCredential',
  subject: ({ verifierId, credentialId }) => ({ verifierId, credentialId }),
  locate: ({ credentialId }) => [byKey('verifierCredential', { credentialId })],
  locks: ({ verifierId, credentialId }, located) => {
    const row = located.get('verifierCredential', { credentialId });
    return [verifierLock(verifierId), ...(row ? [credentialLock(row)] : [])];
  },
  loads: ({ verifierId }) => verifierLoads(verifierId),
  decide: ({ verifierId, credentialId, toMs }, tx, { nowMs }) => {
    const row = tx
      .find('verifierCredential', { verifierId })
      .find((each) => each.credentialId === credentialId);
    if (!row) throw new PkiError('not-found', 'no such credential of this verifier');
    if ((row.toMs ?? Number.POSITIVE_INFINITY) <= nowMs)
      throw new PkiError('illegal-transition', 'the credential has ended');
    const end = Math.min(row.toMs ?? Number.POSITIVE_INFINITY, Math.max(toMs, nowMs));
    tx.update('verifierCredential', { ...row, toMs: end }, row);
    return change(tx, verifierId, nowMs);
  },
});

/** A verifier of a configuration of before, with how it was known there. */
export interface ConfiguredVerifier {
  readonly verifier: Verifier;
  readonly credentials: readonly Omit<Credential, 'addedMs'>[];
}

/** Name of the row that says that configured lists were taken over. */
export const takenOver = 'verifiers';

/** Takes verifiers of configured lists onto the register, once. Gives how many; none the second time. */
export const takeOverVerifiers: Rule<
  { readonly actor: Actor; readonly configured: readonly ConfiguredVerifier[] },
  number
> = {
  action: 'takeOverVerifiers',
  actor: ({ actor }) => actor,
  subject: ({ configured }) => ({ verifiers: configured.map(({ verifier }) => verifier.verifierId) }),
  locks: ({ configured }) => [
    exclusive('meta', takenOver),
    ...configured.flatMap(({ verifier, credentials }) => [
      verifierLock(verifier.verifierId),
      ...credentials.map(credentialLock),
    ]),
  ],
  loads: ({ configured }) => [
    byKey('meta', { name: takenOver }),
    ...configured.flatMap(({ verifier, credentials }) => [
      ...verifierLoads(verifier.verifierId),
      ...credentials.map(ofSame),
    ]),
  ],
  decide: ({ configured }, tx, { nowMs }) => {
    if (!tx.insertNew('meta', { name: takenOver, value: String(nowMs) })) return 0;
    for (const { verifier, credentials } of configured) {
      // A record that was restored may have it already.
      if (tx.get('verifier', { verifierId: verifier.verifierId })) continue;
      const { verifierId } = verifier;
      for (const credential of credentials)
        if (tx.find('verifierCredential', { type: credential.type, value: credential.value }).length === 0)
          tx.insert('verifierCredential', { ...credential, verifierId, addedMs: nowMs });
      write(tx, verifier, nowMs);
    }
    return configured.length;
  },
};
