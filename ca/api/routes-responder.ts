import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { parseCertificationRequest } from '../request/certification-request.ts';
import { clientKeyTypes } from '../request/key.ts';
import { IdempotencyHeaders, issueOnce, problems, sendAnswered } from './answer.ts';
import { callerOf, checkAuthority, scopeOf } from './caller.ts';
import { CertifyResponder, ResponderCertificate } from './schema.ts';

/** Delegation to OCSP responders (RFC 6960 §4.2.2.2): how a node of its own renews its certificate. */
export const responderRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    const isNews = onceAnHour(() => ca.clock.monotonicMs());
    app.post(
      '/responder-certificates',
      {
        config: { roles: ['ocsp'] },
        schema: {
          summary: 'Certify the key of an OCSP responder',
          headers: IdempotencyHeaders,
          body: CertifyResponder,
          response: { 201: ResponderCertificate, ...problems },
        },
      },
      async (request, reply) => {
        const caller = callerOf(request);
        const { actor } = caller;
        checkAuthority(caller, request.body.authority);
        const scope = await scopeOf(ca, request, request.headers['idempotency-key']);
        const answered = await issueOnce(ca, scope, async () => {
          const { authority, request: encoded } = request.body;
          const { name } = ca.authorities.byName(authority);
          const der = Buffer.from(encoded, 'base64');
          const { publicKey } = parseCertificationRequest(der, 'request', clientKeyTypes);
          await ca.certifyResponder(name, publicKey, { scope, actor }).catch((error: unknown) => {
            if (
              error instanceof PkiError &&
              error.code === 'quota-exceeded' &&
              isNews(`${actor.client} ${authority}`)
            )
              request.log.error({ client: actor.client, authority }, `ALARM: ${error.message}`);
            throw error;
          });
          return undefined;
        });
        return sendAnswered(reply, answered);
      },
    );
  };

/** Whether something has not been said for an hour: an alarm that repeats itself hides others. */
function onceAnHour(now: () => number): (what: string) => boolean {
  const saidMs = new Map<string, number>();
  return (what) => {
    const nowMs = now();
    for (const [said, ms] of saidMs) if (nowMs - ms >= 3_600_000) saidMs.delete(said);
    if (saidMs.has(what)) return false;
    saidMs.set(what, nowMs);
    return true;
  };
}
