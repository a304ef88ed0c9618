import type { IncomingHttpHeaders } from 'node:http';
import { type Coding, codings, type FileForm, type PublishedFile } from './files.ts';

/** The first of our codings that Accept-Encoding lets us give (RFC 9110 §12.5.3). */
export function codingFor(acceptEncoding: string): Coding {
  if (acceptEncoding === '') return 'identity';
  const weights = new Map(
    acceptEncoding.split(',').map((item) => {
      const [name = '', ...parameters] = item
        .trim()
        .toLowerCase()
        .split(/\s*;\s*/);
      const weight = parameters.find((parameter) => parameter.startsWith('q='))?.slice(2);
      return [name, weight === undefined ? 1 : Number(weight)] as const;
    }),
  );
  return codings.find((coding) => (weights.get(coding) ?? weights.get('*') ?? 0) > 0) ?? 'identity';
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
  // Compared strongly: a weak tag is nobody's here.
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
