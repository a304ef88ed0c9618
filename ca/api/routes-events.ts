import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { endOfDayInJapan } from '../../core/model/calendar.ts';
import type { Target } from '../../core/model/plan.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { checkMovedDay } from '../issue/card.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { handedOver, planEvent, ruleOf } from '../policy/policy.ts';
import { checkHolderId } from '../request/holder-id.ts';
import { occurredMs } from '../request/occurrence.ts';
import { IdempotencyHeaders, problems, sendAnswered } from './answer.ts';
import { callerOf } from './caller.ts';
import { change } from './changes.ts';
import { contentHashOf, firstAnswer } from './event-report.ts';
import { changed } from './present.ts';
import { Changed, ReportEvent, type ReportEventBody } from './schema.ts';

export const eventRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/events',
      {
        config: { roles: ['revoker'] },
        schema: {
          summary: 'Report a life event; everything that follows from it happens',
          headers: IdempotencyHeaders,
          body: ReportEvent,
          response: { 200: Changed, ...problems },
        },
      },
      async (request, reply) => {
        const { body } = request;
        const nowMs = ca.clock.wallMs();
        const target = eventTarget(body);
        const occurred = occurredMs(body.occurredAt, nowMs);
        const lastDayMs = movedDay(ca, body, target, nowMs);
        const { delivery } = ruleOf(ca.config.policy, body.event, target);
        const planned = planEvent(ca.config.policy, body.event, target, nowMs, {
          occurredMs: occurred,
          lastDayMs,
        });
        const plan = delivery === 'confirms' ? handedOver(planned, target, nowMs) : planned;
        const contentHash = await contentHashOf(ca, body);
        const { eventId } = body;
        const first = await firstAnswer(ca, callerOf(request).actor.client, { eventId, contentHash });
        // It has happened: nothing would be done any more.
        if (first && body.dryRun)
          return reply.code(200).send(changed(ca, true, { changes: [], orders: [], reissue: [] }));
        if (first) return sendAnswered(reply, { ...first, replayed: true });
        const report = {
          event: body.event,
          mediumId: target.type === 'medium' ? target.mediumId : null,
          eventId: eventId ?? null,
          contentHash,
          occurredMs: occurred,
          opensHolder: ca.config.policy.events[body.event]?.standing === 'bars-signing',
        };
        if (report.opensHolder && body.holderId !== undefined) checkHolderId(body.holderId);
        return change(ca, { request, reply }, { target, plan, report });
      },
    );
  };

function eventTarget({ holderId, cardId, deviceId }: ReportEventBody): Target {
  const named = [holderId, cardId, deviceId].filter((id) => id !== undefined);
  if (named.length !== 1)
    throw new PkiError('bad-request', 'exactly one of holderId, cardId and deviceId is wanted');
  if (holderId !== undefined) return { type: 'holder', holderId };
  return { type: 'medium', mediumId: cardId !== undefined ? `card:${cardId}` : `phone:${deviceId}` };
}

/** The card's new last moment, where the event is one by which it moves. */
function movedDay(
  { config }: CertificateAuthority,
  { event, cardExpiresOn }: ReportEventBody,
  target: Target,
  nowMs: number,
): number | null {
  const { lastDay, reissue, renewal } = ruleOf(config.policy, event, target);
  // What is renewed is due, or not, as it is issued: reported by itself it would only end.
  if (renewal)
    throw new PkiError('bad-request', `event: ${event} comes with the new certificates, as they are issued`);
  if (lastDay !== 'moves') {
    if (cardExpiresOn === undefined) return null;
    throw new PkiError('bad-request', `cardExpiresOn: ${event} does not move a card’s last day`);
  }
  if (reissue.length > 0)
    throw new PkiError(
      'bad-request',
      `event: ${event} comes with the new certificates, to /card-certificates`,
    );
  if (cardExpiresOn === undefined)
    throw new PkiError('bad-request', `cardExpiresOn: ${event} brings the card’s new last day`);
  return endOfDayInJapan(checkMovedDay(cardExpiresOn, config.scheme, nowMs));
}
