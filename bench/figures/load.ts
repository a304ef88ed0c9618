import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { type Bytes, fromHex } from '../../core/runtime/bytes.ts';
import { type ApiLine, apiRequests, crlRequests, ocspRequests } from '../load/answer-checks.ts';
import {
  type CheckedRequest,
  type CheckedResult,
  loadAndCheck,
  percentile,
  type Second,
} from '../load/checked-load.ts';

/** What is loaded, and how. */
export interface LoadOptions {
  readonly url: string;
  readonly kind: 'ocsp' | 'crl' | 'api';
  readonly issuer?: string;
  readonly serials?: string;
  readonly certificates?: readonly string[];
  readonly distinct?: number;
  readonly nonce: boolean;
  readonly method: 'GET' | 'POST';
  readonly paths?: string;
  readonly requests?: string;
  readonly connections: number;
  readonly newConnections: boolean;
  readonly rate?: number;
  readonly duration: number;
  readonly timeout: number;
  readonly cert?: string;
  readonly key?: string;
  readonly ca?: string;
}

export interface LoadFigures {
  readonly figures: Readonly<Record<string, number | string | boolean>>;
  readonly perSecond: readonly Second[];
  readonly latenciesMs: Float64Array;
}

/** Below so many right answers no percentile says anything. */
const answersMin = 100;

/** Loads any OCSP or CRL server, or a CA API, and looks at its answers. Throws `RangeError` where the options do not fit. */
export async function benchLoad(
  options: LoadOptions,
  progress: (text: string) => void,
): Promise<LoadFigures> {
  const { url, connections, newConnections, rate = null, duration, timeout } = options;
  const next = requestsOf(options);
  const tls =
    options.cert || options.ca
      ? {
          ...(options.cert ? { cert: readFileSync(options.cert, 'utf8') } : {}),
          ...(options.key ? { key: readFileSync(options.key, 'utf8') } : {}),
          ...(options.ca ? { ca: readFileSync(options.ca, 'utf8') } : {}),
        }
      : null;
  let second = 0;
  const result = await loadAndCheck({
    ...{
      url: new URL(url).origin,
      next,
      connections,
      newConnections,
      rate,
      seconds: duration,
      timeoutSeconds: timeout,
      tls,
    },
    progress: ({ correct, wrong, p99Ms }) => {
      second += 1;
      progress(`${second}/${duration} s  ${correct} right, ${wrong} wrong, p99 ${p99Ms.toFixed(1)} ms`);
    },
  });
  return {
    figures: figuresOf(options, result),
    perSecond: result.perSecond,
    latenciesMs: result.latenciesMs,
  };
}

function figuresOf(
  { url, kind, connections, rate, nonce, method }: LoadOptions,
  result: CheckedResult,
): Record<string, number | string | boolean> {
  const { seconds, correct, wrong, failures, errors, timeouts, latenciesMs } = result;
  const listed = (counts: ReadonlyMap<string, number>): string =>
    [...counts].map(([what, count]) => `${what}: ${count}`).join('; ');
  const wrongAll = [...wrong.values()].reduce((sum, each) => sum + each, 0);
  const at = (share: number): number => percentile(latenciesMs, share);
  return {
    ...{ url, kind, connections, seconds, rateWanted: rate ?? 0 },
    ...(kind === 'ocsp' ? { nonce, method } : {}),
    answersPerSecond: correct / seconds,
    ...{ p50Ms: at(0.5), p90Ms: at(0.9), p99Ms: at(0.99), p999Ms: at(0.999), maxMs: at(1) },
    ...{ correct, wrong: wrongAll, errors, timeouts },
    ...(wrongAll > 0 ? { wrongBy: listed(wrong) } : {}),
    ...(failures.size > 0 ? { errorsBy: listed(failures) } : {}),
    disturbed: wrongAll + errors + timeouts > 0 || correct < answersMin,
  };
}

function requestsOf(options: LoadOptions): () => CheckedRequest {
  const { url, kind, method, nonce } = options;
  const { pathname } = new URL(url);
  if (kind === 'crl') return crlRequests(options.paths ? linesOf(options.paths) : [pathname]);
  if (kind === 'api') {
    if (!options.requests)
      throw new RangeError(
        '--requests is missing: a file of NDJSON, one { "method", "path", "headers", "body" } a line',
      );
    return apiRequests(linesOf(options.requests).map((line) => JSON.parse(line) as ApiLine));
  }
  if (!options.issuer)
    throw new RangeError('--issuer is missing: the certificate of the CA that is asked about, PEM or DER');
  const issuer = new X509Certificate(readFileSync(options.issuer)).raw;
  const serials = serialsOf(options).slice(0, options.distinct);
  if (serials.length === 0)
    throw new RangeError('--serials or --certificates: about which certificates to ask');
  return ocspRequests({ issuer, serials, path: pathname, method, nonce });
}

/** Serial numbers of a file, hex, one a line; and of certificates, each a file of PEM or DER. */
function serialsOf({ serials, certificates = [] }: LoadOptions): Bytes[] {
  return [
    ...(serials ? linesOf(serials).map((line) => fromHex(line.replaceAll(':', '').toLowerCase())) : []),
    ...certificates.map((file) => parseCertificate(new X509Certificate(readFileSync(file)).raw).serial),
  ];
}

const linesOf = (file: string): string[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
