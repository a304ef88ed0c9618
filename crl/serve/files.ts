import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzip, zstdCompress } from 'node:zlib';
import { parseCrl } from '../../core/asn1/crl-reader.ts';
import { DerError } from '../../core/asn1/der-reader.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { invariant, PkiError } from '../../core/runtime/errors.ts';
import { isCrlPath } from '../encode/names.ts';

/** Codings in which a file is given, the one that is preferred first (RFC 9110 §8.4.1, RFC 8878). */
export const codings = ['zstd', 'gzip', 'identity'] as const;
export type Coding = (typeof codings)[number];

/** A published file in one coding. */
export interface FileForm {
  readonly file: PublishedFile;
  readonly coding: Coding;
  readonly body: Buffer;
  /** Quoted. */
  readonly entityTag: string;
  /** Whole answers of one second, in the parts that are written; made when the first is wanted. */
  memo: { readonly second: number; readonly parts: readonly Buffer[] } | undefined;
}

export interface PublishedFile {
  readonly path: string;
  readonly type: string;
  /** Of one version of a file there is one time, which rises by a second at least with each. */
  readonly lastModifiedMs: number;
  /** Until when it may be kept: nextUpdate of a CRL; null for what is none. */
  readonly freshUntilMs: number | null;
  /** For how long it may be kept at most; zero if it must be revalidated each time. */
  readonly ageMsMax: number;
  readonly forms: Map<Coding, FileForm>;
}

interface Kept {
  readonly file: PublishedFile;
  readonly version: string;
  /** Of all its forms. */
  octets: number;
  checkedMs: number;
  isUsed: boolean;
}

/** How long what is on disk is not looked at again. */
const recheckMs = 50;
/** CA certificates last for years; caches revalidate them daily. */
const certificateAgeMs = 86_400_000;
/** Bodies up to that size are written in one piece with their head. */
export const onePieceMax = 65_536;
/** Files that are read at the same time; requests beyond get 503. */
const loadingMax = 64;
/** Below it compressing saves no packet. */
const compressedFrom = 1400;
/** Files that are compressed at once; beyond it they are given as they are. */
const compressingMax = 4;
const compress = { zstd: promisify(zstdCompress), gzip: promisify(gzip) } as const;

/** The files of the published folder, as many in memory as fit, each as it is on disk now. */
export class PublishedFiles {
  readonly #folder: string;
  readonly #octetsMax: number;
  readonly #clock: Clock;
  readonly #failed: (error: unknown) => void;
  readonly #kept = new Map<string, Kept>();
  readonly #loading = new Map<string, Promise<PublishedFile | undefined>>();
  readonly #compressing = new Map<string, Promise<FileForm>>();
  #octets = 0;

  constructor(options: {
    readonly folder: string;
    readonly octetsMax: number;
    readonly clock: Clock;
    /** Called with what the file system refuses. */
    readonly failed: (error: unknown) => void;
  }) {
    this.#failed = options.failed;
    this.#folder = options.folder;
    this.#octetsMax = options.octetsMax;
    this.#clock = options.clock;
  }

  /** A file that is in memory and is still what is on disk; undefined where it has to be loaded. */
  inMemory(path: string): PublishedFile | undefined {
    const kept = this.#kept.get(path);
    if (!kept) return undefined;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - kept.checkedMs > recheckMs) {
      if (this.#versionOnDisk(path) !== kept.version) return undefined;
      kept.checkedMs = nowMs;
    }
    kept.isUsed = true;
    return kept.file;
  }

