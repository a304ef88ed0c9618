import type { IncomingHttpHeaders } from 'node:http';
import { notModified } from '../../core/http/conditions.ts';
import { type Answer, entityTag, httpDate } from './prepared-answer.ts';

/**
 * Headers of an answer to GET or HEAD: how long it may be kept, and until when it is fresh (RFC 9919 §7.2). `isPrivate`: no cache that
 * several share may keep it, for it would answer those that may not ask.
 */
export function cachingHeaders(
  { der, fresh }: Answer,
  nowMs: number,
  isPrivate: boolean,
): Record<string, string> {
  if (!fresh) return { 'Cache-Control': 'no-store' };
  const maxAge = Math.max(0, Math.floor((fresh.nextUpdateMs - nowMs) / 1000));
  return {
    'Last-Modified': new Date(fresh.thisUpdateMs).toUTCString(),
    Expires: new Date(fresh.nextUpdateMs).toUTCString(),
    ETag: entityTag(der),
    'Cache-Control': `max-age=${maxAge}, ${isPrivate ? 'private' : 'public'}, no-transform, must-revalidate`,
  };
}

/**
 * A whole HTTP answer, for a connection that we write to ourselves. `mayBeUnsent`: whether one that was given before may not
 * be with the kernel yet.
 */
export function wholeAnswer(
  answer: Answer,
  nowMs: number,
  { method, keepAlive }: { readonly method: 'GET' | 'POST'; readonly keepAlive: boolean },
  { mayBeUnsent, isPrivate }: { readonly mayBeUnsent: boolean; readonly isPrivate: boolean },
): Buffer {
  if (method === 'POST' && keepAlive) return answer.post(nowMs, mayBeUnsent);
  const headers = {
    Date: httpDate(nowMs),
    'Content-Type': 'application/ocsp-response',
    'Content-Length': String(answer.der.length),
    ...(method === 'GET' ? cachingHeaders(answer, nowMs, isPrivate) : { 'Cache-Control': 'no-store' }),
    ...(keepAlive ? {} : { Connection: 'close' }),
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\n${lines.join('')}\r\n`, 'latin1'), answer.der]);
}

/**
 * Whether a client has this answer already. No time says so: two answers of one second may differ, and a *good* must not be made
 * fresh by a *revoked*.
 */
export const isKnown = ({ der, fresh }: Answer, headers: IncomingHttpHeaders): boolean =>
  fresh !== null && notModified(headers, { entityTag: entityTag(der), lastModifiedMs: null });
