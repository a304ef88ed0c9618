import type { Bytes } from '../../core/runtime/bytes.ts';
import type { AuditKey } from '../engine/audit-key.ts';

/** Into so many parts a table's rows are divided by a hash of their names. */
export const bucketCount = 2 ** 16;

/** Digests that one call of the cipher takes. */
const atOnce = 512;
const blockOctets = 16;
const wordsOfSum = 2;

/**
 * A sum of digests for each bucket: two numbers of 32 bits of their encryption, modulo 2^32. It tells in which bucket two sets of
 * rows differ; `TableSums` says whether they do.
 */
export class BucketSums {
  readonly #encrypt: (blocks: Bytes) => Buffer;
  readonly #waiting = Buffer.alloc(atOnce * blockOctets);
  readonly #places = new Uint32Array(atOnce);
  readonly #signs = new Int8Array(atOnce);
  #count = 0;
  readonly #sums = new Uint32Array(bucketCount * wordsOfSum);

  constructor(key: AuditKey) {
    this.#encrypt = key.blockCipher();
  }

  /** Adds, or takes away, the first 16 octets of a digest. */
  add(bucket: number, digest: Bytes, sign: 1 | -1): void {
    this.#waiting.set(digest.subarray(0, blockOctets), this.#count * blockOctets);
    this.#places[this.#count] = bucket * wordsOfSum;
    this.#signs[this.#count] = sign;
    this.#count += 1;
    if (this.#count === atOnce) this.#flush();
  }

  /** The buckets whose sums are not zero, in order. */
  get differing(): number[] {
    this.#flush();
    const found: number[] = [];
    for (let bucket = 0; bucket < bucketCount; bucket++) {
      const at = bucket * wordsOfSum;
      if (this.#sums[at] !== 0 || this.#sums[at + 1] !== 0) found.push(bucket);
    }
    return found;
  }

  #flush(): void {
    const encrypted = this.#encrypt(this.#waiting.subarray(0, this.#count * blockOctets));
    for (let n = 0; n < this.#count; n++) {
      for (let word = 0; word < wordsOfSum; word++) {
        const at = (this.#places[n] ?? 0) + word;
        const value = encrypted.readUInt32LE(n * blockOctets + 4 * word);
        // The array keeps 32 bits of it.
        this.#sums[at] = (this.#sums[at] ?? 0) + (this.#signs[n] ?? 0) * value;
      }
    }
    this.#count = 0;
  }
}
