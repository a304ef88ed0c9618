import { randomBytes } from 'node:crypto';
import type { KeyWrapper, TokenMemory } from '../../core/crypto/signer.ts';
import type { FeedEvent, StatusEvent } from '../../core/feed/feed.ts';
import type { JournalContent } from '../../core/feed/journal-content.ts';
import type { JournalSeal } from '../../core/feed/journal-seal.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Actor } from '../api/certificate-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { readHeads } from '../engine/heads.ts';
import { epochContext } from '../feed/event-feed.ts';
import { openEpoch } from '../rules/ceremony-rules.ts';
import {
  epochOfMark,
  headMemory,
  incarnationMemory,
  incarnationsMemory,
  leaseMark,
  leaseMemory,
  recordedAuthorities,
  startMemory,
} from '../rules/token-memory.ts';
import type { Row } from '../schema/schema.ts';
import { raiseRestrictions, raiseVerifiers } from './raised-versions.ts';
import { type BackupEnd, openReplicated } from './replay.ts';
import {
  type AdoptedCertificate,
  adoptShards,
  adoptStatuses,
  bindReplicated,
  closeCeased,
  newIncarnation,
  replayAll,
} from './restore-rules.ts';

// What makes a record out of a backup: it must not forget what its followers know, nor number anything twice.

export type { AdoptedCertificate } from './restore-rules.ts';

export interface ReconcileReport {
  readonly incarnation: string;
  /** Certificates whose status the followers knew better. */
  readonly changed: number;
  /** Certificates that were issued after the backup: their octets are not on record, and whose they are only where that was replicated. */
  readonly adopted: readonly AdoptedCertificate[];
  /** What else was replicated since the backup, rows by table: deaths, blocked keys, restrictions, clients. */
  readonly replayed: ReadonlyMap<string, number>;
  /**
   * Holders without a good certificate since the backup, where journals of an earlier version do not say why: they may have died or
   * left, and are closed until their return is reported.
   */
  readonly closed: number;
  /** Whether a journal had anything that the backup has not. */
  readonly hasNews: boolean;
  /** What cannot be brought back, in words. */
  readonly lost: readonly string[];
}

interface Reconciled {
  readonly report: ReconcileReport;
  /** What the token has to learn before the record is started from. */
  readonly remember: readonly (readonly [name: string, value: number])[];
}

