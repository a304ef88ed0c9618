import type { FastifyInstance } from 'fastify';
import { inSpan, type Span, type SpanAttributes } from '../../core/runtime/tracing.ts';

/** The span of a request. */
export interface RequestSpan extends Span {
  /** 32 hex digits: logs name it, too. */
  readonly traceId: string;
}

export interface RequestTracing {
  /** `traceparent` is the caller’s (W3C Trace Context §3.2): its trace goes on, where it is sampled and as it is. */
  begin(name: string, attributes: SpanAttributes, traceparent: string | undefined): RequestSpan;
  /** Sends what waits, for some seconds at most. */
  close(): Promise<void>;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** null where nothing is traced. */
    span: RequestSpan | null;
  }
}

/** Has each request of the API be a span, by its route, with the work that follows from it below. To be called before other hooks are added; closes with `app`. */
export function traceRequests(app: FastifyInstance, tracing: RequestTracing | null): void {
  app.decorateRequest('span', null);
  if (!tracing) return;
  app.addHook('onRequest', (request, _reply, done) => {
    const { method, routeOptions, headers, id } = request;
    const route = routeOptions.url ?? 'none';
    const attributes = { 'http.request.method': method, 'http.route': route, 'warifu.request_id': id };
    const { traceparent } = headers;
    const caller = typeof traceparent === 'string' ? traceparent : undefined;
    request.span = tracing.begin(`${method} ${route}`, attributes, caller);
    inSpan(request.span, done);
  });
  // A body arrives in the socket’s context, and what follows it would be of no request.
  app.addHook('preValidation', (request, _reply, done) => {
    if (request.span) inSpan(request.span, done);
    else done();
  });
  app.addHook('onClose', () => tracing.close());
  app.addHook('onResponse', async ({ span, problem }, { statusCode }) => {
    span?.set({ 'http.response.status_code': statusCode });
    span?.end(statusCode >= 400 ? (problem ?? 'internal') : undefined);
  });
  // A request whose caller goes away in the middle of its body has no response.
  app.addHook('onRequestAbort', async (request) => {
    request.span?.end('aborted');
    // A handler may go on: its answer ends no second span.
    request.span = null;
  });
}
