import { randomUUID } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { durationMs } from '../../core/config/duration.ts';
import type { ApprovalNeeded } from '../../core/model/approval.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { uuidAt } from '../../core/runtime/uuid.ts';
import type { Proposal, ProposedRequest } from '../../store/api/proposal-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { type Caller, callerAs, callerOf, refuseSystem, scopeOf, whyRefused } from './caller.ts';
import { maybeInstant, proposal as shown } from './present.ts';
import type { Problem } from './problem.ts';
import { noteNamed } from './readings.ts';

// What waits for a second person. A request that needs one is put on record, sealed, and answered 202; when another person has approved
// its plan it is carried out as it came, under its own Idempotency-Key and in the name of who proposed it, so that a repetition of the
// request gets the answer. A process that dies in between carries it out later, once.

/** Members of requests that a plan shows: none is personal, or a secret. */
const planMembers = [
  ...['holderId', 'cardId', 'deviceId', 'replacesCardId', 'cardExpiresOn', 'event', 'eventId', 'occurredAt'],
  ...[
    'deskCode',
    'municipalityCode',
    'authenticationOnly',
    'handedOver',
    'action',
    'reason',
    'heldBy',
    'keyHash',
  ],
  ...['fingerprint', 'name', 'kind', 'roles', 'desks', 'municipalities', 'authorities'],
  ...['functions', 'actsPerDay', 'validFrom', 'validTo', 'what', 'ground'],
];

/** Where a request within the process says that it carries a proposal out. */
const executionHeader = 'warifu-execution';

/** How long a revocation waits that holds meanwhile: what is held stays so, whatever becomes of the proposal. */
const heldMs = 366 * 86_400_000;

const notYet = 'what is approved cannot be carried out yet';

export class Approvals {
  readonly #ca: CertificateAuthority;
  readonly #logger: Logger;
  #app: FastifyInstance | undefined;
  /** Requests that are made within the process, by what they show for themselves. */
  readonly #executions = new Map<string, Caller>();
  readonly #underWay = new Set<string>();

  constructor(ca: CertificateAuthority, logger: Logger) {
    this.#ca = ca;
    this.#logger = logger;
  }

  /** Through whose routes proposals are carried out. */
  serve(app: FastifyInstance): void {
    this.#app = app;
  }

  /** In whose name a request within the process is made; undefined for one that came over a connection. */
  callerOf(request: FastifyRequest): Caller | undefined {
    const nonce = request.headers[executionHeader];
    // Node's TLS sockets know whether they are authorized; what is injected has none.
    if (typeof nonce !== 'string' || 'authorized' in request.raw.socket) return undefined;
    return this.#executions.get(nonce);
  }

  /** Puts a request on record until a second person approves it, and answers 202; a repetition gets the same proposal. */
  async propose(
    request: FastifyRequest,
    reply: FastifyReply,
    { act, consequence }: Pick<ApprovalNeeded, 'act' | 'consequence'>,
  ): Promise<FastifyReply> {
    const { sealer, clock, config, proposals } = this.#ca;
    const caller = callerOf(request);
    // What takes trust away waits in the name of a system, too.
    const isHeld = act === 'mass-revocation';
    if (!isHeld) refuseSystem(caller);
    const scope = await scopeOf(this.#ca, request, String(request.headers['idempotency-key']));
    const before = await proposals.of(scope);
    if (before) return this.#again(reply, before);
    if (consequence) noteNamed(request);
    const nowMs = clock.wallMs();
    const [proposalId, body] = [uuidAt(nowMs), request.bodyOctets ?? Buffer.alloc(0)];
    const plan = JSON.stringify({
      ...(await this.#planOf(request)),
      ...(consequence ? { consequence } : {}),
    });
    const planHash = hex(
      digest('sha256', Buffer.from(JSON.stringify([scope.route, request.url, plan, hex(scope.bodyHash)]))),
    );
    const expiresMs = nowMs + (isHeld ? heldMs : durationMs(config.approvals.life));
    const year = `year:${new Date(Math.max(scope.expiresMs, expiresMs)).getUTCFullYear()}`;
    const proposed = await proposals.propose({
      ...{ proposalId, act, plan, planHash, scope, url: request.url, actor: caller.actor },
      ...{ role: caller.actor.role, desk: deskOf(request, caller), municipalities: caller.municipalities },
      sealed: await sealer.seal(year, contextOf(proposalId), body),
      ...{ expiresMs, openMax: isHeld ? null : config.approvals.openMax },
    });
    request.log.info({ proposalId: proposed.proposalId, act }, 'a request waits for a second person');
    return reply.code(202).send(shown(proposed));
  }

  /** What a request is answered that was proposed before: as it was carried out, or that it waits. */
  #again(reply: FastifyReply, { state, refusal, expiresMs, ...proposal }: Proposal): FastifyReply {
    if (refusal) throw new PkiError(refusal.code, refusal.detail);
    const isOver = state === 'expired' || (state === 'proposed' && expiresMs <= this.#ca.clock.wallMs());
    if (isOver || state === 'withdrawn')
      throw new PkiError(
        'illegal-transition',
        `the proposal ${proposal.proposalId} ${isOver ? 'has expired' : 'was withdrawn'}: send the request under another Idempotency-Key`,
      );
    const known = { ...proposal, state, refusal, expiresMs };
    return reply.header('Idempotency-Replayed', 'true').code(202).send(shown(known));
  }

  /** Carries out what is approved and was not carried out: of a process that died, or a database that failed. */
  async resume(): Promise<void> {
    // What takes trust away first.
    for (const isFirst of [true, false])
      for (let after: string | null = null; ; ) {
        const page = await this.#ca.proposals.approved(after);
        // One that fails keeps no other from being carried out.
        for (const approved of page.filter(({ act }) => (act === 'mass-revocation') === isFirst))
          await this.#execute(approved).catch((error: Error) =>
            this.#logger.error({ proposalId: approved.proposalId, reason: error.message }, notYet),
          );
        after = page.at(-1)?.proposalId ?? null;
        if (after === null) break;
      }
  }

  /** What the request is about, and for a client that there is what it is bound to now. */
  async #planOf(request: FastifyRequest): Promise<object> {
    const { method, url, routeOptions, params } = request;
    const body = (request.body ?? {}) as Readonly<Record<string, unknown>>;
    const members = Object.fromEntries(
      planMembers.flatMap((name) => (name in body ? [[name, body[name]]] : [])),
    );
    const { fingerprint } = params as { fingerprint?: string };
    const client = fingerprint === undefined ? undefined : await this.#ca.clients.client(fingerprint);
    const { name, kind, roles, desks, municipalities, revokedMs = null } = client ?? {};
    const revokedAt = maybeInstant(revokedMs);
    const before = client ? { before: { name, kind, roles, desks, municipalities, revokedAt } } : {};
    const more = (await routeOptions.config.plan?.(request)) ?? {};
    return {
      request: `${method} ${url}`,
      ...(params as object),
      ...members,
      ...before,
      ...more,
    };
  }

