import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { Thread } from '../../core/workers/thread.ts';
import type { DeviceMatch } from '../api/device-match.ts';
import type {
  MassAct,
  OperationsStore,
  OperatorCommand,
  Restriction,
  Switch,
} from '../api/operations-store.ts';
import type { RecordDatabase, Transaction } from '../engine/record.ts';
import type { RecordFeed } from '../feed/event-feed.ts';
import type { Row } from '../schema/schema.ts';
import { writeOnce } from './requests.ts';
import {
  actView,
  advanceMassAct,
  certificatesOn,
  isMatched,
  type MassActStart,
  type MassActStep,
  phonesAfter,
  restrictionView,
} from './restrictions.ts';
import { allSwitches, passSwitch, switchView } from './switches.ts';

/** Phones that are read at once where nothing is written. */
const countedAtOnce = 500;

/** What operators set and start, over any `RecordDatabase`. */
export class RecordOperations implements OperationsStore {
  readonly #database: RecordDatabase;
  readonly #feed: RecordFeed;
  readonly #clock: Clock;
  readonly #file: string | undefined;
  readonly #journalKey: Bytes | null;
  #isCounting = false;
  #thread: Thread<MassActStep, Row<'massAct'> | null> | undefined;

  /** `file` is the record's: then mass acts are carried out in a thread. */
  constructor(options: {
    readonly database: RecordDatabase;
    readonly feed: RecordFeed;
    readonly clock: Clock;
    readonly file?: string;
    /** Key of `JournalSeal`, for that thread. */
    readonly journalKey?: Bytes;
  }) {
    this.#file = options.file;
    this.#journalKey = options.journalKey ?? null;
    this.#database = options.database;
    this.#feed = options.feed;
    this.#clock = options.clock;
  }

  switches(): Promise<readonly Switch[]> {
    return this.#database.read(allSwitches);
  }

