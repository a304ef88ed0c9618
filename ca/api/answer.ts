import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { invariant } from '../../core/runtime/errors.ts';
import type { Replay, RequestScope, StoredReply } from '../../store/api/certificate-store.ts';
import type { OperatorCommand } from '../../store/api/operations-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import type { Issuance } from '../issue/issuance.ts';
import { replyKey } from '../sealing/sealer.ts';
import { callerOf, scopeOf } from './caller.ts';
import { issued, recordedIssuance } from './present.ts';
import { Problem } from './schema.ts';

export const IdempotencyHeaders = Type.Object({
  'idempotency-key': Type.String({
    pattern: '^[\\x21-\\x7e]{1,64}$',
    description: 'makes a repetition of this request answer what the first one answered',
  }),
});

export const problems = { '4xx': Problem, '5xx': Problem } as const;

/** Makes the function by which the store keeps an answer in the transaction that makes it true. */
export async function replySealer(ca: CertificateAuthority, scope: RequestScope) {
  const seal = await ca.sealer.sealing(replyKey);
  return (status: number, body: unknown): StoredReply => ({
    status,
    body: seal(replyContext(scope), Buffer.from(JSON.stringify(body))),
  });
}

type AnsweredScope = Pick<RequestScope, 'client' | 'route' | 'idempotencyKey'>;

const replyContext = ({ client, route, idempotencyKey }: AnsweredScope): string =>
  `reply:${JSON.stringify([client, route, idempotencyKey])}`;

export interface Answered<Body> {
  readonly status: number;
  readonly body: Body;
  readonly replayed: boolean;
}

/**
 * Does a write once: gives what it was answered before, or acts and gives what the record says of it. An issuance is
 * answered as it is put on record, which is what a replay reads there.
 */
export async function once<Body>(
  ca: CertificateAuthority,
  scope: RequestScope,
  act: () => Promise<Issuance | undefined> | Promise<void>,
): Promise<Answered<Body>> {
  const before = await ca.store.replay(scope);
  const replayed = before !== undefined;
  const answer = (issuance: Issuance): Answered<Body> => ({
    status: 201,
    body: issued(ca.authorities, issuance) as Body,
    replayed,
  });
  const done = before ? undefined : await act();
  if (done) return answer(done);
  const replay = before ?? (await ca.store.replay(scope));
  invariant(replay, 'a write leaves its answer');
  return { ...(await answerOf<Body>(ca, replay, scope)), replayed };
}

/** What is on record as an answer: of an issuance, made of it; else as it was sealed for its request. */
export async function answerOf<Body>(
  ca: CertificateAuthority,
  replay: Replay,
  scope?: AnsweredScope,
): Promise<Omit<Answered<Body>, 'replayed'>> {
  if (replay.type === 'issuance')
    return {
      status: 201,
      body: issued(ca.authorities, await recordedIssuance(ca, replay.issuanceId)) as Body,
    };
  invariant(scope, 'a reply is sealed for its request');
  const body = await ca.sealer.open(replyContext(scope), replay.reply.body);
  return { status: replay.reply.status, body: JSON.parse(Buffer.from(body).toString('utf8')) as Body };
}

/** Answers a request with what `once` gives. */
export async function answerOnce(
  ca: CertificateAuthority,
  reply: FastifyReply,
  scope: RequestScope,
  act: () => Promise<Issuance | undefined> | Promise<void>,
): Promise<FastifyReply> {
  return sendAnswered(reply, await once(ca, scope, act));
}

/** A request with the reply that answers it, and the HTTP status of its answer: 200 unless stated. */
export interface Exchange {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly status?: number;
}

/**
 * Carries a write out once by its Idempotency-Key, however often it is sent. `act` gets who asks and in which scope; what
 * `show` makes of the result is the answer, which is stored in the transaction of the write.
 */
export async function writeOnce<After>(
  ca: CertificateAuthority,
  { request, reply, status = 200 }: Exchange,
  show: (after: After) => object,
  act: (command: OperatorCommand<After>) => Promise<void>,
): Promise<FastifyReply> {
  const { actor } = callerOf(request);
  const scope = await scopeOf(ca, request, String(request.headers['idempotency-key']));
  const seal = await replySealer(ca, scope);
  return answerOnce(ca, reply, scope, () =>
    act({ scope, actor, reply: (after) => seal(status, show(after)) }),
  );
}

export function sendAnswered(
  reply: FastifyReply,
  { status, body, replayed }: Answered<unknown>,
): FastifyReply {
  if (replayed) void reply.header('Idempotency-Replayed', 'true');
  return reply.code(status).send(body);
}
