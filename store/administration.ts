import type { Bytes } from '../core/bytes.ts';
import type { Actor, CertificateDraft, Sealed } from '../core/certificate-store.ts';
import { PkiError } from '../core/errors.ts';
import type { Slot } from '../core/kinds.ts';
import { epochMax } from '../core/serial.ts';
import type { TokenMemory } from '../core/signer.ts';
import { leaseMark, leaseMemory } from './certificate-store.ts';
import { writeStatus } from './change.ts';
import { appendEvent } from './event-feed.ts';
import type { RecordDatabase } from './record.ts';
import type { Row } from './schema.ts';
import { keyOf, statusOf } from './views.ts';

// What ceremonies and operators do to the record; nothing here is reached by a request.

const schemaVersion = '1';

/** Names a new record, once, and this node as a writer of it. Throws for a record of another schema. */
export async function openRecord(database: RecordDatabase, actor: Actor): Promise<void> {
  await database.write({ actor, action: 'open', subject: { writer: database.writer } }, async (tx) => {
    const schema = await tx.get('meta', { name: 'schema' });
    if (!schema) {
      await tx.insert('meta', { name: 'schema', value: schemaVersion });
      await tx.insert('meta', { name: 'incarnation', value: crypto.randomUUID() });
    } else if (schema.value !== schemaVersion) {
      throw new PkiError(
        'record-unavailable',
        `the record has schema ${schema.value}, this is ${schemaVersion}`,
      );
    }
    const name = `writer:${database.writer}`;
    if (!(await tx.get('meta', { name }))) await tx.insert('meta', { name, value: database.writer });
  });
}

/** Opens an authority's next epoch; its first certificate may be its own. */
export async function openEpoch(
  database: RecordDatabase,
  actor: Actor,
  options: {
    readonly authority: string;
    readonly epoch: number;
    readonly wrappedKey: Bytes;
    readonly nowMs: number;
  },
): Promise<void> {
  const { authority, epoch, wrappedKey, nowMs } = options;
  await database.write({ actor, action: 'openEpoch', subject: { authority, epoch } }, async (tx) => {
    const [newest] = await tx.find('epoch', { authority }, { descending: true, limit: 1 });
    if (epoch !== (newest?.epoch ?? 0) + 1 || epoch > epochMax) {
      throw new PkiError(
        'bad-request',
        `epoch ${epoch} of ${authority} does not follow ${newest?.epoch ?? 0}`,
      );
    }
    await tx.insert('epoch', { authority, epoch, wrappedKey, openedMs: nowMs });
    await appendEvent(tx, database.writer, { type: 'epoch', authority, epoch });
  });
}

/** A certificate of our own (a CA's, a responder's): recorded like any other, but made by a ceremony. */
export interface OwnCertificate {
  readonly draft: Omit<CertificateDraft, 'toBeSigned' | 'restsOn'>;
  readonly encoding: Sealed;
}

export async function recordOwnCertificate(
  database: RecordDatabase,
  actor: Actor,
  options: OwnCertificate & {
    readonly nowMs: number;
    /** Where the certificate is a CA's: its key issues from now on. */
    readonly authority?: Omit<Row<'authority'>, 'createdMs'>;
  },
): Promise<void> {
  const { draft, encoding, nowMs, authority } = options;
  const key = keyOf(draft);
  const { writer } = database;
  await database.write(
    { actor, action: 'recordOwnCertificate', subject: { ...key, kind: draft.kind } },
    async (tx) => {
      if (await tx.get('publicKey', { keyHash: draft.keyHash })) {
        throw new PkiError('already-certified', 'that key has been certified before');
      }
      await tx.insert('publicKey', { keyHash: draft.keyHash, certifiedMs: nowMs });
      if (authority) {
        await tx.insert('authority', { ...authority, createdMs: nowMs });
        const certificate = Buffer.from(authority.certificate).toString('base64');
        await appendEvent(tx, writer, { type: 'authority', authority: authority.authority, certificate });
      }
      if (draft.shard) {
        const { shard } = draft;
        await tx.insert('shard', { ...shard, issued: 1 });
        const distributionPointName = Buffer.from(shard.distributionPointName).toString('base64');
        const { path, authority: name } = shard;
        await appendEvent(tx, writer, {
          type: 'shard',
          shard: shard.shard,
          authority: name,
          distributionPointName,
          path,
        });
      }
      const row: Row<'certificate'> = {
        ...key,
        kind: draft.kind,
        holderId: null,
        mediumId: null,
        issuanceId: crypto.randomUUID(),
        state: 'reserved',
        reason: null,
        revokedMs: null,
        invalidityMs: null,
        version: 0,
        notBeforeMs: draft.notBeforeMs,
        notAfterMs: draft.notAfterMs,
        shard: draft.shard?.shard ?? null,
        restsOnAuthority: null,
        restsOnEpoch: null,
        restsOnPosition: null,
      };
      await tx.insert('certificate', row);
      await tx.insert('encoding', {
        ...key,
        form: 'certificate',
        dataKey: encoding.key,
        octets: encoding.octets,
      });
      const to = { ...statusOf(row), state: 'good' as const };
      const cause = { event: 'ceremony', cascadedFrom: null };
      await writeStatus(tx, { row, to, change: 'issued', cause, actor, writer, nowMs });
    },
  );
}

export interface RecordedAuthority {
  readonly authority: string;
  readonly slot: Slot;
  readonly generation: number;
  readonly suite: string;
  readonly certificate: Bytes;
}

export function recordedAuthorities(database: RecordDatabase): Promise<RecordedAuthority[]> {
  return database.read(async (reader) => {
    const rows = await reader.find('authority', {});
    return rows.map(({ createdMs: _, ...row }) => ({ ...row, slot: row.slot as Slot }));
  });
}

/** Refuses a record that is older than what has been issued from it: the token remembers how far leases went. */
export async function refuseOlderRecord(database: RecordDatabase, memory: TokenMemory): Promise<void> {
  for (const { authority } of await recordedAuthorities(database)) {
    const recorded = await database.read(async (reader) => {
      const [epoch] = await reader.find('epoch', { authority }, { descending: true, limit: 1 });
      if (!epoch) return 0;
      const [lease] = await reader.find(
        'lease',
        { authority, epoch: epoch.epoch },
        { descending: true, limit: 1 },
      );
      return leaseMark(epoch.epoch, lease?.end ?? 0);
    });
    if (recorded < (await memory.recall(leaseMemory(authority)))) {
      throw new PkiError(
        'record-unavailable',
        `the record is older than what ${authority} has issued; restore it with a new epoch`,
      );
    }
  }
}

/** Binds the very first client, before there is one that could ask for it. */
export async function recordFirstClient(
  database: RecordDatabase,
  actor: Actor,
  client: {
    readonly fingerprint: string;
    readonly name: string;
    readonly roles: readonly string[];
    readonly nowMs: number;
  },
): Promise<void> {
  const { fingerprint, name, roles, nowMs } = client;
  await database.write({ actor, action: 'addClient', subject: { fingerprint, roles } }, async (tx) => {
    const row = {
      fingerprint,
      name,
      roles: JSON.stringify(roles),
      desks: '["*"]',
      addedMs: nowMs,
      revokedMs: null,
    };
    await tx.insert('client', row);
  });
}
