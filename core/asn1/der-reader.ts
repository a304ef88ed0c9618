// A strict DER reader: definite minimal lengths, low tag numbers, nothing beyond the end (X.690 §10). It copies
// nothing; values are views of the input.
import { type Bytes, view } from '../runtime/bytes.ts';
import { tag } from './der-writer.ts';

/** The octets are not the DER that was expected. `offset` counts from the start of the outermost input. */
export class DerError extends Error {
  readonly offset: number;

  constructor(what: string, offset: number) {
    super(`${what} at octet ${offset}`);
    this.name = 'DerError';
    this.offset = offset;
  }
}

export class DerReader {
  readonly #bytes: Bytes;
  readonly #end: number;
  #at: number;

  constructor(bytes: Bytes, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  get atEnd(): boolean {
    return this.#at === this.#end;
  }

  /** The tag octet that comes next; undefined at the end. */
  peek(): number | undefined {
    return this.#at < this.#end ? this.#bytes[this.#at] : undefined;
  }

  fail(what: string): never {
    throw new DerError(what, this.#at);
  }

  /** Nothing may be left: call it wherever a structure ends. */
  end(): void {
    if (!this.atEnd) this.fail('unexpected octets after the value');
  }

  /** Reads a constructed value of that tag; the returned reader covers its content. */
  enter(expected: number): DerReader {
    const [start, end] = this.#next(expected);
    return new DerReader(this.#bytes, start, end);
  }

  /** Reads a value of that tag and returns its content octets. */
  content(expected: number): Bytes {
    const [start, end] = this.#next(expected);
    return this.#bytes.subarray(start, end);
  }

  /** Reads the value that comes next, whatever its tag, and returns it whole: tag, length and content. */
  whole(expected: number | undefined = this.peek()): Bytes {
    if (expected === undefined) this.fail('a value is missing');
    const start = this.#at;
    const [, end] = this.#next(expected);
    return this.#bytes.subarray(start, end);
  }

  /** Content octets of an INTEGER, minimal and not negative, without a leading sign octet. */
  unsigned(): Bytes {
    const octets = this.integerOctets();
    if (((octets[0] ?? 0) & 0x80) !== 0) this.fail('a negative integer');
    return octets.length > 1 && octets[0] === 0 ? octets.subarray(1) : octets;
  }

  /** Content octets of an INTEGER as encoded, minimal. */
  integerOctets(): Bytes {
    const octets = this.content(tag.integer);
    const [first, second] = octets;
    if (first === undefined) this.fail('an empty integer');
    if (second !== undefined && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))) {
      this.fail('an integer that is not minimal');
    }
    return octets;
  }

  /** An INTEGER from 0 to 2^31 - 1. */
  smallInteger(): number {
    const octets = this.unsigned();
    if (octets.length > 4 || (octets.length === 4 && (octets[0] ?? 0) > 0x7f))
      this.fail('an integer too large');
    return octets.reduce((value, octet) => value * 256 + octet, 0);
  }

  /** Content octets of an OBJECT IDENTIFIER, every arc minimal and ended (X.690 §8.19), as hex: arcs of any size compare so. */
  objectIdentifier(): string {
    const octets = this.content(tag.oid);
    const last = octets.at(-1);
    const padded = octets.some((octet, i) => octet === 0x80 && (i === 0 || (octets[i - 1] ?? 0) < 0x80));
    if (last === undefined || last >= 0x80 || padded) this.fail('not an object identifier');
    return view(octets).toString('hex');
  }

  boolean(): boolean {
    const octets = this.content(tag.boolean);
    if (octets.length !== 1 || (octets[0] !== 0 && octets[0] !== 0xff)) this.fail('not a DER boolean');
    return octets[0] === 0xff;
  }

  /** A BIT STRING of whole octets. */
  bitString(): Bytes {
    const content = this.content(tag.bitString);
    if (content[0] !== 0) this.fail('a bit string with unused bits');
    return content.subarray(1);
  }

  utf8String(): string {
    const content = this.content(tag.utf8String);
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content);
    } catch {
      return this.fail('not UTF-8');
    }
  }

  /** UTCTime or GeneralizedTime in the forms of RFC 5280 §4.1.2.5, as milliseconds since 1970. */
  time(): number {
    const generalized = this.peek() === tag.generalizedTime;
    const text = view(this.content(generalized ? tag.generalizedTime : tag.utcTime)).toString('latin1');
    const match = /^(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/.exec(text);
    if (!match || (match[1]?.length === 4) !== generalized) this.fail('not a time of RFC 5280');
    const [short = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1).map(Number);
    const year = generalized ? short : short >= 50 ? 1900 + short : 2000 + short;
    const ms = Date.UTC(year, month - 1, day, hour, minute, second);
    const date = new Date(ms);
    if (
      date.getUTCMonth() !== month - 1 ||
      date.getUTCDate() !== day ||
      hour > 23 ||
      minute > 59 ||
      second > 59
    ) {
      this.fail('a time that does not exist');
    }
    return ms;
  }

  #next(expected: number): [start: number, end: number] {
    const tagOctet = this.peek();
    if (tagOctet === undefined) this.fail('a value is missing');
    if (tagOctet !== expected)
      this.fail(`tag 0x${tagOctet.toString(16)} where 0x${expected.toString(16)} belongs`);
    if ((tagOctet & 0x1f) === 0x1f) this.fail('a high tag number');
    let at = this.#at + 1;
    const first = this.#bytes[at++];
    if (first === undefined || at > this.#end) this.fail('truncated');
    let length = first;
    if (first >= 0x80) {
      const octets = first & 0x7f;
      if (octets === 0) this.fail('an indefinite length');
      if (octets > 4 || at + octets > this.#end) this.fail('a length too long');
      length = 0;
      for (let i = 0; i < octets; i++) length = length * 256 + (this.#bytes[at++] ?? 0);
      if (length < 0x80 || length < 256 ** (octets - 1)) this.fail('a length that is not minimal');
    }
    if (at + length > this.#end) this.fail('truncated');
    this.#at = at + length;
    return [at, at + length];
  }
}
