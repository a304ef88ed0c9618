import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import Fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import type { Logger } from 'pino';
import { durationMs } from '../../core/config/duration.ts';
import { drainMs } from '../../core/http/listen.ts';
import { ApprovalNeeded } from '../../core/model/approval.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { repeat } from '../../core/runtime/process.ts';
import { parseStrictJson } from '../../core/runtime/strict-json.ts';
import { wantedApprovals } from '../config/approvals.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { Admissions } from './admissions.ts';
import { Approvals } from './approvals.ts';
import { authenticate, callerOf, scopeOf } from './caller.ts';
import { serveConsole } from './console.ts';
import { keepLanes, Lanes, limitConnections } from './lanes.ts';
import { lazySchemas } from './lazy-schemas.ts';
import type { Observed } from './observed.ts';
import { registerRoutes } from './openapi.ts';
import { sendProblem } from './problem.ts';
import { recordReadings, recordRefused } from './readings.ts';
import { roles as allRoles } from './schema.ts';
import { type RequestTracing, traceRequests } from './traces.ts';

/** How often it is looked up what was approved and not carried out. */
const resumeMs = 5000;

export interface TlsFiles {
  readonly key: string;
  readonly cert: string;
  /** Certificates of the operations CA, PEM: who may connect at all. */
  readonly ca: string;
}

/** The CA API. TLS rejects clients without a certificate of the operations CA. */
export async function buildApi(options: {
  readonly ca: CertificateAuthority;
  readonly observed: Observed;
  readonly tls: TlsFiles;
  readonly logger: Logger;
  readonly tracing: RequestTracing | null;
}): Promise<FastifyInstance> {
  const { ca, observed, tls, logger } = options;
  const requestTimeout = durationMs(ca.config.limits.requestTimeout);
  const app = Fastify({
    https: {
      ...tls,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: ca.config.api.tlsMin,
      ...timeoutsOf(requestTimeout),
    },
    loggerInstance: logger,
    // One line a request, of method, route and status, never of URL or body: URLs name holders.
    // `requestId` is what `instance` of a problem ends with.
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    bodyLimit: ca.config.limits.requestBytesMax,
    // What is no path at all comes to no handler; and is quoted by none, for it may name a holder.
    frameworkErrors: (_error, request, reply) =>
      sendProblem(
        request,
        reply,
        new PkiError('bad-request', 'the path is too long, or wrongly percent-encoded'),
      ),
    genReqId: () => crypto.randomUUID(),
    ...lazySchemas,
  }).withTypeProvider<TypeBoxTypeProvider>();

  traceRequests(app as unknown as FastifyInstance, options.tracing);
  app.decorateRequest('caller', null);
  app.decorateRequest('bodyOctets', null);
  app.decorateRequest('problem', null);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'buffer' },
    async (request: FastifyRequest, body: Buffer) => {
      request.bodyOctets = body;
      if (body.length === 0) throw new PkiError('bad-request', 'the body is empty, and its type is JSON');
      return parseStrictJson(body);
    },
  );
  app.addContentTypeParser('application/x-ndjson', (request, payload, done) => {
    if (request.routeOptions.config.streams) done(null, payload);
    else done(new PkiError('unsupported-media-type', 'only batches are streams of lines'));
  });
  app.addHook('preParsing', limitBody(requestTimeout));
  const approvals = new Approvals(ca, logger);
  serveConsole(app as unknown as FastifyInstance, ca.config);
  limitConnections(app as unknown as FastifyInstance, ca.config);
  keepLanes(app as unknown as FastifyInstance, new Lanes(ca.config));
  refuseUnknown(app as unknown as FastifyInstance);
  admitCallers(app as unknown as FastifyInstance, ca, approvals);
  app.addHook('onResponse', logRequest(observed));
  endConnections(app as unknown as FastifyInstance);
  const admissions = new Admissions(ca, logger);
  app.server.on('secureConnection', (socket: TLSSocket) => admissions.connected(socket));
  app.server.on('tlsClientError', sayTls);
  app.addHook('onClose', () => admissions.close());
  app.addHook('onClose', () => stopResuming());
  await registerRoutes(app as unknown as FastifyInstance, { ca, observed }, admissions, approvals);
  await app.ready();
  approvals.serve(app as unknown as FastifyInstance);
  const stopResuming = repeat(
    resumeMs,
    async () => {
      await ca.proposals.expire();
      await approvals.resume();
    },
    logger,
    'what is approved cannot be carried out',
  );
  return app as unknown as FastifyInstance;
}

const timeoutsOf = (ms: number) => ({
  handshakeTimeout: ms,
  headersTimeout: ms,
  // Node knows one limit for all requests; a batch has none as long as it moves. `limitBody` limits the others.
  requestTimeout: 0,
  connectionsCheckingInterval: 1000,
});

