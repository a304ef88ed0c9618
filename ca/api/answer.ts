import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { invariant, PkiError } from '../../core/runtime/errors.ts';
import type { Replay, RequestScope } from '../../store/api/certificate-store.ts';
import {
  decodeOutcome,
  type OperatorCommand,
  type OutcomeScope,
  outcomeContext,
} from '../../store/api/outcome.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import type { Issuance } from '../issue/issuance.ts';
import { callerOf, scopeOf } from './caller.ts';
import { issued, recordedIssuance } from './present.ts';
import { Proposal } from './schema-proposals.ts';

export const IdempotencyHeaders = Type.Object({
  'idempotency-key': Type.String({
    pattern: '^[\\x21-\\x7e]{1,64}$',
    description: 'makes a repetition of this request answer what the first one answered',
  }),
});

/** Of a request that a second person approves first. */
export const proposed = { 202: Proposal } as const;

const problem = {
  description: 'a problem (RFC 9457); GET /v1/problems lists all types',
  content: { 'application/problem+json': { schema: { $ref: 'Problem#' } } },
} as const;
export const problems = { '4xx': problem, '5xx': problem } as const;

/** How a route presents an outcome: the first time, and whenever the request is repeated. */
export interface Presentation<Outcome> {
  /** 200 unless stated. */
  readonly status?: number;
  readonly show: (outcome: Outcome) => object;
}

export interface Answered<Body> {
  readonly status: number;
  readonly body: Body;
  readonly replayed: boolean;
}

/** Returns the recorded outcome of a write, or executes it. */
export async function once<Outcome, Body>(
  ca: CertificateAuthority,
  scope: RequestScope,
  presentation: Presentation<Outcome>,
  act: () => Promise<Outcome>,
): Promise<Answered<Body>> {
  const before = await ca.store.replay(scope);
  if (before) return { ...(await answerOf<Body, Outcome>(ca, before, scope, presentation)), replayed: true };
  const outcome = await act();
  await ca.operations.deliver();
  const { status = 200, show } = presentation;
  return { status, body: show(outcome) as Body, replayed: false };
}

/** Issues once. A repetition is answered from the record, with what the first request was answered. */
export async function issueOnce<Body>(
  ca: CertificateAuthority,
  scope: RequestScope,
  act: () => Promise<Issuance | undefined>,
): Promise<Answered<Body>> {
  const before = await ca.store.replay(scope);
  const issuance = before ? undefined : await act();
  if (issuance) return { status: 201, body: issued(ca.authorities, issuance) as Body, replayed: false };
  const replay = before ?? (await ca.store.replay(scope));
  invariant(replay, 'an issuance is on record for its request');
  return { ...(await answerOf<Body>(ca, replay, scope)), replayed: before !== undefined };
}

/** What is on record for a request: an issuance; an outcome, sealed for its request; or the answer itself, of an earlier version. */
export async function answerOf<Body, Outcome = never>(
  ca: CertificateAuthority,
  replay: Replay,
  scope: OutcomeScope,
  presentation?: Presentation<Outcome>,
): Promise<Omit<Answered<Body>, 'replayed'>> {
  if (replay.type === 'issuance') {
    const issuance = await recordedIssuance(ca, replay.issuanceId);
    return { status: 201, body: issued(ca.authorities, issuance) as Body };
  }
  const octets = await ca.sealer.open(outcomeContext(scope), replay.sealed);
  if (replay.type === 'answer') {
    const body = JSON.parse(Buffer.from(octets).toString('utf8')) as object;
    // The status is not under the seal.
    if ('version' in body && 'outcome' in body)
      throw new PkiError('record-unavailable', 'the record was altered: an outcome with a status');
    return { status: replay.status, body: body as Body };
  }
  invariant(presentation, 'no presentation for the outcome of this route');
  const { status = 200, show } = presentation;
  return { status, body: show(decodeOutcome(octets) as Outcome) as Body };
}

/** A request with the reply that answers it. */
export interface Exchange {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
}

/** Carries a write out once by its Idempotency-Key, however often it is sent. `act` gets who asks, and in which scope. */
export async function writeOnce<Outcome>(
  ca: CertificateAuthority,
  { request, reply }: Exchange,
  presentation: Presentation<Outcome>,
  act: (command: OperatorCommand) => Promise<Outcome>,
): Promise<FastifyReply> {
  const { actor } = callerOf(request);
  const scope = await scopeOf(ca, request, String(request.headers['idempotency-key']));
  return sendAnswered(reply, await once(ca, scope, presentation, () => act({ scope, actor })));
}

export function sendAnswered(
  reply: FastifyReply,
  { status, body, replayed }: Answered<unknown>,
): FastifyReply {
  if (replayed) void reply.header('Idempotency-Replayed', 'true');
  return reply.code(status).send(body);
}
