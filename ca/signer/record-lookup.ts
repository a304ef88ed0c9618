import { SerialCipher } from '../../core/crypto/serial.ts';
import type { KeyWrapper } from '../../core/crypto/signer.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { CertificateKind, Slot } from '../../core/model/kinds.ts';
import { type Bytes, view } from '../../core/runtime/bytes.ts';
import { coalesced } from '../../core/runtime/coalesced.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { openQueries, type RecordQueries } from '../../store/audit/open-queries.ts';
import type { RecordPlace } from '../../store/audit/open-reader.ts';
import type { RecordReader } from '../../store/engine/record.ts';
import { epochContext } from '../../store/feed/event-feed.ts';
import { Encodings } from '../sealing/encoding.ts';
import { Sealer } from '../sealing/sealer.ts';

// The record as the signer reads it, over a connection of its own: that something is on record is not taken from who asks for a signature.

/** What is on record of a certificate that is to be signed. */
export interface ReservedCertificate {
  readonly kind: CertificateKind;
  readonly toBeSigned: Bytes;
}

/** A certificate of the operations CA that is to be signed. */
export interface ReservedOperations {
  readonly kind: string;
  readonly toBeSigned: Bytes;
}

interface Lease {
  readonly first: number;
  readonly end: number;
}

/** Leases that are kept in memory, of each epoch: more than are in use at once. */
const leasesMax = 64;
const neverWritten = (): never => {
  throw new PkiError('internal', 'the signer writes nothing on record');
};

export class RecordLookup {
  readonly #place: () => RecordPlace;
  readonly #wrapper: KeyWrapper;
  readonly #encodings: Encodings;
  readonly #ciphers = new Map<string, Promise<SerialCipher>>();
  readonly #leases = new Map<string, Lease[]>();
  /** Paths of shards by authority and DistributionPointName, as latin1. */
  #shards = new Map<string, string>();
  readonly #readShards: () => Promise<Map<string, string>>;
  #opening: Promise<RecordQueries> | undefined;
  /** Opened before, and closed with the next pass: something may still read from it. */
  #stale: Promise<RecordQueries> | undefined;

