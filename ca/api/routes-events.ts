import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { eventAct } from '../revoke.ts';
import { IdempotencyHeaders, problems, proposed, sendAnswered } from './answer.ts';
import { callerOf } from './caller.ts';
import { change } from './changes.ts';
import { contentHashOf, firstAnswer } from './event-report.ts';
import { functionOfReport, mandateOf } from './mandate.ts';
import { planned } from './present.ts';
import { Changed, ReportEvent } from './schema.ts';

export const eventRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/events',
      {
        config: { roles: ['revoker'], lane: 'revocation' },
        schema: {
          summary: 'Report a life event; everything that follows from it happens',
          headers: IdempotencyHeaders,
          body: ReportEvent,
          response: { 200: Changed, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        const { body } = request;
        const contentHash = await contentHashOf(ca, body);
        const { eventId } = body;
        const first = await firstAnswer(ca, callerOf(request).actor.client, { eventId, contentHash });
        // It has happened: nothing would be done any more.
        if (first && body.dryRun)
          return reply.code(200).send(planned(ca, { changes: [], orders: [], reissue: [] }));
        if (first) return sendAnswered(reply, { ...first, replayed: true });
        const rule = ruleIn(ca, body.event);
        const wanted = { code: body.deskCode, function: rule ? functionOfReport(rule) : 'report' } as const;
        const mandate = mandateOf(ca, callerOf(request), wanted);
        // An event that ends holds gives trust back.
        const approval = wanted.function === 'release' ? wanted.function : undefined;
        const act = () => ({ ...eventAct(ca, body, contentHash), mandate });
        return change(ca, { request, reply }, act, approval);
      },
    );
  };

/** The rule of an event; undefined where the table has none. */
function ruleIn({ config: { policy } }: Pick<CertificateAuthority, 'config'>, event: string) {
  return Object.hasOwn(policy.events, event) ? policy.events[event] : undefined;
}
