import type { KeyFactory } from '../../bench/load/keys.ts';
import type { BatchAnswer, BatchLine, CaClient } from '../../ca/client/client.ts';
import { cardRequest } from '../support/actors.ts';
import type { Certificate } from './torture-holder.ts';

/** Lines that are sent again in each life of the service. */
const linesEach = 12;

/** Who got certificates from a batch. */
export interface Produced {
  readonly id: string;
  readonly certificates: readonly Certificate[];
}

/** Card production that goes on whatever happens: what has no answer is sent again, under its key. */
export class Production {
  readonly #keys: KeyFactory;
  readonly #pending = new Map<string, BatchLine>();
  readonly #answers = new Map<string, { readonly line: BatchLine; readonly issued: string }>();
  readonly produced: Produced[] = [];
  #lines = 0;

  constructor(keys: KeyFactory) {
    this.#keys = keys;
  }

  get acknowledged(): number {
    return this.#answers.size;
  }

  /** Sends what has no answer and some more, until the service is gone. Rejects where a line is refused. */
  async produce(api: CaClient): Promise<void> {
    for (let i = 0; i < linesEach; i++) this.#add();
    try {
      await this.#send(api);
    } catch (error) {
      // The connection went with the service; a refusal is no such end.
      if (error instanceof Refused) throw error;
    }
  }

  /** Asks again for all that has no answer, and has it now. */
  async settle(api: CaClient): Promise<void> {
    await this.#send(api);
    if (this.#pending.size > 0) throw new Error(`${this.#pending.size} lines have no answer`);
  }

  /** Whatever was answered is answered so again. */
  async check(api: CaClient): Promise<void> {
    const lines = [...this.#answers.values()].map(({ line }) => line);
    for await (const answer of api.issueToCards(lines)) {
      const before = this.#answers.get(answer.idempotencyKey ?? '');
      if (!answer.replayed || JSON.stringify(answer.issued) !== before?.issued)
        throw new Error(`line ${answer.idempotencyKey} was answered otherwise: ${JSON.stringify(answer)}`);
    }
  }

  #add(): void {
    const id = `b${++this.#lines}`;
    const chip = { signing: this.#keys.next(), authentication: this.#keys.next() };
    const card = cardRequest(chip, { holderId: id, cardId: id }) as BatchLine['card'];
    this.#pending.set(id, { idempotencyKey: id, card });
  }

  async #send(api: CaClient): Promise<void> {
    for await (const answer of api.issueToCards([...this.#pending.values()])) this.#learn(answer);
  }

  #learn({ idempotencyKey, status, issued, problem }: BatchAnswer): void {
    const line = this.#pending.get(idempotencyKey ?? '');
    // What cannot be signed or written just now is asked for again.
    if (status === 503 || problem?.type.endsWith('request-in-progress')) return;
    if (!line || !issued) throw new Refused(`line ${idempotencyKey}: ${JSON.stringify(problem)}`);
    this.#pending.delete(line.idempotencyKey);
    this.#answers.set(line.idempotencyKey, { line, issued: JSON.stringify(issued) });
    const certificates = issued.certificates.map(({ kind, authority, serialNumber, certificate: pem }) => ({
      kind,
      authority,
      serialNumber,
      pem,
      state: 'good' as const,
    }));
    this.produced.push({ id: issued.holderId, certificates });
  }
}

class Refused extends Error {}
