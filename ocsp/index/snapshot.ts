import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readSync, rmSync } from 'node:fs';
import { type FileHandle, open, rename } from 'node:fs/promises';
import type { JournalMark } from '../../core/feed/feed-journal.ts';
import type { RestrictedClassesState } from '../../core/feed/restricted-classes.ts';
import type { VerifierFacts } from '../../core/model/verifier.ts';
import { type Bytes, equal } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { partLength, type SegmentMemory, segmentLength } from './segment.ts';
import type { SegmentState, StatusIndex } from './status-index.ts';

// A snapshot: magic; length of the head (4 octets, big-endian); the head, JSON; each segment's codes, table and classes, in the
// order of the head; SHA-256 of all before it. Octets are little-endian, as the memory they are a copy of.
const magic = Buffer.from('WARIFU OCSP INDEX 3\n');
const hashOctets = 32;

interface Head {
  readonly mark: JournalMark;
  readonly authorities: readonly { readonly authority: string; readonly certificate: string }[];
  readonly verifiers: readonly VerifierFacts[];
  readonly segments: readonly (Omit<SegmentState, 'memory'> & {
    readonly codeOctets: number;
    readonly changeOctets: number;
    /** Parts of `SegmentMemory.classes` that there are. */
    readonly parts: readonly number[];
  })[];
  /** The numbers of classes in segments are those of this order. */
  readonly restricted: RestrictedClassesState;
}

/**
 * Writes the index to disk while it goes on changing: what a snapshot holds beyond its mark is received again from there,
 * and changes nothing then. Replaces the one before in one step.
 */
export async function writeSnapshot(file: string, index: StatusIndex, mark: JournalMark): Promise<void> {
  const segments = index.segments;
  const head: Head = {
    mark,
    authorities: [...index.reader.authorities].map(([authority, certificate]) => ({
      authority,
      certificate: Buffer.from(certificate).toString('base64'),
    })),
    verifiers: index.verifiers,
    restricted: index.restricted,
    segments: segments.map(({ memory, ...state }) => ({
      ...state,
      codeOctets: memory.codes.byteLength,
      changeOctets: memory.changes.byteLength,
      parts: memory.classes.flatMap((part, i) => (part ? [i] : [])),
    })),
  };
  const temporary = `${file}.new`;
  const handle = await open(temporary, 'w', 0o600);
  const hash = createHash('sha256');
  const write = async (octets: Bytes): Promise<void> => {
    hash.update(octets);
    await writeAll(handle, octets);
  };
  try {
    const encoded = Buffer.from(JSON.stringify(head));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(encoded.length);
    await write(Buffer.concat([magic, length, encoded]));
    for (const { memory } of segments) {
      // Codes before the table, for the writer writes the table before the code: no code points to nothing.
      await write(Uint8Array.from(new Uint8Array(memory.codes)));
      await write(Uint8Array.from(new Uint8Array(memory.changes)));
      for (const part of memory.classes) if (part) await write(Uint8Array.from(new Uint8Array(part)));
    }
    await writeAll(handle, hash.digest());
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
}

async function writeAll(handle: FileHandle, octets: Bytes): Promise<void> {
  for (let at = 0; at < octets.length; ) at += (await handle.write(octets, at)).bytesWritten;
}

/** What a snapshot says, checked against its checksum before anything of it is believed. */
export interface Snapshot {
  readonly mark: JournalMark;
  /** Fills an index that is empty. Needs the keys of its epochs, which are never on disk. */
  restore(index: StatusIndex): Promise<void>;
}

/** Reads a snapshot; undefined where there is none. Throws `bad-request` for one that is damaged. */
export function readSnapshot(file: string): Snapshot | undefined {
  if (!existsSync(file)) return undefined;
  const descriptor = openSync(file, 'r');
  try {
    return readFrom(descriptor);
  } catch (error) {
    throw new PkiError('bad-request', 'the snapshot of the index is damaged', { cause: error });
  } finally {
    closeSync(descriptor);
  }
}

function readFrom(descriptor: number): Snapshot {
  const hash = createHash('sha256');
  const read = <T extends Bytes>(octets: T, counts: 'hashed' | 'hash' = 'hashed'): T => {
    let at = 0;
    while (at < octets.length) {
      const got = readSync(descriptor, octets, at, octets.length - at, null);
      if (got === 0) throw new RangeError('it ends too early');
      at += got;
    }
    if (counts === 'hashed') hash.update(octets);
    return octets;
  };
  const start = read(Buffer.alloc(magic.length + 4));
  if (!equal(start.subarray(0, magic.length), magic)) throw new RangeError('it is of another kind');
  const head = JSON.parse(read(Buffer.alloc(start.readUInt32BE(magic.length))).toString('utf8')) as Head;
  const memories = head.segments.map(({ codeOctets, changeOctets, parts }): SegmentMemory => {
    if (codeOctets > segmentLength / 4 || changeOctets % 8 !== 0)
      throw new RangeError('a segment of another size');
    const codes = new SharedArrayBuffer(codeOctets);
    const changes = new SharedArrayBuffer(changeOctets);
    read(new Uint8Array(codes));
    read(new Uint8Array(changes));
    const classes: (SharedArrayBuffer | undefined)[] = [];
    for (const i of parts) {
      const part = new SharedArrayBuffer(partLength * 4);
      read(new Uint8Array(part));
      classes[i] = part;
    }
    return { codes, changes, classes };
  });
  if (!equal(read(Buffer.alloc(hashOctets), 'hash'), hash.digest()))
    throw new RangeError('its checksum is another');
  return {
    mark: head.mark,
    restore: async (index) => {
      for (const { authority, certificate } of head.authorities)
        await index.setAuthority(authority, certificate);
      for (const verifier of head.verifiers) await index.setVerifier(verifier);
      await index.restoreRestricted(head.restricted);
      for (const [i, { authority, epoch, number, notAfterMs }] of head.segments.entries()) {
        const memory = memories[i];
        if (memory) await index.restore({ authority, epoch, number, notAfterMs, memory });
      }
    },
  };
}

export function removeSnapshot(file: string): void {
  rmSync(file, { force: true });
}
