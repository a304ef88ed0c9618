import { type Bytes, digest, hex } from '../../core/runtime/bytes.ts';
import { type CertStatus, encodeErrorResponse, type OcspErrorStatus } from './response.ts';

/** How long an answer holds, wall-clock milliseconds of its thisUpdate and nextUpdate. */
export interface Freshness {
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
}

const beforeDate = 'HTTP/1.1 200 OK\r\nDate: ';
const dateAt = beforeDate.length;

let dateSecond = Number.NaN;
let dateText = '';

/** IMF-fixdate (RFC 9110 §5.6.7), of 29 octets always. */
export function httpDate(ms: number): string {
  const second = Math.floor(ms / 1000);
  if (second !== dateSecond) {
    dateText = new Date(second * 1000).toUTCString();
    dateSecond = second;
  }
  return dateText;
}

/** Head of an HTTP answer to POST, which no cache keeps (RFC 9919 §6). */
export function postHead(length: number): Buffer {
  const known = heads.get(length);
  if (known) return known;
  const head = Buffer.from(
    `${beforeDate}${httpDate(0)}\r\nContent-Type: application/ocsp-response\r\nContent-Length: ${length}\r\nCache-Control: no-store\r\n\r\n`,
    'latin1',
  );
  // Lengths of signatures differ by a few octets, those of nonces by no more than 128.
  if (heads.size >= headsMax) heads.clear();
  heads.set(length, head);
  return head;
}

const heads = new Map<number, Buffer>();
const headsMax = 4096;

/** An OCSPResponse, in one piece with the head of the HTTP answer to POST: what is sent most is sent as it is. */
export class Answer {
  /** null if it may not be cached: an error, or an answer with a nonce. */
  readonly fresh: Freshness | null;
  /** What was said of each certificate asked about; empty for an error. */
  readonly statuses: readonly CertStatus['type'][];
  #whole: Buffer;
  readonly #headLength: number;
  #second = 0;

  /** `whole` begins with `postHead` of what follows it. */
  constructor(
    whole: Buffer,
    headLength: number,
    fresh: Freshness | null,
    statuses: readonly CertStatus['type'][],
  ) {
    this.#whole = whole;
    this.#headLength = headLength;
    this.fresh = fresh;
    this.statuses = statuses;
  }

  get der(): Buffer {
    return this.#whole.subarray(this.#headLength);
  }

  static error(status: OcspErrorStatus): Answer {
    const der = encodeErrorResponse(status);
    const head = postHead(der.length);
    return new Answer(Buffer.concat([head, der]), head.length, null, []);
  }

  /**
   * The HTTP answer to POST. The octets are this object's own; their date changes in place, unless octets that were given
   * before `mayBeUnsent`: those are left as they are.
   */
  post(nowMs: number, mayBeUnsent: boolean): Buffer {
    const second = Math.floor(nowMs / 1000);
    if (second !== this.#second) {
      if (mayBeUnsent) this.#whole = Buffer.from(this.#whole);
      this.#whole.write(httpDate(nowMs), dateAt, 29, 'latin1');
      this.#second = second;
    }
    return this.#whole;
  }

  /** Octets of memory it takes, roughly. */
  get octets(): number {
    return this.#whole.length + 512;
  }
}

/** What ETag says of a response. */
export const entityTag = (der: Bytes): string => `"${hex(digest('sha256', der)).slice(0, 32)}"`;