/** Who speaks plain HTTP at the port of TLS is told so, in plain HTTP, instead of being cut off. */
function sayTls(error: NodeJS.ErrnoException, socket: TLSSocket): void {
  if (error.code !== 'ERR_SSL_HTTP_REQUEST') return;
  const text = 'This port speaks TLS, and asks for a client certificate: use https.\n';
  const plain = (socket as TLSSocket & { _parent?: Socket })._parent ?? socket;
  plain.end(
    `HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: ${text.length}\r\nConnection: close\r\n\r\n${text}`,
  );
}

/** Of a path that there is with other methods 405, with Allow; of any other 404. */
function refuseUnknown(app: FastifyInstance): void {
  const paths = new Map<string, { readonly pattern: RegExp; readonly methods: Set<string> }>();
  app.addHook('onRoute', ({ method, url }) => {
    const pattern = new RegExp(`^${url.replaceAll('.', '\\.').replaceAll(/:[A-Za-z]+/g, '[^/]+')}$`);
    const known = paths.get(url) ?? { pattern, methods: new Set() };
    paths.set(url, known);
    for (const each of [method].flat()) known.methods.add(each);
  });
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.replace(/\?.*$/s, '');
    const methods = [...paths.values()]
      .filter(({ pattern }) => pattern.test(path))
      .flatMap((each) => [...each.methods]);
    if (methods.length === 0)
      return sendProblem(request, reply, new PkiError('not-found', 'there is no such resource'));
    const allowed = [...new Set(methods)].sort().join(', ');
    void reply.header('Allow', allowed);
    return sendProblem(request, reply, new PkiError('method-not-allowed', `use one of ${allowed}`));
  });
}

/** Counts each request, and logs one line of it; of what is asked again and again only where it fails. */
const logRequest =
  (observed: Pick<Observed, 'answered'>) =>
  async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const { method, routeOptions, caller } = request;
    observed.answered(routeOptions.url ?? 'none', method, reply.statusCode, reply.elapsedTime / 1000);
    const isQuiet = routeOptions.config.polled === true && reply.statusCode < 400;
    request.log[isQuiet ? 'debug' : 'info'](
      {
        method,
        route: routeOptions.url,
        status: reply.statusCode,
        ms: Math.round(reply.elapsedTime),
        client: caller?.fingerprint,
        traceId: request.span?.traceId,
        // As the answer's `type` ends; a code, and nothing that was sent.
        problem: request.problem ?? undefined,
      },
      'request',
    );
  };

/** Has each request known by its caller, and wait for a second person where it needs one. */
function admitCallers(app: FastifyInstance, ca: CertificateAuthority, approvals: Approvals): void {
  app.addHook('onRequest', async (request) => {
    const { roles } = request.routeOptions.config;
    // Only clients learn what does not exist.
    request.caller = approvals.callerOf(request) ?? (await authenticate(ca, request, roles ?? allRoles));
  });
  app.addHook('preHandler', async (request, reply) => {
    const act = await request.routeOptions.config.approval?.(request);
    const { approval } = callerOf(request);
    if (act === undefined || approval !== null || !wantedApprovals(ca).includes(act)) return undefined;
    const scope = await scopeOf(ca, request, String(request.headers['idempotency-key']));
    // Carried out before, it is answered as it was.
    return (await ca.store.replay(scope))
      ? undefined
      : approvals.propose(request, reply, { act, consequence: null });
  });
  recordReadings(app, ca);
  app.setErrorHandler(async (error, request, reply) => {
    await recordRefused(ca, request, error);
    if (!(error instanceof ApprovalNeeded) || request.routeOptions.config.streams)
      return sendProblem(request, reply, error);
    // What fails here comes to no handler of errors any more.
    return approvals
      .propose(request, reply, error)
      .catch((failure: unknown) => sendProblem(request, reply, failure));
  });
}

/** Stops with the server: a connection that never asks for anything, or never ends its handshake, does not keep it from stopping. */
function endConnections(app: FastifyInstance): void {
  const sockets = new Set<Socket>();
  app.server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  app.addHook('preClose', async () => {
    setTimeout(() => {
      for (const socket of sockets) socket.destroy();
    }, drainMs).unref();
  });
}

/** Ends the connection of a request whose body takes longer to arrive. */
const limitBody =
  (ms: number) =>
  async (request: FastifyRequest): Promise<void> => {
    if (request.routeOptions.config.streams) return;
    const timer = setTimeout(() => request.raw.complete || request.raw.destroy(), ms).unref();
    request.raw.once('close', () => clearTimeout(timer)).once('end', () => clearTimeout(timer));
  };
