import { randomBytes } from 'node:crypto';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply } from 'fastify';
import { durationMs } from '../../core/config/duration.ts';
import type { GivenChallenge } from '../../store/api/certificate-store.ts';
import type { DeviceReported as Reported } from '../../store/api/holder-store.ts';
import type { Manner } from '../../store/rules/policy/plan-hash.ts';
import type { CardRequest } from '../issue/card.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { readDeviceReport } from '../issue/device-report.ts';
import { applyForPhone } from '../issue/phone.ts';
import { issue } from '../issue.ts';
import {
  type Exchange,
  IdempotencyHeaders,
  issueOnce,
  problems,
  proposed,
  sendAnswered,
  writeOnce,
} from './answer.ts';
import { callerOf, scopeOf } from './caller.ts';
import { cardMandate, checkedBy, issueToCard, preview, previewCard } from './card-issuing.ts';
import { checkOnline, mandateAt } from './mandate.ts';
import { instant } from './present.ts';
import { noteReading } from './readings.ts';
import {
  AskChallenge,
  Challenge,
  Changed,
  DeviceReported,
  Issued,
  IssueToCard,
  IssueToPhone,
  ReportDevice,
} from './schema.ts';

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
          response: { 200: Changed, 201: Issued, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        const caller = callerOf(request);
        const mandate = cardMandate(ca, caller, request.body);
        const scope = await scopeOf(ca, request, request.headers['idempotency-key']);
        const actor = { ...caller.actor, desk: request.body.deskCode };
        const approvedPlan = caller.approval?.planHash;
        const by = { scope, actor, mandate, approvedPlan, mass: false };
        const card = request.body as CardRequest & Manner;
        if (card.dryRun) {
          noteReading(caller, card.holderId, true);
          return reply.code(200).send(await previewCard(ca, card, by));
        }
        return sendAnswered(reply, await issueToCard(ca, card, by));
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
        const code = ca.config.scheme.onlineDeskCode;
        const mandate = mandateAt(ca, caller, { code, function: 'phone' });
        const actor = { ...caller.actor, desk: code };
        const scope = await scopeOf(ca, request, request.headers['idempotency-key']);
        const { dryRun: _, planHash: __, ...wanted } = request.body;
        if (request.body.dryRun) {
          const issuanceRequest = await applyForPhone(ca, wanted, { scope, actor, mandate });
          noteReading(caller, issuanceRequest.medium.holderId, true);
          return reply.code(200).send(await preview(ca, issuanceRequest, request.body));
        }
        const answered = await issueOnce(ca, scope, async () => {
          const issuanceRequest = await applyForPhone(ca, wanted, { scope, actor, mandate });
          return issue(ca, checkedBy(issuanceRequest, request.body));
        });
        return sendAnswered(reply, answered);
      },
    );
  };

/** What phones report of themselves. */
export const deviceReportRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/phone-reports',
      {
        config,
        schema: {
          summary: 'Put on record what a phone is now, from a message that its authentication key signed',
          headers: IdempotencyHeaders,
          body: ReportDevice,
          response: { 200: DeviceReported, ...problems },
        },
      },
      async (request, reply) => {
        await checkOnline(ca, request);
        const show = ({ mediumId, state, ...known }: Reported) => ({
          ...known,
          deviceId: mediumId.slice('phone:'.length),
          state: state as 'good' | 'held' | 'revoked',
        });
        return writeOnce(ca, { request, reply }, { show }, async (command) => {
          const { signedReport, deviceEvidence: evidence } = request.body;
          const der = Buffer.from(signedReport, 'base64');
          const report = await readDeviceReport(ca, { der, evidence }, command.scope.client);
          return ca.holders.reportDevice({ ...command, ...report });
        });
      },
    );
  };

/** Challenges for what holders sign. */
export const challengeRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/card-challenges',
      {
        config,
        schema: {
          summary: 'A single-use challenge for what a card signs at a counter',
          headers: IdempotencyHeaders,
          body: AskChallenge,
          response: { 201: Challenge, ...problems },
        },
      },
      async (request, reply) => {
        const { deskCode: code } = request.body;
        await ca.desks.check(mandateAt(ca, callerOf(request), { code, function: null }));
        return giveChallenge(ca, { request, reply });
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
        await checkOnline(ca, request);
        return giveChallenge(ca, { request, reply });
      },
    );
  };

/** Gives a challenge that this client may use once. */
export function giveChallenge(ca: CertificateAuthority, exchange: Exchange): Promise<FastifyReply> {
  const show = ({ challenge, expiresMs }: GivenChallenge) => ({ challenge, expiresAt: instant(expiresMs) });
  return writeOnce(ca, exchange, { status: 201, show }, (command) => {
    const expiresMs = ca.clock.wallMs() + durationMs(ca.config.limits.challengeLife);
    return ca.store.putChallenge({ ...command, challenge: randomBytes(32), expiresMs });
  });
}
