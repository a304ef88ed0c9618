import type { TokenMemory } from '../../core/crypto/signer.ts';
import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import type { RecordedReport } from '../../core/model/holder-life.ts';
import { byIssue } from '../../core/model/issue-order.ts';
import type { Consequence, Target } from '../../core/model/plan.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type {
  Actor,
  BlockKeyCommand,
  CertificateStore,
  CertificateView,
  ChangeCommand,
  ChangeOutcome,
  CompleteCommand,
  Encoding,
  HistoryEntry,
  Lease,
  Medium,
  Replay,
  RequestScope,
  Reservation,
  ReserveCommand,
  ShardCommand,
  ShardPlaces,
  WantedIssuance,
} from '../api/certificate-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { RecordReader } from '../engine/record.ts';
import type { Rule } from '../engine/rule.ts';
import type { RecordFeed } from '../feed/event-feed.ts';
import { overdue, wasAwaited } from './activation.ts';
import { putChallenge } from './challenge-rules.ts';
import { usableChallenge } from './challenges.ts';
import { targetHolder } from './change.ts';
import {
  blockKey,
  change,
  endOverlap,
  endShortened,
  endWait,
  previewBlock,
  previewChange,
} from './change-rules.ts';
import { endingBefore } from './ending.ts';
import { factsOf } from './facts.ts';
import { historyOf } from './history.ts';
import { isKnownHolder, mediaOf } from './holders.ts';
import { signatureOf } from './issuances.ts';
import {
  allocateFromShard,
  complete,
  dataKey,
  keepEncodingBase,
  leasePositions,
  previewReserve,
  releaseReservation,
  reserve,
} from './issuing-rules.ts';
import { findReport } from './life-events.ts';
import { knownMedium } from './media.ts';
import { shortenedCards } from './moved-days.ts';
import { replacedIn } from './replaced.ts';
import { findReplay } from './requests.ts';
import { standingOf } from './standing.ts';
import { pendingEvents } from './succession.ts';
import { leaseMark, leaseMemory } from './token-memory.ts';
import { certificateView, mediumView } from './views.ts';

/** Successions that are looked at together. */
const dueMax = 500;

export interface StoreOptions {
  readonly database: RecordDatabase;
  readonly feed: RecordFeed;
  readonly tokenMemory: TokenMemory;
  readonly clock: Clock;
}

/** The rules of the record, over any `RecordDatabase`. */
export class RecordStore implements CertificateStore {
  readonly feed: RecordFeed;
  readonly #database: RecordDatabase;
  readonly #tokenMemory: TokenMemory;
  readonly #clock: Clock;

  constructor(options: StoreOptions) {
    this.#database = options.database;
    this.feed = options.feed;
    this.#tokenMemory = options.tokenMemory;
    this.#clock = options.clock;
  }

  async replay(scope: RequestScope): Promise<Replay | undefined> {
    const replay = await this.#database.read((reader) => findReplay(reader, scope, this.#clock.wallMs()));
    // An answer is given when followers know what it says, also where the first attempt to tell them failed.
    if (replay) await this.feed.deliverEverywhere();
    return replay;
  }

  epochs(authority: string): Promise<readonly number[]> {
    return this.#database.read((reader) => reader.find('epoch', { authority }).map(({ epoch }) => epoch));
  }

  async leasePositions(authority: string, count: number): Promise<Lease> {
    const lease = await this.#run(leasePositions, { authority, count });
    // After the record and before any use: a record that is older than the token refuses to start.
    await this.#tokenMemory.remember(leaseMemory(authority), leaseMark(lease.epoch, lease.end));
    return lease;
  }

  async leaseShard(command: ShardCommand): Promise<ShardPlaces> {
    const places = await this.#run(allocateFromShard, command);
    // The shard's CRL is wanted before a certificate names it.
    if ('shard' in places) await this.feed.deliver();
    return places;
  }

  reserve(command: ReserveCommand): Promise<void> {
    return this.#run(reserve, command);
  }

