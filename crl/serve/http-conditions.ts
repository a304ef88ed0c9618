import type { IncomingHttpHeaders } from 'node:http';
import { type Coding, codings, type FileForm, type PublishedFile } from './files.ts';

/** Weight of what is acceptable only because nothing excludes it (RFC 9110 §12.5.3): below any that can be written. */
const implied = 0.0001;

/**
 * The coding to answer in: the one of the highest weight that Accept-Encoding gives, and of equal ones the smallest body
 * (RFC 9110 §12.5.3). `*` does not say that a client knows zstd, which is younger than most clients.
 */
export function codingFor(acceptEncoding: string): Coding {
  if (acceptEncoding.trim() === '') return 'identity';
  const weights = new Map<string, number>();
  for (const item of acceptEncoding.split(',')) {
    const [name = '', ...parameters] = item
      .trim()
      .toLowerCase()
      .split(/\s*;\s*/);
    const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
    // x-gzip is gzip (§8.4.1.3). A weight that is none is no wish for that coding.
    const coding = name === 'x-gzip' ? 'gzip' : name;
    const value =
      weight === undefined ? 1 : /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(weight) ? Number(weight) : 0;
    weights.set(coding, Math.max(value, weights.get(coding) ?? 0));
  }
  const others = weights.get('*');
  const weightOf: Readonly<Record<Coding, number>> = {
    zstd: weights.get('zstd') ?? 0,
    gzip: weights.get('gzip') ?? others ?? 0,
    identity: weights.get('identity') ?? others ?? implied,
  };
  const best = Math.max(...Object.values(weightOf));
  // Where all are excluded the body is given as it is, which the client may still be able to use.
  return best > 0 ? (codings.find((coding) => weightOf[coding] === best) ?? 'identity') : 'identity';
}

/**
 * Whether what a client has is what it would get (RFC 9110 §13.2.2): by its tags where it sends some, else by the time it
 * was last modified, which rises with every version.
 */
export function isUnchanged(
  headers: IncomingHttpHeaders,
  { entityTag, file }: FileForm,
  nowMs: number,
): boolean {
  const tags = headers['if-none-match'];
  if (tags !== undefined) return tags.trim() === '*' || tagsOf(tags).includes(entityTag);
  const since = Date.parse(headers['if-modified-since'] ?? '');
  return hasPast(file, nowMs) && since >= file.lastModifiedMs;
}

/** Whether If-Match or If-Unmodified-Since ask for another version than there is (§13.1.1, §13.1.4). */
export function isRefused(headers: IncomingHttpHeaders, { entityTag, file }: FileForm): boolean {
  const tags = headers['if-match'];
  // Strong comparison: this server gives no weak tags.
  if (tags !== undefined)
    return tags.trim() !== '*' && !tags.split(',').some((tag) => tag.trim() === entityTag);
  return Date.parse(headers['if-unmodified-since'] ?? '') < file.lastModifiedMs;
}

const tagsOf = (tags: string): string[] => tags.split(',').map((tag) => tag.trim().replace(/^W\//, ''));

/** A time in the future says nothing: versions that follow each other fast may be ahead of the clock. */
export function hasPast({ lastModifiedMs }: PublishedFile, nowMs: number): boolean {
  return lastModifiedMs <= nowMs;
}

/**
 * The part that Range asks for (§14.2): first octet, and the one behind the last. 'none' where there is no such part;
 * undefined where all of it is to be given: no range, several, one of another version, or one that we do not understand.
 */
export function rangeOf(
  headers: IncomingHttpHeaders,
  { entityTag, body }: FileForm,
): { readonly start: number; readonly end: number } | 'none' | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(headers.range ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return undefined;
  const condition = headers['if-range'];
  // A time does not tell versions of one second apart for sure; a tag does.
  if (condition !== undefined && condition !== entityTag) return undefined;
  const [, first = '', last = ''] = match;
  if (first === '') {
    const length = Math.min(Number(last), body.length);
    return length > 0 ? { start: body.length - length, end: body.length } : 'none';
  }
  const start = Number(first);
  const end = last === '' ? body.length : Math.min(Number(last) + 1, body.length);
  if (last !== '' && Number(last) < start) return undefined;
  return start < body.length ? { start, end } : 'none';
}
