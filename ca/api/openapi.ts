import swagger from '@fastify/swagger';
import Fastify, { type FastifyInstance } from 'fastify';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import type { Admissions } from './admissions.ts';
import type { Approvals } from './approvals.ts';
import { accessRoutes } from './routes-accesses.ts';
import { administrationRoutes } from './routes-administration.ts';
import { adoptedRoutes } from './routes-adopted.ts';
import { batchRoutes } from './routes-batch.ts';
import { clientCertificateRoutes, clientRightRoutes, clientRoutes } from './routes-clients.ts';
import { clockRoutes } from './routes-clock.ts';
import { configurationRoutes } from './routes-configuration.ts';
import { deskRoutes } from './routes-desks.ts';
import { eventRoutes } from './routes-events.ts';
import { feedRoutes } from './routes-feed.ts';
import { holderPhoneRoutes, holderRoutes } from './routes-holders.ts';
import { challengeRoutes, issuingRoutes } from './routes-issuing.ts';
import { historyRoutes, lookupRoutes, lossRoutes, overviewRoutes } from './routes-lookup.ts';
import { orderRoutes } from './routes-orders.ts';
import { outboxRoutes } from './routes-outbox.ts';
import { preferenceRoutes } from './routes-preferences.ts';
import { proposalDecisionRoutes, proposalRoutes } from './routes-proposals.ts';
import { responderRoutes } from './routes-responder.ts';
import { bulkOperationRoutes, restrictionRoutes } from './routes-restrictions.ts';
import { blockedKeyRoutes, revocationRoutes } from './routes-revocation.ts';

/** Known to OpenAPI 3.1, not yet to the types of the library. */
const securitySchemes = { mutualTLS: { type: 'mutualTLS' } } as unknown as Record<
  string,
  { type: 'http'; scheme: string }
>;

/** Registers every route, and the plugin that describes them. */
export async function registerRoutes(
  app: FastifyInstance,
  ca: CertificateAuthority,
  admissions: Pick<Admissions, 'during'>,
  approvals: Pick<Approvals, 'resume'>,
): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Warifu CA API',
        version: '1',
        description: 'Paired certificates for card and smartphone.',
      },
      components: { securitySchemes },
      security: [{ mutualTLS: [] }],
    },
  });
  const all = [
    issuingRoutes,
    challengeRoutes,
    eventRoutes,
    holderRoutes,
    holderPhoneRoutes,
    batchRoutes,
    revocationRoutes,
    blockedKeyRoutes,
    restrictionRoutes,
    bulkOperationRoutes,
    outboxRoutes,
    accessRoutes,
    adoptedRoutes,
    preferenceRoutes,
    lookupRoutes,
    lossRoutes,
    historyRoutes,
    overviewRoutes,
    administrationRoutes,
    clientRoutes,
    clientRightRoutes,
    clientCertificateRoutes,
    deskRoutes,
    orderRoutes,
    configurationRoutes,
    proposalRoutes,
    proposalDecisionRoutes,
    clockRoutes,
    feedRoutes,
    responderRoutes,
  ];
  for (const routes of all) {
    await app.register(routes(ca, admissions, approvals), { prefix: '/v1' });
  }
}

/** The OpenAPI document, generated from the routes: what `ca/openapi.json` holds. */
export async function openApiDocument(): Promise<string> {
  const app = Fastify();
  const described = {
    get: () => {
      throw new PkiError('internal', 'routes are only described here');
    },
  };
  const nothing = <T>(): T => new Proxy({}, described) as T;
  await registerRoutes(
    app as unknown as FastifyInstance,
    nothing<CertificateAuthority>(),
    nothing<Admissions>(),
    nothing<Approvals>(),
  );
  await app.ready();
  return `${JSON.stringify(app.swagger(), null, 2)}\n`;
}
