import type { IncomingHttpHeaders } from 'node:http';

// Conditional and range requests (RFC 9110 §13, §14) for what has an entity tag.

/** What tells versions of a resource apart. */
export interface Validators {
  /** Strong, quoted. */
  readonly entityTag: string;
  /**
   * When it was last modified, milliseconds. null: no time tells versions apart, because two may be of one second, or because the
   * time is ahead of the clock.
   */
  readonly lastModifiedMs: number | null;
}

/** Weak comparison (§8.8.3.2) with a list of tags. */
function matchesAny(tags: string, entityTag: string): boolean {
  return tags.trim() === '*' || tags.split(',').some((tag) => tag.trim().replace(/^W\//, '') === entityTag);
}

const [day, month] = ['(Mon|Tues?|Wed(nes)?|Thu(rs)?|Fri|Sat(ur)?|Sun)(day)?', '[A-Z][a-z]{2}'];
/** The three forms of a date (§5.6.7), the last of which says no zone. */
const httpDates = [
  new RegExp(`^${day}, \\d{2} ${month} \\d{4} \\d{2}:\\d{2}:\\d{2} GMT$`),
  new RegExp(`^${day}, \\d{2}-${month}-\\d{2} \\d{2}:\\d{2}:\\d{2} GMT$`),
  new RegExp(`^${day} ${month} [ \\d]\\d \\d{2}:\\d{2}:\\d{2} \\d{4}$`),
];

/** NaN, which compares with nothing, where the header is none or no date: it is ignored then (§13.1.3). */
function httpDateMs(text: string | undefined): number {
  if (text === undefined || !httpDates.some((form) => form.test(text))) return Number.NaN;
  return Date.parse(text.endsWith('GMT') ? text : `${text} GMT`);
}

/** Whether what a client has is what it would get (§13.2.2): by its tags where it sends some, else by the time. */
export function notModified(
  headers: IncomingHttpHeaders,
  { entityTag, lastModifiedMs }: Validators,
): boolean {
  const tags = headers['if-none-match'];
  if (tags !== undefined) return matchesAny(tags, entityTag);
  return lastModifiedMs !== null && httpDateMs(headers['if-modified-since']) >= lastModifiedMs;
}

/** Whether If-Match or If-Unmodified-Since ask for another version than there is (§13.1.1, §13.1.4). */
export function preconditionFailed(
  headers: IncomingHttpHeaders,
  { entityTag, lastModifiedMs }: Validators & { readonly lastModifiedMs: number },
): boolean {
  const tags = headers['if-match'];
  // Strong comparison: a weak tag matches nothing.
  if (tags !== undefined)
    return tags.trim() !== '*' && !tags.split(',').some((tag) => tag.trim() === entityTag);
  return httpDateMs(headers['if-unmodified-since']) < lastModifiedMs;
}

/**
 * The part that Range asks for (§14.2): first octet, and the one behind the last. 'unsatisfiable' where there is no such part;
 * undefined where all of it is to be given: no range, several, one of another version, or one that we do not understand.
 */
export function rangeOf(
  headers: IncomingHttpHeaders,
  { entityTag }: Pick<Validators, 'entityTag'>,
  total: number,
): { readonly start: number; readonly end: number } | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(headers.range ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return undefined;
  const condition = headers['if-range'];
  // If-Range (§13.1.5): a time does not tell versions of one second apart for sure; a tag does.
  if (condition !== undefined && condition !== entityTag) return undefined;
  const [, first = '', last = ''] = match;
  if (first === '') {
    const length = Math.min(Number(last), total);
    return length > 0 ? { start: total - length, end: total } : 'unsatisfiable';
  }
  const start = Number(first);
  const end = last === '' ? total : Math.min(Number(last) + 1, total);
  if (last !== '' && Number(last) < start) return undefined;
  return start < total ? { start, end } : 'unsatisfiable';
}
