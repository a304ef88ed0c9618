import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import Fastify, { type FastifyInstance, LogController } from 'fastify';
import type { Logger } from 'pino';
import { durationMs } from '../../core/config.ts';
import { PkiError } from '../../core/errors.ts';
import { drainMs } from '../../core/listen.ts';
import type { CertificateAuthority } from '../issue.ts';
import { authenticate } from './caller.ts';
import { registerRoutes } from './openapi.ts';
import { sendProblem } from './problem.ts';
import { roles as allRoles } from './schema.ts';

export interface TlsFiles {
  readonly key: string;
  readonly cert: string;
  /** Certificates of the operations CA, PEM: who may connect at all. */
  readonly ca: string;
}

/** The CA API. Without a TLS client certificate of the operations CA nobody gets as far as a request. */
export async function buildApi(options: {
  readonly ca: CertificateAuthority;
  readonly tls: TlsFiles;
  readonly logger: Logger;
}): Promise<FastifyInstance> {
  const { ca, tls, logger } = options;
  const requestTimeout = durationMs(ca.config.limits.requestTimeout);
  // Node heeds a request's time limit only where that of its head is no longer.
  const timeouts = {
    handshakeTimeout: requestTimeout,
    requestTimeout,
    headersTimeout: requestTimeout,
    connectionsCheckingInterval: 1000,
  };
  const app = Fastify({
    https: {
      ...tls,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
      ...timeouts,
    },
    loggerInstance: logger,
    // One line a request, of method, route and status, never of URL or body: URLs name holders.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: ca.config.limits.requestBytesMax,
    requestTimeout,
    genReqId: () => crypto.randomUUID(),
    ajv: { customOptions: { removeAdditional: false, coerceTypes: false, allErrors: false } },
  }).withTypeProvider<TypeBoxTypeProvider>();

  app.decorateRequest('caller', null);
  app.decorateRequest('bodyOctets', null);
  app.removeAllContentTypeParsers();
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    request.bodyOctets = body as Buffer;
    return parseJson(request, body.toString('utf8'), done);
  });
  app.setErrorHandler((error, request, reply) => sendProblem(request, reply, error));
  app.setNotFoundHandler((request, reply) => {
    return sendProblem(request, reply, new PkiError('not-found', 'there is no such resource or method'));
  });
  app.addHook('onRequest', async (request) => {
    const { roles } = request.routeOptions.config;
    // Even what does not exist is told only to clients.
    request.caller = await authenticate(ca.store, request, roles ?? allRoles);
  });
  app.addHook('onResponse', async (request, reply) => {
    const { method, routeOptions, caller } = request;
    request.log.info(
      {
        method,
        route: routeOptions.url,
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime),
        client: caller?.fingerprint,
      },
      'request',
    );
  });

  app.addHook('preClose', async () => {
    // A connection that never asks for anything does not keep the service from stopping.
    setTimeout(() => app.server.closeAllConnections(), drainMs).unref();
  });
  await registerRoutes(app as unknown as FastifyInstance, ca);
  await app.ready();
  return app as unknown as FastifyInstance;
}
