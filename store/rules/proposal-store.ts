import type { Clock } from '../../core/runtime/clock.ts';
import { must } from '../../core/runtime/errors.ts';
import type { Proposal, ProposalStore, ProposedRequest } from '../api/proposal-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import {
  approveProposal,
  approveProposals,
  expireProposal,
  proposalOf,
  proposalView,
  propose,
  settleProposal,
  withdrawProposal,
} from './proposal-rules.ts';

/** Proposals that are carried out, or expire, at a time. */
const atATime = 100;

/** Proposals over any `RecordDatabase`. */
export class RecordProposals implements ProposalStore {
  readonly #database: RecordDatabase;
  readonly #clock: Clock;
  #expiredUpTo: string | null = null;

  constructor(options: { readonly database: RecordDatabase; readonly clock: Clock }) {
    this.#database = options.database;
    this.#clock = options.clock;
  }

  propose(command: Parameters<ProposalStore['propose']>[0]): Promise<Proposal> {
    return this.#database.run(propose, command, this.#clock.wallMs());
  }

  of(scope: ProposedRequest['scope']): Promise<Proposal | undefined> {
    return this.#database.read((reader) => {
      const row = proposalOf(reader, scope);
      return row && proposalView(row);
    });
  }

  proposal(proposalId: string): Promise<Proposal | undefined> {
    return this.#database.read((reader) => {
      const row = reader.get('proposal', { proposalId });
      return row && proposalView(row);
    });
  }

  list(state: Proposal['state'], after: string | null, limit: number): Promise<readonly Proposal[]> {
    const order = ['proposalId'] as const;
    const behind = after === null ? {} : { after: [after] };
    return this.#database.read((reader) =>
      reader.scan('proposal', { where: { state }, order, limit, ...behind }).map(proposalView),
    );
  }

  approve(command: Parameters<ProposalStore['approve']>[0]): Promise<Proposal> {
    return this.#database.run(approveProposal, command, this.#clock.wallMs());
  }

  approveAll(command: Parameters<ProposalStore['approveAll']>[0]): ReturnType<ProposalStore['approveAll']> {
    return this.#database.run(approveProposals, command, this.#clock.wallMs());
  }

  withdraw(command: Parameters<ProposalStore['withdraw']>[0]): Promise<Proposal> {
    return this.#database.run(withdrawProposal, command, this.#clock.wallMs());
  }

  approved(after: string | null): Promise<readonly (Proposal & ProposedRequest)[]> {
    return this.#database.read((reader) => {
      const rows = reader.scan('proposal', {
        ...{ where: { state: 'approved' }, order: ['proposalId'], limit: atATime },
        ...(after === null ? {} : { after: [after] }),
      });
      return rows.map((row) => {
        const { client, route, idempotencyKey, bodyHash, url, dataKey, body } = row;
        const sealed = { key: must(dataKey, 'key of a proposal'), octets: must(body, 'body of a proposal') };
        return { ...proposalView(row), scope: { client, route, idempotencyKey, bodyHash }, url, sealed };
      });
    });
  }

  async expire(): Promise<void> {
    const nowMs = this.#clock.wallMs();
    // Page by page, round and round: those that wait longest may be many.
    const page = await this.list('proposed', this.#expiredUpTo, atATime);
    this.#expiredUpTo = page.length < atATime ? null : (page.at(-1)?.proposalId ?? null);
    for (const { proposalId } of page.filter(({ expiresMs }) => expiresMs <= nowMs))
      await this.#database.run(expireProposal, { proposalId }, nowMs);
  }

  settle(outcome: Parameters<ProposalStore['settle']>[0]): Promise<void> {
    return this.#database.run(settleProposal, outcome, this.#clock.wallMs());
  }
}
