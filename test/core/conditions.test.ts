import { describe, expect, it } from 'vitest';
import { notModified, preconditionFailed, rangeOf } from '../../core/http/conditions.ts';

const lastModifiedMs = Date.UTC(1994, 10, 6, 8, 49, 37);
const validators = { entityTag: '"a"', lastModifiedMs };

describe('a conditional request', () => {
  it.each([
    ['IMF-fixdate', 'Sun, 06 Nov 1994 08:49:37 GMT', true],
    ['the form of RFC 850', 'Sunday, 06-Nov-94 08:49:37 GMT', true],
    ['the form of asctime', 'Sun Nov  6 08:49:37 1994', true],
    ['an earlier second', 'Sun, 06 Nov 1994 08:49:36 GMT', false],
    ['a year alone', '2099', false],
    ['ISO 8601', '2099-01-01T00:00:00Z', false],
    ['a number', '4070908800000', false],
    ['nothing', '', false],
  ])('takes %s in If-Modified-Since as RFC 9110 §13.1.3 does', (_form, since, expected) => {
    expect(notModified({ 'if-modified-since': since }, validators)).toBe(expected);
    expect(notModified({ 'if-modified-since': since }, { ...validators, lastModifiedMs: null })).toBe(false);
  });

  it('goes by tags where it has some: weak ones match If-None-Match, and not If-Match', () => {
    const since = { 'if-modified-since': 'Sun, 06 Nov 1994 08:49:37 GMT' };
    expect(notModified({ ...since, 'if-none-match': '"b", W/"a"' }, validators)).toBe(true);
    expect(notModified({ ...since, 'if-none-match': '"b"' }, validators)).toBe(false);
    expect(notModified({ 'if-none-match': '*' }, validators)).toBe(true);
    expect(preconditionFailed({ 'if-match': 'W/"a"' }, validators)).toBe(true);
    expect(preconditionFailed({ 'if-match': '"b", "a"' }, validators)).toBe(false);
    expect(preconditionFailed({ 'if-unmodified-since': '1990' }, validators)).toBe(false);
  });

  it('asks for a part only of the version that If-Range names', () => {
    expect(rangeOf({ range: 'bytes=-3' }, validators, 10)).toEqual({ start: 7, end: 10 });
    expect(rangeOf({ range: 'bytes=10-' }, validators, 10)).toBe('unsatisfiable');
    expect(rangeOf({ range: 'bytes=0-1', 'if-range': 'W/"a"' }, validators, 10)).toBeUndefined();
    expect(rangeOf({ range: 'bytes=0-1,3-4' }, validators, 10)).toBeUndefined();
  });
});