  setSwitch(command: Parameters<OperationsStore['setSwitch']>[0]): Promise<void> {
    const { scope, actor, name, state, perMinute, note } = command;
    const nowMs = this.#clock.wallMs();
    const deed = { actor, action: 'setSwitch', subject: { name, state, perMinute } };
    return writeOnce(this.#database, { scope, deed, nowMs }, (tx) => {
      const row = { name, state, perMinute, note, changedMs: nowMs, changedBy: actor.client };
      const before = tx.get('switch', { name });
      if (before) tx.update('switch', row, before);
      else tx.insert('switch', row);
      return command.reply(switchView(row));
    });
  }

  async countMatching(match: DeviceMatch): Promise<{ phones: number; certificates: number }> {
    if (this.#isCounting) throw new PkiError('overloaded', 'another count is under way');
    this.#isCounting = true;
    try {
      return await this.#count(match);
    } finally {
      this.#isCounting = false;
    }
  }

  async #count(match: DeviceMatch): Promise<{ phones: number; certificates: number }> {
    let [phones, certificates] = [0, 0];
    let cursor: readonly [string, string] | undefined;
    for (let isLast = false; !isLast; ) {
      // A transaction for each bit: others read in between.
      await this.#database.read((reader) => {
        const next = phonesAfter(reader, match, cursor, countedAtOnce);
        for (const phone of next.phones) {
          if (!isMatched(reader, match, phone)) continue;
          phones += 1;
          const rows = certificatesOn(reader, phone);
          certificates += rows.filter(({ state }) => state === 'good').length;
        }
        ({ cursor, isLast } = next);
      });
      await new Promise((resolve) => setImmediate(resolve));
    }
    return { phones, certificates };
  }

  proposeRestriction(command: Parameters<OperationsStore['proposeRestriction']>[0]): Promise<void> {
    const { restrictionId, match, note } = command;
    return this.#act(command, 'proposeRestriction', { restrictionId }, (tx, nowMs) => {
      const row = { restrictionId, match: JSON.stringify(match), note, state: 'proposed', createdMs: nowMs };
      tx.insert('restriction', row);
      tx.insert('massAct', proposal(command, { restrictionId, action: 'hold', reason: null }, nowMs));
      return row;
    });
  }

  proposeEnd(command: Parameters<OperationsStore['proposeEnd']>[0]): Promise<void> {
    const { restrictionId, action, reason } = command;
    return this.#act(command, 'proposeEnd', { restrictionId, action }, (tx, nowMs) => {
      const row = tx.get('restriction', { restrictionId });
      if (!row) throw new PkiError('not-found', 'no such restriction');
      if (row.state !== 'in-force')
        throw new PkiError('illegal-transition', `the restriction is ${row.state}, not in force`);
      tx.insert('massAct', proposal(command, { restrictionId, action, reason }, nowMs));
      return row;
    });
  }

  approve(command: Parameters<OperationsStore['approve']>[0]): Promise<void> {
    const { actId, actor } = command;
    return this.#act(command, 'approve', { actId }, (tx, nowMs) => {
      const { act, restriction } = proposed(tx, actId);
      if (act.proposedBy === actor.client)
        throw new PkiError('forbidden', 'whoever proposed it does not approve it');
      const wanted = act.action === 'hold' ? 'proposed' : 'in-force';
      if (restriction.state !== wanted)
        throw new PkiError('illegal-transition', `the restriction is ${restriction.state}`);
      if (act.action === 'release') passSwitch(tx, 'release', nowMs);
      const acts = tx.find('massAct', { restrictionId: act.restrictionId });
      if (acts.some(({ state }) => state === 'running'))
        throw new PkiError('illegal-transition', 'another act of the restriction is still running');
      const approved = { ...act, state: 'running', approvedBy: actor.client, approvedMs: nowMs };
      tx.update('massAct', approved, act);
      // Held: no phone that matches enrols any more, from this moment on, until the last is released.
      const after = { ...restriction, state: 'in-force' };
      tx.update('restriction', after, restriction);
      return after;
    });
  }

  withdraw(command: Parameters<OperationsStore['withdraw']>[0]): Promise<void> {
    const { actId } = command;
    return this.#act(command, 'withdraw', { actId }, (tx) => {
      const { act, restriction } = proposed(tx, actId);
      tx.update('massAct', { ...act, state: 'withdrawn' }, act);
      const after = { ...restriction, state: act.action === 'hold' ? 'withdrawn' : restriction.state };
      tx.update('restriction', after, restriction);
      return after;
    });
  }

  restrictions(): Promise<readonly Restriction[]> {
    return this.#database.read((reader) => {
      const rows = reader.find('restriction', {});
      return rows.map((row) => restrictionView(reader, row));
    });
  }

  restriction(restrictionId: string): Promise<Restriction | undefined> {
    return this.#database.read((reader) => {
      const row = reader.get('restriction', { restrictionId });
      return row && restrictionView(reader, row);
    });
  }

  runningActs(): Promise<readonly MassAct[]> {
    return this.#database.read((reader) => reader.find('massAct', { state: 'running' }).map(actView));
  }

  async advance(actId: string, phones: number): Promise<MassAct> {
    if (this.#file === undefined)
      return actView(await advanceMassAct(this.#database, { actId, phones }, this.#clock.wallMs()));
    const thread = this.#massActs(this.#file);
    const row = await this.#database.exclusive((wanted) =>
      thread.tell({ type: 'step', actId, phones, wanted }),
    );
    if (!row) {
      this.#thread = undefined;
      throw new PkiError('record-unavailable', 'the thread of mass acts has ended');
    }
    return actView(row);
  }

  /** The thread in which mass acts are carried out, begun where it is first wanted. */
  #massActs(file: string): Thread<MassActStep, Row<'massAct'> | null> {
    const start: MassActStart = {
      file,
      writer: this.#database.writer,
      shift: this.#clock.shift ?? null,
      journalKey: this.#journalKey,
    };
    const script = new URL('./mass-act-thread.ts', import.meta.url);
    this.#thread ??= new Thread({ script, start });
    // What ended it is met by whoever asks it next.
    this.#thread.ended.catch(() => undefined);
    return this.#thread;
  }

  async close(): Promise<void> {
    await this.#thread?.close().catch(() => undefined);
  }

  deliver(): Promise<void> {
    return this.#feed.deliver();
  }

  #act(
    { scope, actor, reply }: OperatorCommand<Restriction>,
    action: string,
    subject: object,
    body: (tx: Transaction, nowMs: number) => Row<'restriction'>,
  ): Promise<void> {
    const nowMs = this.#clock.wallMs();
    const deed = { actor, action, subject: { ...subject } };
    return writeOnce(this.#database, { scope, deed, nowMs }, (tx) =>
      reply(restrictionView(tx, body(tx, nowMs))),
    );
  }
}

function proposal(
  { actor }: Pick<OperatorCommand<unknown>, 'actor'>,
  act: Pick<MassAct, 'restrictionId' | 'action' | 'reason'>,
  nowMs: number,
): Row<'massAct'> {
  return {
    ...act,
    actId: crypto.randomUUID(),
    state: 'proposed',
    proposedBy: actor.client,
    proposedMs: nowMs,
    approvedBy: null,
    approvedMs: null,
    cursor: null,
    phones: 0,
    certificates: 0,
    finishedMs: null,
  };
}

function proposed(tx: Transaction, actId: string): { act: Row<'massAct'>; restriction: Row<'restriction'> } {
  const act = tx.get('massAct', { actId });
  const restriction = act && tx.get('restriction', { restrictionId: act.restrictionId });
  if (!act || !restriction) throw new PkiError('not-found', 'no such act');
  if (act.state !== 'proposed') throw new PkiError('illegal-transition', `the act is ${act.state} already`);
  return { act, restriction };
}
