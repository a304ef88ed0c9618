import type { Suite } from '../../core/asn1/algorithms.ts';
import { sealSigned } from '../../core/asn1/signed-data.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import { type Bytes, digest, equal, hex } from '../../core/runtime/bytes.ts';
import { invariant, PkiError } from '../../core/runtime/errors.ts';
import type { Encoding, Sealed } from '../../store/api/certificate-store.ts';
import type { EncodingBases } from '../../store/api/encoding-bases.ts';
import { baseIdIn, baseIdOctets, baseOf, lengthen, runsOf, shorten } from './common-runs.ts';
import { Sealer } from './sealer.ts';

/** What the to-be-signed bytes of a certificate are sealed for: they cannot take another's place. */
const contextOf = ({ authority, epoch, position }: CertificateId): string =>
  `toBeSigned:${authority}:${epoch}:${position}`;

/** Bases that are kept in memory: as many as there are distribution points in use, and some. */
const basesMax = 4096;

/**
 * The to-be-signed bytes of certificates as the record keeps them: sealed, and without what many have in common. Their base is on record
 * before any that needs it. It is named by its SHA-256 within the seal, so that none can be put in its place.
 */
export class Encodings {
  readonly #store: EncodingBases;
  readonly #sealer: Sealer;
  /** Runs by the id of their base, hex. */
  readonly #bases = new Map<string, readonly Bytes[]>();
  /** Ids of bases that are on record, by their runs. */
  readonly #kept = new WeakMap<readonly Bytes[], Promise<Bytes>>();

  constructor(store: EncodingBases, sealer: Sealer) {
    this.#store = store;
    this.#sealer = sealer;
  }

  /** `runs`: octets that it has in common with others, in the order in which they stand in it. */
  async seal(
    key: CertificateId,
    { toBeSigned, notAfterMs }: { readonly toBeSigned: Bytes; readonly notAfterMs: number },
    runs: readonly Bytes[] = [],
  ): Promise<Sealed> {
    const baseId = runs.length === 0 ? undefined : await this.#keep(runs);
    const shortened = baseId && shorten(toBeSigned, baseId, runs);
    if (shortened)
      invariant(equal(lengthen(shortened, runs), toBeSigned), 'a shortened encoding is what it was');
    return this.#sealer.seal(Sealer.keyFor(notAfterMs), contextOf(key), shortened ?? toBeSigned);
  }

  /** `not-found` where its year was erased, `internal` where it, or its base, was altered. */
  async open(key: CertificateId, sealed: Sealed): Promise<Bytes> {
    const kept = await this.#sealer.open(contextOf(key), sealed);
    const baseId = baseIdIn(kept);
    return baseId ? lengthen(kept, await this.#runsBy(baseId)) : kept;
  }

  /** A certificate put together from what the record keeps of it, DER. Throws as `open`. */
  async certificate(key: CertificateId, { toBeSigned, signature }: Encoding, suite: Suite): Promise<Bytes> {
    return sealSigned(await this.open(key, toBeSigned), suite, signature);
  }

  #keep(runs: readonly Bytes[]): Promise<Bytes> {
    const known = this.#kept.get(runs);
    if (known) return known;
    const base = baseOf(runs);
    const baseId = idOf(base);
    const keeping = this.#store.keepEncodingBase(baseId, base).then(() => baseId);
    this.#kept.set(runs, keeping);
    keeping.catch(() => this.#kept.delete(runs));
    return keeping;
  }

  async #runsBy(baseId: Bytes): Promise<readonly Bytes[]> {
    const name = hex(baseId);
    const known = this.#bases.get(name);
    if (known) return known;
    const base = await this.#store.encodingBase(baseId);
    if (!base || !equal(idOf(base), baseId))
      throw new PkiError('internal', `the base of an encoding was altered, or is not there: ${name}`);
    const runs = runsOf(base);
    const [oldest] = this.#bases.keys();
    if (oldest !== undefined && this.#bases.size >= basesMax) this.#bases.delete(oldest);
    this.#bases.set(name, runs);
    return runs;
  }
}

const idOf = (base: Bytes): Bytes => digest('sha256', base).subarray(0, baseIdOctets);
