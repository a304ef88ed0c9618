import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Correction, HolderStore } from '../api/holder-store.ts';
import type { OperatorCommand } from '../api/operations-store.ts';
import type { RecordDatabase, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';
import { adoptedAfter, bindAdopted } from './adopted.ts';
import { orderNotice } from './outbox.ts';
import { writeOnce } from './requests.ts';
import { refuseClosed, standingOf, writeStanding } from './standing.ts';
import { certificateView, keyOf } from './views.ts';

/** What desks decide of holders, over any `RecordDatabase`. */
export class RecordHolders implements HolderStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  proposeCorrection(command: Parameters<HolderStore['proposeCorrection']>[0]): Promise<void> {
    const { correctionId, holderId, note, scope } = command;
    return this.#act(command, 'proposeCorrection', { correctionId }, (tx, nowMs) => {
      if (!tx.get('holder', { holderId })) throw new PkiError('not-found', 'no such holder');
      const standing = standingOf(tx, holderId);
      if (standing?.closedBy == null) throw new PkiError('illegal-transition', 'the holder is not closed');
      const row = {
        correctionId,
        holderId,
        note,
        closedBy: standing.closedBy,
        closedMs: standing.closedMs,
        state: 'proposed',
        proposedBy: scope.client,
        proposedMs: nowMs,
        approvedBy: null,
        approvedMs: null,
      };
      tx.insert('correction', row);
      return correctionView(row);
    });
  }

  approveCorrection(command: Parameters<HolderStore['approveCorrection']>[0]): Promise<void> {
    return this.#decide(command, 'approved', (tx, row, nowMs) => {
      const standing = standingOf(tx, row.holderId);
      if (standing?.closedBy !== row.closedBy || standing.closedMs !== row.closedMs)
        throw new PkiError(
          'illegal-transition',
          `the correction is about ${row.closedBy}, which is not what closes the holder now: propose another`,
        );
      writeStanding(tx, row.holderId, { ...standing, closedBy: null, reopens: null }, nowMs);
    });
  }

  withdrawCorrection(command: Parameters<HolderStore['withdrawCorrection']>[0]): Promise<void> {
    return this.#decide(command, 'withdrawn', async () => undefined);
  }

  corrections(holderId: string): Promise<readonly Correction[]> {
    return this.#database.read((reader) =>
      reader
        .find('correction', { holderId })
        .map(correctionView)
        .sort((a, b) => a.proposedMs - b.proposedMs),
    );
  }

  giveCode(command: Parameters<HolderStore['giveCode']>[0]): Promise<void> {
    const { scope, codeHash, holderId, mediumId, expiresMs } = command;
    return this.#act(command, 'giveCode', { holderId }, (tx, nowMs) => {
      const medium = tx.get('medium', { mediumId });
      if (medium?.holderId !== holderId) throw new PkiError('not-found', 'the holder has no such card');
      refuseClosed(tx, holderId, []);
      const card = tx
        .find('certificate', { holderId })
        .filter((row) => row.mediumId === mediumId && row.notAfterMs > nowMs && row.state !== 'revoked');
      if (card.some(({ kind }) => kind === 'card-signing'))
        throw new PkiError(
          'illegal-transition',
          'the card has a signing certificate, whose key signs for a phone',
        );
      const authentication = card.find(
        ({ kind, state }) => kind === 'card-authentication' && state === 'good',
      );
      if (!authentication)
        throw new PkiError('card-certificate-not-good', 'the card has no good authentication certificate');
      const client = scope.client;
      tx.insert('enrolmentCode', { codeHash, holderId, mediumId, client, expiresMs, usedBy: null });
      orderNotice(tx, authentication, { occasion: 'enrolment-code', nowMs });
      return { holderId, mediumId, expiresMs };
    });
  }

  adopted(after: Parameters<HolderStore['adopted']>[0], limit: number): ReturnType<HolderStore['adopted']> {
    return this.#database.read((reader) => adoptedAfter(reader, after, limit));
  }

  bindAdopted(command: Parameters<HolderStore['bindAdopted']>[0]): Promise<void> {
    return this.#act(command, 'bindAdopted', { ...keyOf(command.key) }, (tx, nowMs) =>
      certificateView(bindAdopted(tx, command, nowMs)),
    );
  }

  #decide(
    command: OperatorCommand<Correction> & Pick<Correction, 'correctionId'>,
    state: 'approved' | 'withdrawn',
    act: (tx: Transaction, row: Row<'correction'>, nowMs: number) => void,
  ): Promise<void> {
    const { correctionId, scope } = command;
    return this.#act(command, `${state}Correction`, { correctionId }, (tx, nowMs) => {
      const row = tx.get('correction', { correctionId });
      if (!row) throw new PkiError('not-found', 'no such correction');
      if (row.state !== 'proposed')
        throw new PkiError('illegal-transition', `the correction is ${row.state}, not proposed`);
      const isApproval = state === 'approved';
      if (isApproval && row.proposedBy === scope.client)
        throw new PkiError('forbidden', 'a correction is approved by another client than proposed it');
      act(tx, row, nowMs);
      const decided = isApproval ? { approvedBy: scope.client, approvedMs: nowMs } : {};
      const after = { ...row, state, ...decided };
      tx.update('correction', after, row);
      return correctionView(after);
    });
  }

  #act<After>(
    { scope, actor, reply }: OperatorCommand<After>,
    action: string,
    subject: Readonly<Record<string, string | number>>,
    act: (tx: Transaction, nowMs: number) => After,
  ): Promise<void> {
    const nowMs = this.#clock.wallMs();
    return writeOnce(this.#database, { scope, deed: { actor, action, subject }, nowMs }, (tx) =>
      reply(act(tx, nowMs)),
    );
  }
}

const correctionView = (row: Row<'correction'>): Correction => ({
  ...row,
  state: row.state as Correction['state'],
});
