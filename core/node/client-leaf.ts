import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign,
  X509Certificate,
} from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { suites } from '../asn1/algorithms.ts';
import { isDue } from '../asn1/certificate-reader.ts';
import { certificationRequest } from '../asn1/signed-data.ts';
import type { Bytes } from '../runtime/bytes.ts';
import type { Clock } from '../runtime/clock.ts';
import { replaceDurably, syncFolder } from '../runtime/durable-file.ts';
import { PkiError } from '../runtime/errors.ts';
import { readSecret } from '../runtime/secret-file.ts';
import { type Ending, endingOfFile } from './warnings.ts';

/** A TLS client's key and certificate, PEM. */
export interface TlsPair {
  readonly key: string;
  readonly cert: string;
}

/** Has a PKCS#10 request certified under the present certificate; a repetition with the same key gets the first answer. PEM. */
export type CertifyClient = (request: Bytes, idempotencyKey: string) => Promise<string>;

/**
 * A node's TLS client certificate, which it renews by itself.
 *
 * Invariants: the files that the configuration names always hold a key and its certificate, but for the instant between two
 * renames, which the next opening makes good. The next key is on disk before it is certified, and is asked for under one
 * Idempotency-Key, so that a process that dies at any point gets the same certificate by asking again while its old one lasts.
 * Not handled: a node that dies after it was certified, and stays away until the old certificate has ended. An administrator
 * binds a new one then.
 */
export class ClientLeaf {
  readonly #files: { readonly key: string; readonly cert: string };
  readonly #clock: Clock;

  constructor(files: { readonly key: string; readonly cert: string }, clock: Clock) {
    this.#files = files;
    this.#clock = clock;
    this.#settle();
  }

  /** Throws what the file system does, and `bad-request` where key and certificate do not belong together. */
  get pair(): TlsPair {
    const { key: keyFile, cert: certFile } = this.#files;
    const [key, cert] = [readSecret(keyFile), readFileSync(certFile, 'utf8')];
    if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)))
      throw new PkiError('bad-request', `${keyFile} is not the key of ${certFile}`);
    return { key, cert };
  }

  /** The end of the present certificate. */
  get ending(): Ending {
    return endingOfFile(this.#files.cert);
  }

  /** Renews a certificate that is in its last third; the new pair, or undefined where there was nothing to do. */
  async renew(certify: CertifyClient): Promise<TlsPair | undefined> {
    if (!isDue(new X509Certificate(this.pair.cert).raw, this.#clock.wallMs())) return undefined;
    const next = nextOf(this.#files);
    const { privateKey, request, idempotencyKey } = await pendingRequest(next);
    const cert = await certify(request, idempotencyKey);
    if (!new X509Certificate(cert).checkPrivateKey(privateKey))
      throw new PkiError('invalid-key', 'the CA certified another key than it was asked for');
    replaceDurably(next.cert, cert, 0o644);
    this.#settle();
    return this.pair;
  }

  /** Puts a certified successor in its place, key first: the certificate that is left says that there is something to do. */
  #settle(): void {
    const next = nextOf(this.#files);
    if (!existsSync(next.cert)) return;
    if (existsSync(next.key)) renameSync(next.key, this.#files.key);
    syncFolder(dirname(this.#files.key));
    rmSync(next.request, { force: true });
    renameSync(next.cert, this.#files.cert);
    syncFolder(dirname(this.#files.cert));
  }
}

interface NextFiles {
  readonly key: string;
  readonly request: string;
  readonly cert: string;
}

const nextOf = ({ key, cert }: { readonly key: string; readonly cert: string }): NextFiles => ({
  key: `${key}.next`,
  request: `${cert}.request`,
  cert: `${cert}.next`,
});

/** The next key and the request for it, made once: a signature on a request differs each time, and a repetition must not. */
async function pendingRequest(next: NextFiles) {
  if (!existsSync(next.key)) {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    replaceDurably(next.key, privateKey.export({ format: 'pem', type: 'pkcs8' }));
    rmSync(next.request, { force: true });
  }
  const privateKey = createPrivateKey(readSecret(next.key));
  const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  if (!existsSync(next.request)) {
    const own = { publicKey, suite: suites['p256-sha256'] };
    replaceDurably(next.request, await certificationRequest(own, (info) => sign('sha256', info, privateKey)));
  }
  const idempotencyKey = createHash('sha256').update(publicKey).digest('hex');
  return { privateKey, request: readFileSync(next.request), idempotencyKey };
}
