import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';
import { Decrypter, Encrypter } from 'age-encryption';
import { extract, type Pack, pack } from 'tar-stream';
import { syncFolder } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';

// A backup in one file: a tar archive, encrypted for keys that are kept elsewhere. `age -d -i KEY FILE | tar x` opens it as well.

/** What was written: its length, and its SHA-256, hex. */
export interface WrittenBackup {
  readonly octets: number;
  readonly sha256: string;
}

/**
 * Puts all of a folder into one encrypted file, which is durable and was read back when this resolves. What is written half has another
 * name.
 */
export async function encryptFolder(
  folder: string,
  file: string,
  recipients: readonly string[],
): Promise<WrittenBackup> {
  const encrypter = new Encrypter();
  for (const recipient of recipients) encrypter.addRecipient(recipient);
  const archive = pack();
  const packing = packFolder(archive, folder).catch((error: Error) => archive.destroy(error));
  const encrypted = await encrypter.encrypt(webOf(Readable.from(archive)));
  const unfinished = `${file}.new`;
  const counted = new Counted();
  await pipeline(
    Readable.fromWeb(encrypted as unknown as ReadableStream),
    counted,
    createWriteStream(unfinished, { mode: 0o600 }),
  );
  await packing;
  await using handle = await open(unfinished, 'r+');
  await handle.sync();
  const read = new Counted();
  await pipeline(createReadStream(unfinished), read, async (octets: AsyncIterable<unknown>) => {
    for await (const _ of octets);
  });
  if (read.sha256 !== counted.sha256) {
    await rm(unfinished);
    throw new PkiError('record-unavailable', `the disk gives back of ${file} other than what was written`);
  }
  await rename(unfinished, file);
  syncFolder(dirname(file));
  return { octets: read.octets, sha256: read.sha256 };
}

/** Decrypts a backup into a folder that is not there yet. Throws `bad-request` where it cannot be opened, or is no backup. */
export async function decryptBackup(
  file: string,
  folder: string,
  identities: readonly string[],
): Promise<void> {
  const decrypter = new Decrypter();
  mkdirSync(folder, { mode: 0o700 });
  try {
    for (const identity of identities) decrypter.addIdentity(identity);
    const opened = await decrypter.decrypt(webOf(createReadStream(file)));
    const archive = extract();
    const decrypted = Readable.fromWeb(opened as unknown as ReadableStream);
    decrypted.once('error', (error) => archive.destroy(error));
    decrypted.pipe(archive);
    for await (const entry of archive) {
      const { name, type } = entry.header;
      const path = normalize(name);
      if (path.startsWith('..') || path.startsWith('/') || (type !== 'file' && type !== 'directory'))
        throw new PkiError('bad-request', `${file} holds ${name}, which no backup does`);
      mkdirSync(type === 'directory' ? join(folder, path) : dirname(join(folder, path)), {
        recursive: true,
        mode: 0o700,
      });
      if (type === 'file')
        await pipeline(entry, createWriteStream(join(folder, path), { mode: 0o600, flags: 'wx' }));
      else entry.resume();
    }
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    if (error instanceof PkiError) throw error;
    throw new PkiError('bad-request', `${file} cannot be opened: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** The library speaks the web's streams, under the browser's name of their type. */
const webOf = (stream: Readable) =>
  Readable.toWeb(stream) as unknown as globalThis.ReadableStream<Uint8Array>;

/** Adds files and folders below one, in the order of their names. */
async function packFolder(archive: Pack, folder: string): Promise<void> {
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    const path = join(folder, name);
    const found = lstatSync(path);
    const { size, mtime } = found;
    if (found.isSymbolicLink()) throw new PkiError('bad-request', `${path} is a link, which no backup holds`);
    if (found.isDirectory()) archive.entry({ name, type: 'directory', mode: 0o700, mtime });
    else await pipeline(createReadStream(path), archive.entry({ name, size, mode: 0o600, mtime }));
  }
  archive.finalize();
}

/** Passes octets on, and counts and hashes them. */
class Counted extends Transform {
  readonly #hash = createHash('sha256');
  #sha256: string | undefined;
  octets = 0;

  override _transform(chunk: Buffer, _encoding: string, done: (error: null, chunk: Buffer) => void): void {
    this.#hash.update(chunk);
    this.octets += chunk.length;
    done(null, chunk);
  }

  get sha256(): string {
    this.#sha256 ??= this.#hash.digest('hex');
    return this.#sha256;
  }
}