  async #execute({ scope, url, sealed, ...proposal }: Proposal & ProposedRequest): Promise<void> {
    const { proposalId } = proposal;
    if (this.#underWay.has(proposalId) || !this.#app) return;
    this.#underWay.add(proposalId);
    const nonce = randomUUID();
    try {
      const caller = await this.#proposerOf(proposal);
      if (caller) this.#executions.set(nonce, caller);
      const body = Buffer.from(await this.#ca.sealer.open(contextOf(proposalId), sealed));
      const [method = 'POST'] = scope.route.split(' ');
      const answer =
        caller &&
        (await this.#app.inject({
          method: method as 'POST',
          url,
          headers: {
            [executionHeader]: nonce,
            'idempotency-key': scope.idempotencyKey,
            ...(body.length === 0 ? {} : { 'content-type': 'application/json' }),
          },
          ...(body.length === 0 ? {} : { payload: body }),
        }));
      // What fails for now is tried again; what is refused stays refused.
      const status = answer?.statusCode ?? 403;
      const refusal = refusalIn(answer?.payload, status);
      if (status >= 500 || refusal?.code === 'request-in-progress')
        this.#logger.warn({ proposalId, status }, notYet);
      else await this.#ca.proposals.settle({ proposalId, status, refusal });
    } finally {
      this.#executions.delete(nonce);
      this.#underWay.delete(proposalId);
    }
  }

  /** The proposer, as it may act now, with who approved; undefined where one of them may not any more. */
  async #proposerOf({
    proposedBy,
    proposalId,
    role,
    approvedBy,
    plan,
  }: Proposal): Promise<Caller | undefined> {
    const able = async (clientId: string | null) =>
      clientId === null
        ? undefined
        : (await this.#ca.clients.certificatesOf(clientId)).find(
            (each) => whyRefused(this.#ca, each, [role]) === undefined,
          );
    const client = await able(proposedBy);
    if (!client || approvedBy === null || !(await able(approvedBy))) return undefined;
    const { consequence } = JSON.parse(plan) as { consequence?: { planHash: string } };
    const caller = callerAs(client, role, proposalId);
    const approval = { by: approvedBy, planHash: consequence?.planHash };
    return { ...caller, approval, actor: { ...caller.actor, approvedBy } };
  }
}

/** Why a request was refused; null where it was carried out. */
function refusalIn(payload: string | undefined, status: number): Proposal['refusal'] {
  if (status < 300) return null;
  if (payload === undefined)
    return { code: 'forbidden', detail: 'who proposed or approved it may not do it any more' };
  const { title, detail } = JSON.parse(payload) as Problem;
  return { code: title, detail };
}

const contextOf = (proposalId: string): string => `proposal:${proposalId}`;

/** The desk that acts: the one that a request names, or the only one of its client. Administrators act for none. */
function deskOf({ body }: FastifyRequest, { desks, actor }: Caller): string | null {
  if (actor.role === 'administrator') return null;
  const named = (body as { deskCode?: unknown } | undefined)?.deskCode;
  if (typeof named === 'string') return named;
  const [only, ...others] = desks;
  return only === undefined || only === '*' || others.length > 0 ? null : only;
}
