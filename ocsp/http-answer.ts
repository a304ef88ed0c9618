import { type Answer, entityTag, httpDate } from './answer.ts';

/** Headers of an answer to GET or HEAD: how long it may be kept, and until when it is fresh (RFC 5019 §6.2). */
export function cachingHeaders({ der, fresh }: Answer, nowMs: number): Record<string, string> {
  if (!fresh) return { 'Cache-Control': 'no-store' };
  const maxAge = Math.max(0, Math.floor((fresh.nextUpdateMs - nowMs) / 1000));
  return {
    'Last-Modified': new Date(fresh.thisUpdateMs).toUTCString(),
    Expires: new Date(fresh.nextUpdateMs).toUTCString(),
    ETag: entityTag(der),
    'Cache-Control': `max-age=${maxAge}, public, no-transform, must-revalidate`,
  };
}

/** A whole HTTP answer, for a connection that we write to ourselves. */
export function wholeAnswer(
  answer: Answer,
  nowMs: number,
  { method, keepAlive }: { readonly method: 'GET' | 'POST'; readonly keepAlive: boolean },
): Buffer {
  if (method === 'POST' && keepAlive) return answer.post(nowMs);
  const headers = {
    Date: httpDate(nowMs),
    'Content-Type': 'application/ocsp-response',
    'Content-Length': String(answer.der.length),
    ...(method === 'GET' ? cachingHeaders(answer, nowMs) : { 'Cache-Control': 'no-store' }),
    ...(keepAlive ? {} : { Connection: 'close' }),
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\n${lines.join('')}\r\n`, 'latin1'), answer.der]);
}

/** Whether what a client has is what it would get (RFC 9110 §13.2.2). */
export function isUnchanged(
  { der, fresh }: Answer,
  headers: {
    readonly 'if-none-match'?: string | undefined;
    readonly 'if-modified-since'?: string | undefined;
  },
): boolean {
  if (!fresh) return false;
  const { 'if-none-match': tags, 'if-modified-since': since } = headers;
  if (tags !== undefined) {
    return (
      tags.trim() === '*' || tags.split(',').some((tag) => tag.trim().replace(/^W\//, '') === entityTag(der))
    );
  }
  if (since === undefined) return false;
  // Dates are in whole seconds; one that cannot be read is as none.
  return Math.floor(fresh.thisUpdateMs / 1000) * 1000 <= Date.parse(since);
}
