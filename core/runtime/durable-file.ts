import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Replaces a file in one step. Once this returns the new content survives a loss of power; before, the old one does. Who
 * reads meanwhile sees one or the other. Throws what the file system throws, and leaves the old one.
 */
export function replaceDurably(file: string, content: string | Uint8Array, mode = 0o600): void {
  const successor = `${file}.new-${process.pid}`;
  const descriptor = openSync(successor, 'w', mode);
  try {
    try {
      writeAll(descriptor, Buffer.from(content as string));
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(successor, file);
  } catch (error) {
    rmSync(successor, { force: true });
    throw error;
  }
  syncFolder(dirname(file));
}

/** The same for a service: its thread goes on while the disk writes. One at a time for each file. */
export async function replaceDurablyMeanwhile(
  file: string,
  content: string | Uint8Array,
  mode = 0o600,
): Promise<void> {
  const successor = `${file}.new-${process.pid}`;
  try {
    await using written = await open(successor, 'w', mode);
    await written.writeFile(content);
    await written.sync();
    await rename(successor, file);
  } catch (error) {
    await rm(successor, { force: true });
    throw error;
  }
  await using folder = await open(dirname(file), 'r');
  await folder.sync();
}

/** Creates a file that must not exist yet: throws EEXIST otherwise. Durable once this returns. */
export function createDurably(file: string, content: string | Uint8Array, mode = 0o600): void {
  const descriptor = openSync(file, 'wx', mode);
  try {
    writeAll(descriptor, Buffer.from(content as string));
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  syncFolder(dirname(file));
}

function writeAll(descriptor: number, octets: Buffer): void {
  for (let at = 0; at < octets.length; ) at += writeSync(descriptor, octets, at);
}

/** A name is durable once its folder is. */
export function syncFolder(folder: string): void {
  const descriptor = openSync(folder, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
