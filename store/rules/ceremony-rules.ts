import { epochMax } from '../../core/crypto/serial.ts';
import { keyOf } from '../../core/model/certificate-id.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { invariant, PkiError } from '../../core/runtime/errors.ts';
import type { Actor, CertificateDraft, RequestScope } from '../api/certificate-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { byIndex, byKey, exclusive, type Rule } from '../engine/rule.ts';
import type { Row } from '../schema/schema.ts';
import { insertDraft } from './drafts.ts';
import { keyLock, ownCertificateLocks } from './holder-loads.ts';
import { requestLoad, requestLock } from './once.ts';
import { openRequest } from './requests.ts';
import { noteResponder, type Responsibility, responderName } from './responders.ts';
import { openOrCount } from './shards.ts';
import { schemaVersion } from './token-memory.ts';

// The rules of ceremonies and of what operators do at the console; no request reaches them.

interface Ceremony {
  readonly actor: Actor;
}

const openRecordRule: Rule<
  Ceremony & { readonly incarnation: string; readonly newKeys: readonly Row<'dataKey'>[] },
  void
> = {
  action: 'open',
  actor: ({ actor }) => actor,
  subject: () => ({}),
  locks: ({ newKeys }, _located, writer) => [
    ...['schema', 'incarnation', `writer:${writer}`].map((name) => exclusive('meta', name)),
    ...newKeys.map(({ name }) => exclusive('data-key', name)),
  ],
  loads: (_input, _located, writer) =>
    ['schema', 'incarnation', `writer:${writer}`].map((name) => byKey('meta', { name })),
  decide: ({ incarnation, newKeys }, tx) => {
    const schema = tx.get('meta', { name: 'schema' });
    if (!schema) {
      if (tx.get('meta', { name: 'incarnation' }))
        throw new PkiError(
          'record-unavailable',
          'the record has lost its schema: it was altered; restore a backup',
        );
      tx.insert('meta', { name: 'schema', value: schemaVersion });
      tx.insert('meta', { name: 'incarnation', value: incarnation });
      for (const row of newKeys) tx.insert('dataKey', row);
    } else if (schema.value !== schemaVersion) {
      throw new PkiError(
        'record-unavailable',
        `the record has schema ${schema.value}, this is ${schemaVersion}`,
      );
    } else if (newKeys.length > 0) {
      const names = newKeys.map(({ name }) => name).join(', ');
      throw new PkiError('record-unavailable', `the record has lost its key: ${names}; restore a backup`);
    }
    const name = `writer:${tx.writer}`;
    if (!tx.get('meta', { name })) tx.insert('meta', { name, value: tx.writer });
  },
};

/**
 * Names a new record, once, and this node as a writer of it. `newKeys` are rows that only a new record gets. Throws for a record of
 * another schema, and for one that has lost such a row.
 */
export function openRecord(
  database: RecordDatabase,
  actor: Actor,
  newKeys: readonly Row<'dataKey'>[] = [],
): Promise<void> {
  return database.run(openRecordRule, { actor, incarnation: crypto.randomUUID(), newKeys }, 0);
}

interface NewEpoch {
  readonly authority: string;
  readonly epoch: number;
  readonly wrappedKey: Bytes;
}

const openEpochRule: Rule<Ceremony & NewEpoch, void> = {
  action: 'openEpoch',
  actor: ({ actor }) => actor,
  subject: ({ authority, epoch }) => ({ authority, epoch }),
  locks: ({ authority }) => [exclusive('positions', authority)],
  loads: ({ authority }) => [byIndex('epoch', { authority }, { options: { descending: true, limit: 1 } })],
  decide: ({ authority, epoch, wrappedKey }, tx, { nowMs }) => {
    const [newest] = tx.find('epoch', { authority }, { descending: true, limit: 1 });
    if (epoch !== (newest?.epoch ?? 0) + 1 || epoch > epochMax) {
      throw new PkiError(
        'bad-request',
        `epoch ${epoch} of ${authority} does not follow ${newest?.epoch ?? 0}`,
      );
    }
    tx.insert('epoch', { authority, epoch, wrappedKey, openedMs: nowMs });
    tx.appendEvent({ type: 'epoch', authority, epoch });
  },
};

/** Opens an authority's next epoch; its first certificate may be its own. */
export function openEpoch(
  database: RecordDatabase,
  actor: Actor,
  { nowMs, ...epoch }: NewEpoch & { readonly nowMs: number },
): Promise<void> {
  return database.run(openEpochRule, { actor, ...epoch }, nowMs);
}

interface OwnCertificate {
  readonly issuanceId: string;
  readonly draft: Omit<CertificateDraft, 'restsOn'>;
  /** Of the request that asked for it; null in a ceremony. */
  readonly scope: RequestScope | null;
  /** Whose responder it is for; null where it is for none. */
  readonly responsibility: Responsibility | null;
}

