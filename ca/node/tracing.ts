import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Context, Span as OtelSpan, Tracer } from '@opentelemetry/api';
import type { SpanExporter } from '@opentelemetry/sdk-trace';
import type { Logger } from 'pino';
import { errorStatus, PkiError } from '../../core/runtime/errors.ts';
import { ownPackage } from '../../core/runtime/own-package.ts';
import type { Span } from '../../core/runtime/tracing.ts';
import type { RequestTracing } from '../api/traces.ts';
import type { TracingOptions } from '../config/tracing.ts';

// What follows from a request, sent to a collector of OpenTelemetry. The libraries are loaded only where `tracing` is configured.
//
// - Spans name routes, rules and codes, and nothing that a caller sent.
// - What a collector does not take in time is lost and counted in the log: no request waits for it.

/** Spans that wait for the collector; further ones are dropped. */
const waitingMax = 4096;
/** How often they are sent, and how long a collector has to take them, milliseconds. */
const sendEveryMs = 1000;
const takenWithinMs = 5000;
/** How long a stop waits for what is left of them to be sent. */
const closesWithinMs = 500;

/** Rejects with `bad-request` where the file of `tracing.ca` cannot be read. */
export async function openTracing(
  { url, sampled, ca }: TracingOptions,
  of: { readonly node: string; readonly folder: string; readonly logger: Logger },
): Promise<RequestTracing> {
  const [api, sdk, { OTLPTraceExporter }, { resourceFromAttributes }] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
  ]);
  const exporter = new OTLPTraceExporter({
    url,
    timeoutMillis: takenWithinMs,
    ...(ca === undefined ? {} : { httpAgentOptions: { ca: caOf(resolve(of.folder, ca)) } }),
  });
  const provider = new sdk.TracerProvider({
    resource: resourceFromAttributes({
      'service.name': 'warifu-ca',
      'service.version': ownPackage().version,
      'service.instance.id': of.node,
    }),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.TraceIdRatioBasedSampler(sampled) }),
    spanProcessors: [
      new sdk.BatchSpanProcessor({
        exporter: bounded(exporter, of.logger),
        maxQueueSize: waitingMax,
        scheduledDelayMillis: sendEveryMs,
        exportTimeoutMillis: takenWithinMs,
      }),
    ],
  });
  const tracer = provider.getTracer('warifu');
  return {
    begin: (name, attributes, traceparent) => {
      const parent = remoteParent(traceparent);
      const context = parent ? api.trace.setSpanContext(api.ROOT_CONTEXT, parent) : api.ROOT_CONTEXT;
      const span = tracer.startSpan(name, { kind: api.SpanKind.SERVER, attributes }, context);
      return { ...spanOf(span, { tracer, context }, api), traceId: span.spanContext().traceId };
    },
    close: () => within(closesWithinMs, provider.shutdown()),
  };
}

/** Resolves with `work`, however that ends, or after `ms`: a collector keeps no service from stopping. */
async function within(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  // What could not be sent is in the log.
  await Promise.race([work.catch(() => undefined), late]);
  clearTimeout(timer);
}

type ExportResult = Parameters<Parameters<SpanExporter['export']>[1]>[0];
type Api = typeof import('@opentelemetry/api');

function spanOf(span: OtelSpan, at: { readonly tracer: Tracer; readonly context: Context }, api: Api): Span {
  const context = api.trace.setSpan(at.context, span);
  return {
    child: (name, attributes) =>
      spanOf(at.tracer.startSpan(name, { attributes }, context), { ...at, context }, api),
    set: (attributes) => void span.setAttributes(attributes),
    end: (failure) => {
      if (failure !== undefined) {
        span.setAttribute('error.type', failure);
        // What is refused is no fault of the service.
        const status = errorStatus[failure as keyof typeof errorStatus] ?? 500;
        if (status >= 500) span.setStatus({ code: api.SpanStatusCode.ERROR });
      }
      span.end();
    },
  };
}

/** W3C Trace Context §3.2, version 00; undefined for anything else. */
function remoteParent(traceparent: string | undefined) {
  const [, traceId, spanId, flags] =
    /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(traceparent ?? '') ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true };
}

function caOf(file: string): Buffer {
  try {
    const octets = readFileSync(file);
    new X509Certificate(octets);
    return octets;
  } catch (error) {
    throw new PkiError('bad-request', `tracing.ca: ${file}: ${(error as Error).message}`);
  }
}

/**
 * Gives each export so long and no longer, whatever the collector does, and says once that spans are lost, and once, with their number, that
 * they are sent again.
 */
function bounded(exporter: SpanExporter, logger: Logger): SpanExporter {
  let lost = 0;
  const settle = (count: number, result: ExportResult): void => {
    if (result.code === 0) {
      if (lost > 0) logger.info({ lost }, 'traces are sent again');
      lost = 0;
      return;
    }
    if (lost === 0)
      logger.warn(
        { reason: result.error?.message, act: 'see that tracing.url is the collector, and that it runs' },
        'traces cannot be sent, and are lost',
      );
    lost += count;
  };
  return {
    export: (spans, done) => {
      let isSettled = false;
      const once = (result: ExportResult): void => {
        if (isSettled) return;
        isSettled = true;
        clearTimeout(timer);
        settle(spans.length, result);
        done(result);
      };
      const late = { code: 1, error: new Error(`the collector took longer than ${takenWithinMs} ms`) };
      const timer = setTimeout(once, takenWithinMs, late).unref();
      exporter.export(spans, once);
    },
    shutdown: () => exporter.shutdown(),
    ...(exporter.forceFlush ? { forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve() } : {}),
  };
}