  previewReserve(wanted: WantedIssuance): ReturnType<CertificateStore['previewReserve']> {
    return this.#database.preview(previewReserve, wanted, this.#clock.wallMs());
  }

  async complete(command: CompleteCommand): ReturnType<CertificateStore['complete']> {
    const { outcome, ...others } = await this.#run(complete, command);
    await this.feed.deliver();
    if (outcome === 'revoked')
      throw new PkiError('revoked-while-issuing', 'a certificate was revoked while it was being issued');
    return { outcome, ...others };
  }

  async endOverlaps(): Promise<void> {
    const nowMs = this.#clock.wallMs();
    const due = await this.#database.read((reader) => reader.findDue('succession', nowMs, dueMax));
    await this.#each(due, ({ issuanceId, holderId }) => this.#run(endOverlap, { issuanceId, holderId }));
  }

  async endWaits(unconfirmed: 'revoke' | 'activate'): Promise<void> {
    const nowMs = this.#clock.wallMs();
    const due = await this.#database.read((reader) => overdue(reader, nowMs));
    await this.#each(due, ({ issuanceId, holderId }) =>
      this.#run(endWait, { issuanceId, holderId, unconfirmed }),
    );
  }

  async endShortened(): Promise<void> {
    const nowMs = this.#clock.wallMs();
    const due = await this.#database.read((reader) => shortenedCards(reader, nowMs));
    await this.#each(due, (mediumId) => this.#run(endShortened, { mediumId }));
  }

  /** Does what is due, each by itself: one that fails does not keep the others from it. */
  async #each<T>(due: readonly T[], act: (one: T) => Promise<void>): Promise<void> {
    const results = await Promise.allSettled(due.map(async (one) => act(one)));
    if (due.length > 0) await this.feed.deliverEverywhere();
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
  }

  pendingEvents(): Promise<readonly string[]> {
    return this.#database.read(pendingEvents);
  }

  releaseReservation(issuanceId: string, actor: Actor): Promise<void> {
    return this.#run(releaseReservation, { issuanceId, actor });
  }

  async pendingReservations(which: 'own-and-expired' | 'expired'): Promise<readonly string[]> {
    const nowMs = this.#clock.wallMs();
    const gone = new Set(await this.#database.goneNodes?.());
    return this.#database.read((reader) => {
      const rows = reader.find('reservation', {});
      const own = which === 'own-and-expired' ? this.#database.writer : undefined;
      const pending = rows.filter(
        ({ writer, leaseUntilMs }) => writer === own || leaseUntilMs < nowMs || gone.has(writer),
      );
      return pending.map(({ issuanceId }) => issuanceId);
    });
  }

  reservation(issuanceId: string): Promise<Reservation> {
    return this.#database.read((reader) => loadReservation(reader, issuanceId));
  }

  async change(command: ChangeCommand): Promise<ChangeOutcome> {
    const outcome = await this.#run(change, command);
    await this.feed.deliverEverywhere();
    if (outcome instanceof PkiError) throw outcome;
    return outcome;
  }

  async blockKey(command: BlockKeyCommand): Promise<ChangeOutcome> {
    const outcome = await this.#run(blockKey, command);
    await this.feed.deliverEverywhere();
    return outcome;
  }

  preview(command: Pick<ChangeCommand, 'target' | 'plan' | 'report'>): Promise<Consequence> {
    return this.#database.preview(previewChange, command, this.#clock.wallMs());
  }

  holderIdOf(target: Target): Promise<string | null | undefined> {
    return this.#database.read((reader) => targetHolder(reader, target));
  }

  previewBlock(command: Pick<BlockKeyCommand, 'keyHash'>): Promise<Consequence> {
    return this.#database.preview(previewBlock, command, this.#clock.wallMs());
  }

  reported(client: string, eventId: string): Promise<RecordedReport | undefined> {
    return this.#database.read((reader) => findReport(reader, client, eventId));
  }

  checkChallenge(challengeHash: Bytes, client: string): Promise<void> {
    const nowMs = this.#clock.wallMs();
    return this.#database.read((reader) => {
      usableChallenge(reader, challengeHash, { client, nowMs });
    });
  }

  putChallenge(
    command: Parameters<CertificateStore['putChallenge']>[0],
  ): ReturnType<CertificateStore['putChallenge']> {
    return this.#run(putChallenge, command);
  }

  certificate(key: CertificateId): Promise<CertificateView | undefined> {
    return this.#database.read((reader) => {
      const row = reader.get('certificate', keyOf(key));
      return row && certificateView(reader, row);
    });
  }

  encoding(key: CertificateId): Promise<Encoding | undefined> {
    return this.#database.read((reader) => {
      const signature = signatureOf(reader, key);
      const encoding = signature && reader.get('encoding', keyOf(key));
      if (!encoding) return undefined;
      const { dataKey, octets } = encoding;
      return { toBeSigned: { key: dataKey, octets }, signature };
    });
  }

  issuance(issuanceId: string): ReturnType<CertificateStore['issuance']> {
    return this.#database.read((reader) => {
      const succession = reader.get('succession', { issuanceId });
      return {
        certificates: reader.find('certificate', { issuanceId }).map((row) => certificateView(reader, row)),
        replaced: replacedIn(succession?.replaced ?? null).answered,
        isAwaited: wasAwaited(reader, issuanceId),
      };
    });
  }

  holder(holderId: string): ReturnType<CertificateStore['holder']> {
    return this.#database.read((reader) => {
      if (!isKnownHolder(reader, holderId)) return undefined;
      const media = mediaOf(reader, holderId).map((row) => knownMedium(reader, row));
      return {
        media,
        applets: media.flatMap(({ mediumId }) => reader.find('applet', { mediumId })),
        certificates: reader
          .find('certificate', { holderId })
          .sort((a, b) => a.authority.localeCompare(b.authority) || byIssue(a, b))
          .map((row) => certificateView(reader, row)),
        facts: factsOf(reader, holderId),
        standing: standingOf(reader, holderId),
      };
    });
  }

  medium(mediumId: string): Promise<Medium | undefined> {
    return this.#database.read((reader) => {
      const row = reader.get('medium', { mediumId });
      return row && mediumView(row);
    });
  }

  history(of: Parameters<CertificateStore['history']>[0]): Promise<readonly HistoryEntry[]> {
    return this.#database.read((reader) => historyOf(reader, of));
  }

  endingBefore(
    beforeMs: number,
    after: CertificateId | undefined,
    limit: number,
  ): ReturnType<CertificateStore['endingBefore']> {
    const nowMs = this.#clock.wallMs();
    return this.#database.read((reader) => endingBefore(reader, { nowMs, beforeMs, after, limit }));
  }

  dataKey(name: string, wrapped: Uint8Array): Promise<Uint8Array> {
    return this.#run(dataKey, { name, wrapped });
  }

  encodingBase(baseId: Uint8Array): Promise<Uint8Array | undefined> {
    return this.#database.read((reader) => reader.get('encodingBase', { baseId })?.octets);
  }

  keepEncodingBase(baseId: Uint8Array, octets: Uint8Array): Promise<void> {
    return this.#database.run(keepEncodingBase, { baseId, octets }, this.#clock.wallMs());
  }

  findDataKey(name: string): Promise<Uint8Array | undefined> {
    return this.#database.read((reader) => reader.get('dataKey', { name })?.wrappedKey);
  }

  #run<Input, Outcome>(rule: Rule<Input, Outcome>, input: Input): Promise<Outcome> {
    return this.#database.run(rule, input, this.#clock.wallMs());
  }
}

function loadReservation(reader: RecordReader, issuanceId: string): Reservation {
  const rows = reader.find('certificate', { issuanceId });
  const certificates = rows.map((row) => {
    const encoding = reader.get('encoding', keyOf(row));
    if (!encoding) throw new Error('a reservation without to-be-signed bytes');
    return {
      ...certificateView(reader, row),
      toBeSigned: { key: encoding.dataKey, octets: encoding.octets },
    };
  });
  return { issuanceId, certificates };
}