  /** A file; undefined where there is none. */
  async load(path: string): Promise<PublishedFile | undefined> {
    const known = this.inMemory(path);
    if (known) return known;
    const running = this.#loading.get(path);
    if (!running && this.#loading.size >= loadingMax)
      throw new PkiError('overloaded', 'too many files are being read');
    const loading = running ?? this.#load(path);
    this.#loading.set(path, loading);
    try {
      return await loading;
    } finally {
      this.#loading.delete(path);
    }
  }

  /** A file in the first of those codings that can be had. */
  async form(file: PublishedFile, wanted: Coding): Promise<FileForm> {
    const plain = formOf(file, 'identity');
    if (wanted === 'identity' || plain.body.length < compressedFrom) return plain;
    const name = `${wanted} ${plain.entityTag}`;
    const known = file.forms.get(wanted) ?? this.#compressing.get(name);
    if (known) return known;
    if (this.#compressing.size >= compressingMax) return plain;
    const compressing = this.#compress(file, wanted);
    this.#compressing.set(name, compressing);
    try {
      return await compressing;
    } finally {
      this.#compressing.delete(name);
    }
  }

  /** Names a version of a file: another inode for each, for files are only ever replaced. */
  #versionOnDisk(path: string): string | undefined {
    try {
      const stat = statSync(join(this.#folder, path), { throwIfNoEntry: false });
      return stat?.isFile() ? `${stat.ino} ${stat.mtimeMs} ${stat.size}` : undefined;
    } catch (error) {
      this.#failed(error);
      return undefined;
    }
  }

  async #load(path: string): Promise<PublishedFile | undefined> {
    const version = this.#versionOnDisk(path);
    if (version === undefined) return undefined;
    const body = await readFile(join(this.#folder, path));
    const lastModifiedMs = Math.floor(Number(version.split(' ')[1]) / 1000) * 1000;
    const file = this.#fileOf(path, body, lastModifiedMs);
    this.#keep(file, version);
    return file;
  }

  #fileOf(path: string, body: Buffer, lastModifiedMs: number): PublishedFile {
    const entityTag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
    const file: PublishedFile = {
      path,
      type: typeOf(path),
      lastModifiedMs,
      freshUntilMs: nextUpdateOf(path, body),
      ageMsMax: path.endsWith('.cer') ? certificateAgeMs : isCrlPath(path) ? Number.POSITIVE_INFINITY : 0,
      forms: new Map(),
    };
    file.forms.set('identity', { file, coding: 'identity', body, entityTag, memo: undefined });
    return file;
  }

  async #compress(file: PublishedFile, coding: 'zstd' | 'gzip'): Promise<FileForm> {
    const plain = formOf(file, 'identity');
    const body = await compress[coding](plain.body);
    const form = {
      file,
      coding,
      body,
      entityTag: plain.entityTag.replace(/"$/, `-${coding}"`),
      memo: undefined,
    };
    const kept = this.#kept.get(file.path);
    if (kept?.file === file) {
      file.forms.set(coding, form);
      kept.octets += body.length;
      this.#octets += body.length;
      this.#evict();
    }
    return form;
  }

  #keep(file: PublishedFile, version: string): void {
    this.#forget(file.path);
    // Small ones are kept a second time, in one piece with their head.
    const { length } = formOf(file, 'identity').body;
    const octets = length <= onePieceMax ? length * 2 : length;
    this.#kept.set(file.path, { file, version, octets, checkedMs: this.#clock.monotonicMs(), isUsed: false });
    this.#octets += octets;
    this.#evict();
  }

  #forget(path: string): void {
    this.#octets -= this.#kept.get(path)?.octets ?? 0;
    this.#kept.delete(path);
  }

  /** Files that were not requested since the last look are evicted first. */
  #evict(): void {
    for (const [path, kept] of this.#kept) {
      if (this.#octets <= this.#octetsMax) return;
      if (kept.isUsed) {
        kept.isUsed = false;
        this.#kept.delete(path);
        this.#kept.set(path, kept);
      } else this.#forget(path);
    }
  }
}

/** A file as it is on disk is always there. */
function formOf(file: PublishedFile, coding: Coding): FileForm {
  const form = file.forms.get(coding);
  invariant(form, `${file.path} has the form ${coding}`);
  return form;
}

function nextUpdateOf(path: string, body: Buffer): number | null {
  if (!isCrlPath(path)) return null;
  try {
    return parseCrl(body).nextUpdateMs;
  } catch (error) {
    // The file is not one of ours: it is given without a cache lifetime.
    if (!(error instanceof DerError)) throw error;
    return 0;
  }
}

function typeOf(path: string): string {
  if (path.endsWith('.crl')) return 'application/pkix-crl';
  if (path.endsWith('.html')) return 'text/html; charset=utf-8';
  if (path.endsWith('.filter')) return 'application/octet-stream';
  return path.endsWith('.cer') ? 'application/pkix-cert' : 'application/json';
}
