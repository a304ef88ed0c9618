import type { RequestScope, Sealed } from '../../core/model/act.ts';
import type { ApprovalAct } from '../../core/model/approval.ts';
import type { ErrorCode } from '../../core/runtime/errors.ts';
import type { OperatorCommand } from './outcome.ts';

/** A request that waits for a second person, or did. */
export interface Proposal {
  readonly proposalId: string;
  readonly act: ApprovalAct;
  /** What the request is for: its members, but for keys and what is personal. JSON. */
  readonly plan: string;
  /** SHA-256 over route, address, plan and a keyed hash of the request, hex: what is approved. */
  readonly planHash: string;
  /** In which role it was proposed, at which desk, and on whose holders: who approves has no less. */
  readonly role: string;
  readonly desk: string | null;
  readonly municipalities: readonly string[];
  /** `approved`: it is being carried out. `failed`: it was refused as it was. */
  readonly state: 'proposed' | 'approved' | 'done' | 'failed' | 'withdrawn' | 'expired';
  /** Clients. */
  readonly proposedBy: string;
  readonly proposedMs: number;
  readonly expiresMs: number;
  readonly approvedBy: string | null;
  readonly approvedMs: number | null;
  /** A person other than the proposer who wants it withdrawn: a second one withdraws it. */
  readonly withdrawnBy: string | null;
  readonly settledMs: number | null;
  /** How it was answered when it was carried out. */
  readonly status: number | null;
  /** Why it was refused then. */
  readonly refusal: { readonly code: ErrorCode; readonly detail: string } | null;
}

/** One that was not approved, and why. */
export interface RefusedProposal {
  readonly proposalId: string;
  readonly title: ErrorCode;
  readonly detail: string;
}

/** What is carried out, as it came. */
export interface ProposedRequest {
  readonly scope: Pick<RequestScope, 'client' | 'route' | 'idempotencyKey' | 'bodyHash'>;
  readonly url: string;
  /** Of the body. */
  readonly sealed: Sealed;
}

/** Proposals; durability, concurrency and errors as of `CertificateStore`. */
export interface ProposalStore {
  /**
   * Puts a proposal on record; the one that there is, where the request is repeated. `idempotency-key-reused`; `quota-exceeded` where
   * `openMax` of that client wait already; null: any number may.
   */
  propose(
    proposal: Omit<
      Proposal,
      | 'state'
      | 'approvedBy'
      | 'approvedMs'
      | 'withdrawnBy'
      | 'settledMs'
      | 'status'
      | 'refusal'
      | 'proposedMs'
      | 'proposedBy'
    > &
      ProposedRequest &
      Pick<OperatorCommand, 'actor'> & { readonly openMax: number | null },
  ): Promise<Proposal>;
  /** The proposal of a request; undefined where there is none. `idempotency-key-reused`. */
  of(scope: ProposedRequest['scope']): Promise<Proposal | undefined>;
  proposal(proposalId: string): Promise<Proposal | undefined>;
  /** In order of ids, which is that of time, from behind one on. */
  list(state: Proposal['state'], after: string | null, limit: number): Promise<readonly Proposal[]>;
  /**
   * Approves a proposal. `forbidden` to its proposer, `plan-changed` where another plan was seen, `illegal-transition` unless it is
   * proposed and has not expired.
   */
  approve(command: OperatorCommand & Pick<Proposal, 'proposalId' | 'planHash'>): Promise<Proposal>;
  /** Approves those that it can, in one transaction; `unknown` are refused with the others. */
  approveAll(
    command: OperatorCommand & {
      readonly proposals: readonly Pick<Proposal, 'proposalId' | 'planHash'>[];
      readonly unknown: readonly RefusedProposal[];
    },
  ): Promise<{ readonly approved: readonly string[]; readonly refused: readonly RefusedProposal[] }>;
  /** Withdraws a proposal: its proposer at once, others by two persons. `illegal-transition` unless it is proposed. */
  withdraw(command: OperatorCommand & Pick<Proposal, 'proposalId'>): Promise<Proposal>;
  /** Ends what has waited too long: the requests are forgotten. */
  expire(): Promise<void>;
  /** What is approved and not carried out yet, from behind an id on. */
  approved(after: string | null): Promise<readonly (Proposal & ProposedRequest)[]>;
  /** What came of carrying it out; the request itself is forgotten. */
  settle(outcome: Pick<Proposal, 'proposalId' | 'refusal'> & { readonly status: number }): Promise<void>;
}
