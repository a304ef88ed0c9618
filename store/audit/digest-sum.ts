import type { Bytes } from '../../core/runtime/bytes.ts';
import type { AuditKey } from '../engine/audit-key.ts';
import type { TableName } from '../schema/schema.ts';

/** Digests that one call of the cipher takes. */
const atOnce = 512;
const digestOctets = 32;
const limbs = 8;
const limbValues = 2 ** 32;
const modulus = 2n ** 256n;

/**
 * One number for a set of rows, in whatever order they come: the sum, modulo 2^256, of AES-256 of both halves of each digest. Without
 * the key no other set of rows with the same sum can be found, nor a sum that is right.
 */
class DigestSum {
  readonly #encrypt: (blocks: Bytes) => Buffer;
  readonly #waiting = Buffer.alloc(atOnce * digestOctets);
  readonly #signs = new Int8Array(atOnce);
  #count = 0;
  /** Of 32 bits, the lowest first; each may be off by carries that are not made yet. */
  readonly #limbs = new Float64Array(limbs);

  constructor(key: AuditKey, start = 0n) {
    this.#encrypt = key.blockCipher();
    for (let i = 0; i < limbs; i++) this.#limbs[i] = Number((start >> BigInt(32 * i)) % BigInt(limbValues));
  }

  add(digest: Bytes, sign: 1 | -1): void {
    this.#waiting.set(digest, this.#count * digestOctets);
    this.#signs[this.#count] = sign;
    this.#count += 1;
    if (this.#count === atOnce) this.#flush();
  }

  get value(): bigint {
    this.#flush();
    let value = 0n;
    for (let i = limbs - 1; i >= 0; i--) value = value * BigInt(limbValues) + BigInt(this.#limbs[i] ?? 0);
    return ((value % modulus) + modulus) % modulus;
  }

  #flush(): void {
    const encrypted = this.#encrypt(this.#waiting.subarray(0, this.#count * digestOctets));
    // In an array of its own, aligned; the machine's order of octets is the least first, as of all that Node runs on.
    const words = new Uint32Array(new Uint8Array(encrypted).buffer);
    for (let i = 0; i < limbs; i++) {
      let limb = this.#limbs[i] ?? 0;
      for (let n = 0; n < this.#count; n++) limb += (this.#signs[n] ?? 0) * (words[n * limbs + i] ?? 0);
      this.#limbs[i] = limb;
    }
    this.#count = 0;
    this.#carry();
  }

  #carry(): void {
    for (let i = 0; i < limbs; i++) {
      const carry = Math.floor((this.#limbs[i] ?? 0) / limbValues);
      this.#limbs[i] = (this.#limbs[i] ?? 0) - carry * limbValues;
      // What leaves the last limb is a multiple of the modulus.
      if (i + 1 < limbs) this.#limbs[i + 1] = (this.#limbs[i + 1] ?? 0) + carry;
    }
  }
}

/** How many rows there are of a table, and their sum, 64 hex digits. */
export interface TableSum {
  readonly rows: number;
  readonly sum: string;
}

/** Sums of the rows of each table. */
export class TableSums {
  readonly #key: AuditKey;
  readonly #sums = new Map<TableName, { readonly sum: DigestSum; rows: number }>();

  constructor(key: AuditKey) {
    this.#key = key;
  }

  /** Adds sums that were made earlier. */
  addSums(sums: Readonly<Partial<Record<TableName, TableSum>>>): void {
    for (const [table, { rows, sum }] of Object.entries(sums)) {
      const known = this.of(table as TableName);
      this.#sums.set(table as TableName, {
        sum: new DigestSum(this.#key, (BigInt(`0x${known.sum}`) + BigInt(`0x${sum}`)) % modulus),
        rows: known.rows + rows,
      });
    }
  }

  add(table: TableName, digest: Bytes): void {
    this.#count(table, digest, 1);
  }

  subtract(table: TableName, digest: Bytes): void {
    this.#count(table, digest, -1);
  }

  of(table: TableName): TableSum {
    const known = this.#sums.get(table);
    return { rows: known?.rows ?? 0, sum: (known?.sum.value ?? 0n).toString(16).padStart(64, '0') };
  }

  rowsOf(table: TableName): number {
    return this.#sums.get(table)?.rows ?? 0;
  }

  get all(): Record<string, TableSum> {
    return Object.fromEntries([...this.#sums.keys()].map((table) => [table, this.of(table)]));
  }

  #count(table: TableName, digest: Bytes, sign: 1 | -1): void {
    let known = this.#sums.get(table);
    if (!known) {
      known = { sum: new DigestSum(this.#key), rows: 0 };
      this.#sums.set(table, known);
    }
    known.sum.add(digest, sign);
    known.rows += sign;
  }
}
