import swagger from '@fastify/swagger';
import Fastify, { type FastifyInstance } from 'fastify';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import type { Admissions } from './admissions.ts';
import type { Approvals } from './approvals.ts';
import { withExamples } from './examples.ts';
import type { Observed } from './observed.ts';
import { operationIdOf, tagOf } from './operation-names.ts';
import { accessRoutes } from './routes-accesses.ts';
import { administrationRoutes } from './routes-administration.ts';
import { adoptedRoutes } from './routes-adopted.ts';
import { batchRoutes } from './routes-batch.ts';
import { clientCertificateRoutes, clientRightRoutes, clientRoutes } from './routes-clients.ts';
import { clockRoutes } from './routes-clock.ts';
import { configurationRoutes } from './routes-configuration.ts';
import { consentListRoutes, consentRoutes, provisionRoutes } from './routes-consents.ts';
import { descriptionRoutes } from './routes-description.ts';
import { deskRoutes } from './routes-desks.ts';
import { eventRoutes } from './routes-events.ts';
import { feedRoutes } from './routes-feed.ts';
import { holderPhoneRoutes, holderRoutes } from './routes-holders.ts';
import { intakeDecisionRoutes, intakeRoutes, intakeSampleRoutes } from './routes-intakes.ts';
import { challengeRoutes, deviceReportRoutes, issuingRoutes } from './routes-issuing.ts';
import { historyRoutes, lookupRoutes, lossRoutes, overviewRoutes } from './routes-lookup.ts';
import { mediaRoutes } from './routes-media.ts';
import { orderRoutes } from './routes-orders.ts';
import { outboxRoutes } from './routes-outbox.ts';
import { preferenceRoutes } from './routes-preferences.ts';
import { proposalDecisionRoutes, proposalRoutes } from './routes-proposals.ts';
import { publishedRoutes } from './routes-published.ts';
import { responderRoutes } from './routes-responder.ts';
import { bulkOperationRoutes, restrictionRoutes } from './routes-restrictions.ts';
import { blockedKeyRoutes, revocationRoutes } from './routes-revocation.ts';
import { serviceRoutes } from './routes-service.ts';
import { credentialRoutes, verifierChangeRoutes, verifierRoutes } from './routes-verifiers.ts';
import { linkRoutes, useRoutes, watchRoutes } from './routes-watches.ts';
import { roles as allRoles } from './schema.ts';
import { Problem } from './schema-problem.ts';

/** Known to OpenAPI 3.1, not yet to the types of the library. */
const securitySchemes = { mutualTLS: { type: 'mutualTLS' } } as unknown as Record<
  string,
  { type: 'http'; scheme: string }
>;

/** Registers every route, and the plugin that describes them. */
export async function registerRoutes(
  app: FastifyInstance,
  { ca, observed }: { readonly ca: CertificateAuthority; readonly observed: Observed },
  admissions: Pick<Admissions, 'during'>,
  approvals: Pick<Approvals, 'resume'>,
): Promise<void> {
  // One schema, which all operations refer to.
  app.addSchema({ ...Problem, $id: 'Problem' });
  await app.register(swagger, {
    refResolver: { buildLocalReference: () => 'Problem' },
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
    transform: ({ schema, url, route }) => {
      const method = Array.isArray(route.method) ? (route.method[0] ?? '') : route.method;
      const named = { operationId: operationIdOf(method, url), tags: [tagOf(url)] };
      const { roles = allRoles } = route.config ?? {};
      return { schema: { ...schema, ...named, 'x-roles': [...roles] } as typeof schema, url };
    },
    transformObject: (document) => withExamples('openapiObject' in document ? document.openapiObject : {}),
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
    deviceReportRoutes,
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
    verifierRoutes,
    verifierChangeRoutes,
    credentialRoutes,
    consentRoutes,
    consentListRoutes,
    provisionRoutes,
    watchRoutes,
    intakeRoutes,
    intakeSampleRoutes,
    intakeDecisionRoutes,
    linkRoutes,
    useRoutes,
    configurationRoutes,
    proposalRoutes,
    proposalDecisionRoutes,
    clockRoutes,
    responderRoutes,
    mediaRoutes,
  ];
  for (const routes of all) {
    await app.register(routes(ca, admissions, approvals), { prefix: '/v1' });
  }
  await app.register(feedRoutes(ca, admissions, observed), { prefix: '/v1' });
  await app.register(descriptionRoutes(), { prefix: '/v1' });
  await app.register(publishedRoutes(observed), { prefix: '/v1' });
  await app.register(serviceRoutes(ca, observed), { prefix: '/v1' });
}

/** A route with what its configuration says of who may use it. */
export interface DescribedRoute {
  /** `GET /holders/{holderId}`. */
  readonly route: string;
  /** None: any client. */
  readonly roles: readonly string[];
  /** Whether holders are looked up by it: always, by a dry run, or never. */
  readonly reads: 'always' | 'dry-run' | 'never';
}

/** All routes of the API. */
export async function describedRoutes(): Promise<readonly DescribedRoute[]> {
  const found: DescribedRoute[] = [];
  await describe((app) =>
    app.addHook('onRoute', ({ method, url, config, schema }) => {
      if (!url.startsWith('/v1/') || schema === undefined || method === 'HEAD') return;
      const path = url.replace('/v1', '').replaceAll(/:([A-Za-z]+)/g, '{$1}');
      const { roles = [], reads = false } = config ?? {};
      const body = (schema as { body?: { properties?: object } }).body?.properties ?? {};
      const when = reads ? 'always' : 'dryRun' in body ? 'dry-run' : 'never';
      found.push({ route: `${String(method)} ${path}`, roles: [...roles], reads: when });
    }),
  );
  return found;
}

/** The OpenAPI document, generated from the routes: what `ca/openapi.json` holds. */
export async function openApiDocument(): Promise<string> {
  const app = await describe(() => undefined);
  return `${JSON.stringify(app.swagger(), null, 2)}\n`;
}

/** The routes, without what they need to be called. */
async function describe(begin: (app: FastifyInstance) => void): Promise<FastifyInstance> {
  const app = Fastify() as unknown as FastifyInstance;
  begin(app);
  const described = {
    get: () => {
      throw new PkiError('internal', 'routes are only described here');
    },
  };
  const nothing = <T>(): T => new Proxy({}, described) as T;
  const of = {
    ca: nothing<CertificateAuthority>(),
    observed: nothing<Observed>(),
  };
  await registerRoutes(app, of, nothing<Admissions>(), nothing<Approvals>());
  await app.ready();
  return app;
}
