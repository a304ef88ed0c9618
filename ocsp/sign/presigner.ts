import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { FeedBatch } from '../../core/feed/feed.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { invariant } from '../../core/runtime/errors.ts';
import type { StatusIndex } from '../index/status-index.ts';
import { certIdIssuer, encodeOcspRequest } from '../protocol/request.ts';

/** Certificates handed over at once: what clients ask meanwhile is answered between two of them. */
const batchMax = 32;

/** Gives the response to each request, DER; null where there is none that may be kept. */
export type Presign = (requests: readonly Bytes[]) => Promise<readonly (Bytes | null)[]>;

/**
 * Has answers signed before anybody asks: for the certificates issued last, and for each whose status changes. The
 * requests are those of RFC 9919 §3.1.1 without nonce, by SHA-256 and by SHA-1, so that the answers fit what clients of
 * today and of RFC 5019 send by GET.
 */
export class Presigner {
  readonly #index: StatusIndex;
  readonly #presign: Presign;
  readonly #newest: number;
  readonly #folder: string | null;
  readonly #failed: (error: Error) => void;
  readonly #issuers = new Map<string, Bytes[]>();
  /** Certificates in the window, by the path of their answers. */
  #window = new Set<string>();
  /** Files that lie there, by certificate. */
  readonly #files = new Map<string, string[]>();
  #working: Promise<void> = Promise.resolve();

  constructor(options: {
    readonly index: StatusIndex;
    readonly presign: Presign;
    /** Certificates of each epoch, from the last issued back. */
    readonly newest: number;
    /** For files that a static server gives out; null where memory is enough. */
    readonly folder: string | null;
    readonly failed: (error: Error) => void;
  }) {
    this.#index = options.index;
    this.#presign = options.presign;
    this.#newest = options.newest;
    this.#folder = options.folder;
    this.#failed = options.failed;
  }

  /** Signs for the whole window. Rejects where files cannot be written. */
  run(): Promise<void> {
    const keys = this.#index.newest(this.#newest);
    this.#window = new Set(keys.map(nameOf));
    return this.#work(keys, 'replace');
  }

  /** Has each certificate of the window that a batch changed signed again at once. */
  received({ events }: FeedBatch): void {
    const changed = events.filter(
      (event) =>
        (event.type === 'status' || event.type === 'device') &&
        (this.#window.has(nameOf(event)) || this.#files.has(nameOf(event))),
    );
    // Whose phones a restriction is about is not looked up: it is a rare event.
    const isRestriction = this.#index.takeReviewed();
    const keys = isRestriction
      ? [...new Set([...this.#window, ...this.#files.keys()])].map(keyIn)
      : (changed as CertificateId[]);
    if (keys.length > 0) this.#work(keys, 'remove first').catch(this.#failed);
  }

  /** Resolves when nothing is being signed. */
  async close(): Promise<void> {
    this.#window.clear();
    await this.#working.catch(this.#failed);
  }

  #work(keys: readonly CertificateId[], before: 'replace' | 'remove first'): Promise<void> {
    this.#working = this.#working.catch(() => undefined).then(() => this.#signAll(keys, before));
    return this.#working;
  }

  async #signAll(keys: readonly CertificateId[], before: 'replace' | 'remove first'): Promise<void> {
    // Better no answer than one that an event has overtaken, also where none can be signed now.
    if (before === 'remove first') for (const key of keys) await this.#removeFiles(nameOf(key));
    for (let at = 0; at < keys.length; at += batchMax) {
      const batch = keys.slice(at, at + batchMax);
      const requests = batch.flatMap((key) => this.#requestsFor(key).map((request) => ({ key, request })));
      const answers = await this.#presign(requests.map(({ request }) => request));
      for (const [i, { key, request }] of requests.entries()) {
        const answer = answers[i];
        if (this.#folder !== null && answer)
          this.#remember(key, await writeAnswer(this.#folder, request, answer));
      }
    }
    // What has left the window would not be signed again.
    for (const name of this.#files.keys()) if (!this.#window.has(name)) await this.#removeFiles(name);
  }

  #remember(key: CertificateId, file: string): void {
    const files = this.#files.get(nameOf(key)) ?? [];
    if (!files.includes(file)) this.#files.set(nameOf(key), [...files, file]);
  }

  async #removeFiles(name: string): Promise<void> {
    for (const file of this.#files.get(name) ?? []) await rm(file, { force: true });
    this.#files.delete(name);
  }

  #requestsFor(key: CertificateId): Bytes[] {
    const { authority } = key;
    const certificate = this.#index.reader.authorities.get(authority);
    invariant(certificate, 'an epoch’s authority is known');
    const issuers = this.#issuers.get(authority) ?? hashes.map((hash) => certIdIssuer(certificate, hash));
    this.#issuers.set(authority, issuers);
    return issuers.map((issuer) => encodeOcspRequest(issuer, this.#index.serialOf(key)));
  }
}

const hashes = ['sha256', 'sha1'] as const;

function keyIn(name: string): CertificateId {
  const [authority = '', epoch, position] = name.split(':');
  return { authority, epoch: Number(epoch), position: Number(position) };
}

const nameOf = ({ authority, epoch, position }: CertificateId): string => `${authority}:${epoch}:${position}`;

/**
 * Where a static server finds the answer to a GET (RFC 6960 appendix A.1): the base64 of the request, whose slashes are
 * folders. Servers take a percent-encoded slash for one, and two in a row for one, as a file system does; and for a path
 * that ends in one they look for an index.
 */
export function presignedPath(request: Bytes): string {
  const path = Buffer.from(request).toString('base64');
  return path.endsWith('/') ? `${path}index.html` : path;
}

async function writeAnswer(folder: string, request: Bytes, answer: Bytes): Promise<string> {
  const file = join(folder, presignedPath(request));
  await mkdir(dirname(file), { recursive: true });
  await writeFile(`${file}.new`, answer);
  await rename(`${file}.new`, file);
  return file;
}