/** Gives a restored record a new incarnation and new epochs, and teaches it what its followers' journals know. */
export async function reconcile(options: {
  readonly database: RecordDatabase;
  readonly actor: Actor;
  readonly memory: TokenMemory;
  readonly keyWrapper: KeyWrapper;
  /** What the journals hold. */
  readonly received: JournalContent;
  /** Numbers of the incarnations of the record, the backup's own among them. */
  readonly ordinals: ReadonlyMap<string, number>;
  /** What opens what they hold for the CA alone; null where the backup has no key for it. */
  readonly seal: JournalSeal | null;
  /** What is known to be lost already, in words. */
  readonly lost: readonly string[];
  readonly acceptLoss: boolean;
  readonly nowMs: number;
}): Promise<Reconciled> {
  const { database, actor, memory, keyWrapper, received, seal, nowMs } = options;
  const { events } = received;
  const latest = latestStatuses(events);
  const end = await endOf(database);
  const replicated = openReplicated(received.sealed, seal, { end, ordinals: options.ordinals });
  const known = await knownEpochs(database);
  const epochs = replicated.rows
    .filter(({ table }) => table === 'epoch')
    .map(({ values }) => values as unknown as Row<'epoch'>)
    .filter(({ authority, epoch }) => !known.get(authority)?.has(epoch));
  for (const { authority, epoch } of epochs)
    known.set(authority, (known.get(authority) ?? new Set()).add(epoch));
  const isLost = ({ authority, epoch }: StatusEvent): boolean => !known.get(authority)?.has(epoch);
  const lost = new Set([
    ...options.lost,
    ...latest
      .filter(isLost)
      .map(({ authority, epoch }) => `the certificates of epoch ${epoch} of ${authority}`),
  ]);
  // Before the token is updated; afterwards the replaced record no longer starts.
  if (lost.size > 0 && !options.acceptLoss) {
    throw new PkiError(
      'bad-request',
      `the restored record would lack ${[...lost].join('; ')}. Restore with the journals of all nodes, or with --accept-loss`,
    );
  }
  const incarnation = crypto.randomUUID();
  await database.run(newIncarnation, { actor, incarnation }, nowMs);
  for (const epoch of epochs.sort((a, b) => a.epoch - b.epoch))
    await openEpoch(database, actor, { ...epoch, nowMs });
  const leases: [authority: string, epoch: number][] = [];
  for (const { authority } of await recordedAuthorities(database)) {
    const newest = Math.max(
      ...(known.get(authority) ?? [0]),
      epochOfMark(await memory.recall(leaseMemory(authority))),
    );
    await skipToEpoch(database, actor, { authority, epoch: newest + 1, keyWrapper, nowMs });
    leases.push([authority, newest + 1]);
  }
  await adoptShards(database, actor, { events, nowMs });
  const applied = await adoptStatuses(database, actor, {
    events: latest.filter((event) => !isLost(event)),
    replicated: replicated.certificates,
    nowMs,
  });
  const replayed = await replayAll(database, actor, replicated, nowMs);
  await raiseVerifiers(database, actor, nowMs);
  await raiseRestrictions(database, actor, nowMs);
  const bound = await bindReplicated(database, actor, replicated, nowMs);
  if (bound > 0) replayed.set('certificate', bound);
  // Where everything was replicated, so were deaths.
  const closed = received.isProven ? 0 : await closeCeased(database, actor, [...applied.ceased], nowMs);
  const head = await database.read((reader) =>
    reader.find('event', { writer: database.writer }, { descending: true, limit: 1 }),
  );
  // The newest there is: a later restore asks for the journals of all between its backup and this.
  const number =
    1 + Math.max(await memory.recall(incarnationsMemory), options.ordinals.get(end.incarnation) ?? 1);
  const remember: [name: string, value: number][] = [
    ...leases.map(([authority, epoch]): [string, number] => [leaseMemory(authority), leaseMark(epoch, 0)]),
    [startMemory(incarnation, database.writer), end.position],
    [headMemory(incarnation, database.writer), head[0]?.position ?? 0],
    [incarnationMemory(incarnation), number],
    [incarnationsMemory, number],
  ];
  const { changed, adopted } = applied;
  const hasNews = events.length > 0 || received.sealed.length > 0;
  const report = { incarnation, changed, adopted, replayed, closed, hasNews, lost: [...lost] };
  return { report, remember };
}

/** Where the backup ends that is being restored: before anything is written to it. */
async function endOf(database: RecordDatabase): Promise<BackupEnd> {
  const { writer } = database;
  return database.read((reader) => {
    const { position } = readHeads(reader, writer);
    const incarnation = reader.get('meta', { name: 'incarnation' })?.value ?? '';
    return { incarnation, position };
  });
}

async function knownEpochs(database: RecordDatabase): Promise<Map<string, Set<number>>> {
  const rows = await database.read((reader) => reader.find('epoch', {}));
  const epochs = new Map<string, Set<number>>();
  for (const { authority, epoch } of rows) {
    epochs.set(authority, (epochs.get(authority) ?? new Set()).add(epoch));
  }
  return epochs;
}

/** Opens every epoch up to that one: those between were opened after the backup, and are not used again. */
async function skipToEpoch(
  database: RecordDatabase,
  actor: Actor,
  options: { authority: string; epoch: number; keyWrapper: KeyWrapper; nowMs: number },
): Promise<void> {
  const { authority, keyWrapper, nowMs } = options;
  const present = await database.read((reader) => reader.find('epoch', { authority }));
  for (let epoch = (present.at(-1)?.epoch ?? 0) + 1; epoch <= options.epoch; epoch++) {
    const wrappedKey: Bytes = await keyWrapper.wrap(epochContext(authority, epoch), randomBytes(16));
    await openEpoch(database, actor, { authority, epoch, wrappedKey, nowMs });
  }
}

/** The latest status of each certificate in the journals: of the highest version, but revoked before any other. */
export function latestStatuses(events: readonly FeedEvent[]): StatusEvent[] {
  const latest = new Map<string, StatusEvent>();
  for (const event of events) {
    if (event.type !== 'status') continue;
    const name = JSON.stringify([event.authority, event.epoch, event.position]);
    const before = latest.get(name);
    const final = before?.state === 'revoked' && event.state !== 'revoked';
    const graver = event.state === 'revoked' && before?.state !== 'revoked';
    if (!before || graver || (!final && event.version > before.version)) latest.set(name, event);
  }
  return [...latest.values()];
}