const reserveOwnRule: Rule<Ceremony & OwnCertificate, void> = {
  action: 'reserveOwn',
  actor: ({ actor }) => actor,
  subject: ({ draft }) => ({ ...keyOf(draft), kind: draft.kind }),
  locks: ({ issuanceId, draft, scope, responsibility }) => [
    exclusive('issuance', issuanceId),
    keyLock(draft.keyHash),
    ...ownCertificateLocks([{ ...draft, holderId: null }]),
    ...(draft.shard ? [exclusive('shard', draft.shard.series)] : []),
    ...(scope ? [requestLock(scope)] : []),
    ...(responsibility ? [exclusive('meta', responderName(responsibility))] : []),
  ],
  loads: ({ draft, scope, responsibility }) => [
    byKey('publicKey', { keyHash: draft.keyHash }),
    ...(draft.shard ? [byKey('shard', draft.shard)] : []),
    ...(scope ? [requestLoad(scope)] : []),
    ...(responsibility ? [byKey('meta', { name: responderName(responsibility) })] : []),
  ],
  decide: ({ issuanceId, draft, scope, responsibility, actor }, tx, { nowMs }) => {
    // First: a repetition is refused as one, and not that its key is known.
    if (scope) openRequest(tx, scope, nowMs, issuanceId);
    if (draft.shard) openOrCount(tx, draft.shard);
    insertDraft(tx, { issuanceId, medium: null, notify: null }, { ...draft, restsOn: null }, nowMs);
    if (responsibility) noteResponder(tx, responsibility, draft, nowMs);
    const { client, route, idempotencyKey } = scope ?? {
      client: actor.client,
      route: 'ceremony',
      idempotencyKey: issuanceId,
    };
    const { writer } = tx;
    tx.insert('reservation', { issuanceId, writer, leaseUntilMs: nowMs, client, route, idempotencyKey });
  },
};

/**
 * Makes a certificate of our own (a CA's, a responder's) durable before it is signed. It is completed like any
 * other issuance, by `CertificateStore.complete` or by recovery.
 */
export function reserveOwnCertificate(
  database: RecordDatabase,
  actor: Actor,
  { nowMs, ...certificate }: OwnCertificate & { readonly nowMs: number },
): Promise<void> {
  return database.run(reserveOwnRule, { actor, ...certificate }, nowMs);
}

type Link = Pick<Row<'authorityLink'>, 'link' | 'certificate'>;

const recordLinkRule: Rule<Ceremony & Link, void> = {
  action: 'recordLink',
  actor: ({ actor }) => actor,
  subject: ({ link }) => ({ link }),
  locks: ({ link }) => [exclusive('link', link)],
  loads: ({ link }) => [byKey('authorityLink', { link })],
  decide: ({ link, certificate }, tx, { nowMs }) => {
    if (!tx.insertNew('authorityLink', { link, certificate, createdMs: nowMs })) return;
    tx.appendEvent({ type: 'link', link, certificate: Buffer.from(certificate).toString('base64') });
  },
};

/** Records that a generation certifies the key of another, and has it published. Done again it changes nothing. */
export function recordLink(database: RecordDatabase, actor: Actor, link: Link, nowMs: number): Promise<void> {
  return database.run(recordLinkRule, { actor, ...link }, nowMs);
}

const recordAuthorityRule: Rule<Ceremony & { readonly row: Row<'authority'> }, void> = {
  action: 'recordAuthority',
  actor: ({ actor }) => actor,
  subject: ({ row: { authority, suite } }) => ({ authority, suite }),
  locks: () => [],
  loads: () => [],
  decide: ({ row }, tx) => {
    tx.insert('authority', row);
    const certificate = Buffer.from(row.certificate).toString('base64');
    tx.appendEvent({ type: 'authority', authority: row.authority, certificate });
  },
};

/** Records a CA's certificate: from now on its key issues, and followers know it. */
export function recordAuthority(
  database: RecordDatabase,
  actor: Actor,
  row: Row<'authority'>,
): Promise<void> {
  return database.run(recordAuthorityRule, { actor, row }, row.createdMs);
}

const eraseDataKeyRule: Rule<Ceremony & { readonly name: string }, void> = {
  action: 'eraseDataKey',
  actor: ({ actor }) => actor,
  subject: ({ name }) => ({ name }),
  locks: ({ name }) => [exclusive('data-key', name)],
  loads: ({ name }) => [byKey('dataKey', { name })],
  decide: ({ name }, tx) => {
    if (!tx.get('dataKey', { name })) throw new PkiError('not-found', `there is no data key ${name}`);
    tx.remove('dataKey', { name });
  },
};

/** Erases a data key: what it sealed can never be read again, by anyone, from this record. */
export function eraseDataKey(database: RecordDatabase, actor: Actor, name: string): Promise<void> {
  return database.run(eraseDataKeyRule, { actor, name }, 0);
}

const addRecordKeyRule: Rule<Ceremony & { readonly row: Row<'dataKey'> }, void> = {
  action: 'openJournalKey',
  actor: ({ actor }) => actor,
  subject: () => ({}),
  locks: ({ row: { name } }) => [exclusive('data-key', name)],
  loads: ({ row: { name } }) => [byKey('dataKey', { name })],
  decide: ({ row }, tx) => {
    tx.insertNew('dataKey', row);
  },
};

/** Adds a key that the record works with, unless there is one of that name. */
export function addRecordKey(database: RecordDatabase, actor: Actor, row: Row<'dataKey'>): Promise<void> {
  invariant(row.name === 'journal', 'the key of the audit chain comes with the record');
  return database.run(addRecordKeyRule, { actor, row }, row.createdMs);
}