  constructor(place: () => RecordPlace, wrapper: KeyWrapper) {
    this.#place = place;
    this.#wrapper = wrapper;
    const read = this.#read.bind(this);
    this.#readShards = coalesced(async () => {
      const rows = await read((reader) => reader.find('shard', {}));
      return new Map(rows.map((row) => [shardKey(row.authority, row.distributionPointName), row.path]));
    });
    const keys = {
      findDataKey: (name: string) => read((reader) => reader.get('dataKey', { name })?.wrappedKey),
      dataKey: neverWritten,
    };
    const bases = {
      encodingBase: (baseId: Bytes) => read((reader) => reader.get('encodingBase', { baseId })?.octets),
      keepEncodingBase: neverWritten,
    };
    this.#encodings = new Encodings(bases, new Sealer(keys, wrapper));
  }

  /** An authority's certificate DER, and its slot; undefined where there is none of that name. */
  authority(name: string): Promise<{ readonly certificate: Bytes; readonly slot: Slot } | undefined> {
    return this.#read((reader) => {
      const row = reader.get('authority', { authority: name });
      return row && { certificate: row.certificate, slot: row.slot as Slot };
    });
  }

  /** The position that a serial number encrypts, if the authority has leased it; undefined where it has not. */
  async leasedPosition(authority: string, serial: Bytes): Promise<CertificateId | undefined> {
    const epoch = serial[0] ?? 0;
    const position = (await this.#cipher(authority, epoch))?.decrypt(serial);
    if (position === undefined || !(await this.#isLeased(authority, epoch, position))) return undefined;
    return { authority, epoch, position };
  }

  /** What is to be signed at a position, by the record; undefined where nothing is reserved there. */
  async reserved(key: CertificateId): Promise<ReservedCertificate | undefined> {
    const { authority, epoch, position } = key;
    const id = { authority, epoch, position };
    const [row, encoding] = await Promise.all([
      this.#read((reader) => reader.part('certificate', id, ['kind'])),
      this.#read((reader) => reader.get('encoding', id)),
    ]);
    if (!row || !encoding) return undefined;
    const { dataKey, octets } = encoding;
    return {
      kind: row.kind as CertificateKind,
      toBeSigned: await this.#encodings.open(key, { key: dataKey, octets }),
    };
  }

  /** The same of the operations CA, by its serial number, hex. */
  reservedOperations(serialNumber: string): Promise<ReservedOperations | undefined> {
    return this.#read((reader) => {
      const row = reader.get('operationsCertificate', { serialNumber });
      return row && { kind: row.kind, toBeSigned: row.toBeSigned };
    });
  }

  /** The path of the shard that an authority has opened under a distribution point’s name, DER; undefined where there is none. */
  async shardPath(authority: string, name: Bytes): Promise<string | undefined> {
    const key = shardKey(authority, name);
    if (this.#shards.has(key)) return this.#shards.get(key);
    // One that was opened since; those who ask meanwhile share a reading.
    this.#shards = await this.#readShards();
    return this.#shards.get(key);
  }

  /** Whether something is on record of each of these. */
  async areOnRecord(
    subjects: readonly ({ readonly key: CertificateId } | { readonly serialNumber: string })[],
  ): Promise<boolean[]> {
    const isThere = (reader: RecordReader, subject: (typeof subjects)[number]): boolean =>
      'key' in subject
        ? reader.part('certificate', subject.key, ['kind']) !== undefined
        : reader.get('operationsCertificate', subject) !== undefined;
    return Promise.all(subjects.map((subject) => this.#read((reader) => isThere(reader, subject))));
  }

  /** Reads a file of a record from where it lies now: another may have come in its place, in whatever way. */
  async refresh(): Promise<void> {
    if (!('file' in this.#place())) return;
    const stale = this.#stale;
    this.#stale = this.#opening;
    this.#opening = undefined;
    if (stale) await closed(stale);
  }

  async close(): Promise<void> {
    for (const each of [this.#stale, this.#opening]) if (each) await closed(each);
  }

  #cipher(authority: string, epoch: number): Promise<SerialCipher | undefined> {
    const name = `${authority}:${epoch}`;
    const known = this.#ciphers.get(name);
    if (known) return known;
    const loading = this.#read((reader) => reader.get('epoch', { authority, epoch })).then(async (row) => {
      if (!row) return undefined;
      const key = await this.#wrapper.unwrap(epochContext(authority, epoch), row.wrappedKey);
      return new SerialCipher(epoch, key);
    });
    const kept = loading as Promise<SerialCipher>;
    this.#ciphers.set(name, kept);
    // One that is not there may come to be.
    void loading.then(
      (cipher) => cipher ?? this.#ciphers.delete(name),
      () => this.#ciphers.delete(name),
    );
    return loading;
  }

  async #isLeased(authority: string, epoch: number, position: number): Promise<boolean> {
    const name = `${authority}:${epoch}`;
    const known = this.#leases.get(name) ?? [];
    const holds = ({ first, end }: Lease): boolean => first <= position && position < end;
    if (known.some(holds)) return true;
    const [row] = await this.#read((reader) =>
      reader.find('lease', { authority, epoch }, { after: position + 1, descending: true, limit: 1 }),
    );
    if (!row || !holds(row)) return false;
    this.#leases.set(name, [{ first: row.first, end: row.end }, ...known].slice(0, leasesMax));
    return true;
  }

  async #read<R>(body: (reader: RecordReader) => R): Promise<R> {
    this.#opening ??= openQueries(this.#place());
    const opening = this.#opening;
    try {
      return await (await opening).read(body);
    } catch (error) {
      // It may not be there yet: it is opened again.
      if (this.#opening === opening) this.#opening = undefined;
      await closed(opening);
      if (error instanceof PkiError) throw error;
      throw new PkiError('record-unavailable', 'the signer cannot read the record', { cause: error });
    }
  }
}

const shardKey = (authority: string, name: Bytes): string => `${authority}\n${view(name).toString('latin1')}`;

/** Closes what could be opened. */
const closed = (opening: Promise<RecordQueries>): Promise<void> =>
  opening.then(
    (queries) => queries.close(),
    () => undefined,
  );
