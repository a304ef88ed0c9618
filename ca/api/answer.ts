import type { FastifyReply } from 'fastify';
import { Type } from 'typebox';
import type { RequestScope, StoredReply } from '../../core/certificate-store.ts';
import { invariant } from '../../core/errors.ts';
import type { CertificateAuthority } from '../issue.ts';
import { issued } from './present.ts';
import { Problem } from './schema.ts';

export const IdempotencyHeaders = Type.Object({
  'idempotency-key': Type.String({
    pattern: '^[\\x21-\\x7e]{1,64}$',
    description: 'makes a repetition of this request answer what the first one answered',
  }),
});

export const problems = { '4xx': Problem, '5xx': Problem } as const;

/** Octets of an answer are sealed under this key: they name certificates, and are kept for days only. */
const replyKey = 'replies';

/** Makes the function by which the store keeps an answer in the transaction that makes it true. */
export async function replySealer(ca: CertificateAuthority, scope: RequestScope) {
  const seal = await ca.sealer.sealing(replyKey);
  return (status: number, body: unknown): StoredReply => ({
    status,
    body: seal(replyContext(scope), Buffer.from(JSON.stringify(body))),
  });
}

const replyContext = ({ client, route, idempotencyKey }: RequestScope): string =>
  `reply:${JSON.stringify([client, route, idempotencyKey])}`;

/**
 * Answers a write: what it was answered before, or `act` and then what the record says of it. First answer and
 * replay take the same way, so that they cannot differ.
 */
export async function answerOnce(
  ca: CertificateAuthority,
  reply: FastifyReply,
  scope: RequestScope,
  act: () => Promise<void>,
): Promise<FastifyReply> {
  let replay = await ca.store.replay(scope);
  if (replay) void reply.header('Idempotency-Replayed', 'true');
  else {
    await act();
    replay = await ca.store.replay(scope);
  }
  invariant(replay, 'a write leaves its answer');
  if (replay.type === 'issuance') return reply.code(201).send(await issued(ca, replay.issuanceId));
  const body = await ca.sealer.open(replyContext(scope), replay.reply.body);
  return reply.code(replay.reply.status).send(JSON.parse(Buffer.from(body).toString('utf8')));
}
