import { randomBytes } from 'node:crypto';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { durationMs } from '../../core/config/duration.ts';
import { digest } from '../../core/runtime/bytes.ts';
import type { Manner } from '../../store/rules/policy/plan-hash.ts';
import type { CardRequest } from '../issue/card.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { applyForPhone } from '../issue/phone.ts';
import { issue } from '../issue.ts';
import { answerOnce, IdempotencyHeaders, problems, replySealer, sendAnswered } from './answer.ts';
import { callerOf, checkCounter, checkDesk, scopeOf } from './caller.ts';
import { checkedBy, issueToCard, preview, previewCard } from './card-issuing.ts';
import { instant } from './present.ts';
import { Challenge, Changed, Issued, IssueToCard, IssueToPhone } from './schema.ts';

const config = { roles: ['issuer'] } as const;

export const issuingRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/card-certificates',
      {
        config,
        schema: {
          summary: 'Issue to a card',
          headers: IdempotencyHeaders,
          body: IssueToCard,
          response: { 200: Changed, 201: Issued, ...problems },
        },
      },
      async (request, reply) => {
        const caller = callerOf(request);
        checkCounter(caller, request.body.deskCode, ca.config);
        const scope = await scopeOf(ca, request, request.headers['idempotency-key']);
        const by = { scope, actor: caller.actor, mass: false };
        const card = request.body as CardRequest & Manner;
        if (card.dryRun) return reply.code(200).send(await previewCard(ca, card, by));
        return sendAnswered(reply, await issueToCard(ca, card, by));
      },
    );

    app.post(
      '/phone-challenges',
      {
        config,
        schema: {
          summary: 'A single-use challenge for a phone’s enrolment',
          headers: IdempotencyHeaders,
          response: { 201: Challenge, ...problems },
        },
      },
      async (request, reply) => {
        const caller = callerOf(request);
        checkDesk(caller, ca.config.scheme.onlineDeskCode);
        const { actor } = caller;
        const scope = await scopeOf(ca, request, request.headers['idempotency-key']);
        const challenge = randomBytes(32);
        const expiresMs = ca.clock.wallMs() + durationMs(ca.config.limits.challengeLife);
        const body = { challenge: challenge.toString('base64'), expiresAt: instant(expiresMs) };
        const seal = await replySealer(ca, scope);
        const challengeHash = digest('sha256', challenge);
        return answerOnce(ca, reply, scope, () =>
          ca.store.putChallenge({ scope, actor, challengeHash, expiresMs, reply: seal(201, body) }),
        );
      },
    );

    app.post(
      '/phone-certificates',
      {
        config,
        schema: {
          summary: 'Issue to a phone',
          headers: IdempotencyHeaders,
          body: IssueToPhone,
          response: { 200: Changed, 201: Issued, ...problems },
        },
      },
      async (request, reply) => {
        const caller = callerOf(request);
        checkDesk(caller, ca.config.scheme.onlineDeskCode);
        const { actor } = caller;
        const scope = await scopeOf(ca, request, request.headers['idempotency-key']);
        const { dryRun: _, planHash: __, ...wanted } = request.body;
        if (request.body.dryRun) {
          const issuanceRequest = await applyForPhone(ca, wanted, { scope, actor });
          return reply.code(200).send(await preview(ca, issuanceRequest, request.body));
        }
        return answerOnce(ca, reply, scope, async () => {
          const issuanceRequest = await applyForPhone(ca, wanted, { scope, actor });
          return issue(ca, checkedBy(issuanceRequest, request.body));
        });
      },
    );
  };
