import { randomInt } from 'node:crypto';
import { type CertificateId, keyOf } from '../../core/model/certificate-id.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { settled } from '../../core/runtime/settled.ts';
import type { Intake, IntakeStore } from '../api/intake-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { Row } from '../schema/schema.ts';
import {
  acceptIntake,
  addEntries,
  beginIntake,
  drawSample,
  endIntake,
  finishIntake,
  intakeView,
  removeEntries,
  showSignatures,
  takeEntry,
} from './intake-rules.ts';

/** Entries that one call carries on, of each intake: as many as leave time for other work. */
const perTurn = 500;
/** Intakes that one call carries on. */
const intakesPerTurn = 10;

/** Intakes of customers of before, over any `RecordDatabase`. */
export class RecordIntakes implements IntakeStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  intake(intakeId: string): Promise<Intake | undefined> {
    return this.#database.read((reader) => {
      const row = reader.get('intake', { intakeId });
      return row && intakeView(row);
    });
  }

  list(verifierId: string | null, after: string | null, limit: number): Promise<readonly Intake[]> {
    return this.#database.read((reader) => {
      const where = verifierId === null ? {} : { verifierId };
      const from = after === null ? {} : { after: [after] };
      return reader.scan('intake', { where, order: ['intakeId'], limit, ...from }).map(intakeView);
    });
  }

  toShow(intakeId: string): Promise<readonly CertificateId[]> {
    return this.#database.read((reader) => reader.find('intakeEntry', { intakeId, sample: 1 }).map(keyOf));
  }

  begin(command: Parameters<IntakeStore['begin']>[0]): Promise<Intake> {
    return this.#database.run(beginIntake, command, this.#clock.wallMs());
  }

  add(command: Parameters<IntakeStore['add']>[0]): Promise<Intake> {
    return this.#database.run(addEntries, command, this.#clock.wallMs());
  }

  async draw(command: Parameters<IntakeStore['draw']>[0]): Promise<Intake> {
    const entries = (await this.intake(command.intakeId))?.entries ?? 0;
    const numbers = drawn(entries, command.size);
    return this.#database.run(drawSample, { ...command, entries, numbers }, this.#clock.wallMs());
  }

  show(command: Parameters<IntakeStore['show']>[0]): Promise<Intake> {
    return this.#database.run(showSignatures, command, this.#clock.wallMs());
  }

  accept(command: Parameters<IntakeStore['accept']>[0]): Promise<Intake> {
    return this.#database.run(acceptIntake, command, this.#clock.wallMs());
  }

  end(command: Parameters<IntakeStore['end']>[0]): Promise<Intake> {
    return this.#database.run(endIntake, command, this.#clock.wallMs());
  }

  async proceed(max: number): Promise<void> {
    const under = await this.#database.read((reader) =>
      (['take', 'remove'] as const).flatMap((work) =>
        reader.scan('intake', { where: { work }, order: ['intakeId'], limit: intakesPerTurn }),
      ),
    );
    // Each by itself: one that fails holds up no other.
    await settled(under.map((intake) => this.#proceed(intake, max)));
  }

  async #proceed({ intakeId, work }: Row<'intake'>, max: number): Promise<void> {
    const rows = await this.#database.read((reader) =>
      reader.find('intakeEntry', { intakeId }, { limit: perTurn }),
    );
    const nowMs = this.#clock.wallMs();
    if (work === 'remove' && rows.length > 0)
      await this.#database.run(removeEntries, { intakeId, rows }, nowMs);
    if (work === 'take')
      await settled(
        rows.map((row) => this.#database.run(takeEntry, { intakeId, key: keyOf(row), max }, nowMs)),
      );
    if (rows.length < perTurn) await this.#database.run(finishIntake, { intakeId }, nowMs);
  }
}

/** As many different numbers below `entries`, in order, all equally likely. */
function drawn(entries: number, size: number): number[] {
  if (entries <= size) return Array.from({ length: entries }, (_, i) => i);
  const numbers = new Set<number>();
  while (numbers.size < size) numbers.add(randomInt(entries));
  return [...numbers].sort((a, b) => a - b);
}
