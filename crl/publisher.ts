import { mkdirSync, readFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { subjectPublicKeyBits, verifySignature } from '../core/algorithms.ts';
import type { Bytes } from '../core/bytes.ts';
import { parseCertificate } from '../core/certificate-reader.ts';
import type { Clock } from '../core/clock.ts';
import { DerError } from '../core/der-reader.ts';
import { unsignedInteger } from '../core/der-writer.ts';
import { PkiError } from '../core/errors.ts';
import { keyIdentifier } from '../core/extension.ts';
import type { StatusFeed } from '../core/feed.ts';
import { sealSigned } from '../core/signed-data.ts';
import type { Signer } from '../core/signer.ts';
import { encodeTbsCertList } from './encode.ts';
import { type ParsedCrl, parseCrl } from './reader.ts';
import { type ShardDefinition, ShardIndex, type ShardState } from './shards.ts';

/** How long after a failure a CRL is tried again. */
const retryMs = 1000;

/** Keeps one file for each shard: the newest CRL, complete, verified, replaced as a whole. */
export class CrlPublisher {
  readonly index: ShardIndex;
  readonly #folder: string;
  readonly #signers: ReadonlyMap<string, Signer<'crl'>>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #validityMs: number;
  readonly #refreshMs: number;
  readonly #published = new Map<string, ParsedCrl>();
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<void> | undefined;
  #stopped = false;

  constructor(options: {
    feed: Pick<StatusFeed, 'epochKey'>;
    folder: string;
    signers: ReadonlyMap<string, Signer<'crl'>>;
    clock: Clock;
    logger: Logger;
    validityMs: number;
    refreshMs: number;
  }) {
    this.index = new ShardIndex(options.feed, () => this.#wake());
    this.#folder = options.folder;
    this.#signers = options.signers;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#validityMs = options.validityMs;
    this.#refreshMs = options.refreshMs;
  }

  /** Issues what is due: shards that changed, and those whose CRL is older than its refresh age. */
  async publishDue(): Promise<void> {
    if (this.index.watermarkMs === 0) return;
    const nowMs = this.#clock.wallMs();
    for (const [name, { definition }] of this.index.shards) {
      if (!definition) continue;
      const crl = this.#published.get(name) ?? this.#read(name, definition);
      if (!crl || nowMs - crl.thisUpdateMs >= this.#refreshMs) this.index.dirty.add(name);
    }
    this.#wake();
    await this.#working;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#working;
  }

  /** One run at a time takes up everything that is dirty by then. */
  #wake(): void {
    if (this.#stopped || this.#working) return;
    this.#working = this.#publishDirty().finally(() => {
      this.#working = undefined;
    });
  }

  async #publishDirty(): Promise<void> {
    // Whatever one commit touched has been marked by the next turn of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.index.dirty.size > 0 && !this.#stopped) {
      const names = [...this.index.dirty];
      this.index.dirty.clear();
      const failed: string[] = [];
      for (const name of names) {
        try {
          await this.#publish(name);
        } catch (error) {
          this.#logger.error({ shard: name, reason: (error as Error).message }, 'CRL not published');
          failed.push(name);
        }
      }
      if (failed.length > 0) {
        for (const name of failed) this.index.dirty.add(name);
        this.#timer = setTimeout(() => this.#wake(), retryMs).unref();
        return;
      }
    }
  }

  async #publish(name: string): Promise<void> {
    const shard = this.index.shards.get(name);
    const definition = shard?.definition;
    const certificate = definition && this.index.authorities.get(definition.authority);
    const signer = definition && this.#signers.get(definition.authority);
    // Its definition or its issuer is still to come; either makes it dirty again.
    if (!shard || !definition || !certificate) return;
    if (!signer) throw new PkiError('not-found', `no key to sign ${name} with`);
    const before = this.#published.get(name) ?? this.#read(name, definition);
    const tbs = this.#encode(shard, definition, certificate, signer, before);
    const der = sealSigned(tbs, signer.suite, await signer.sign(tbs));
    const crl = parseCrl(der);
    if (!verifySignature(signer.suite, signer.publicKey, crl.toBeSigned, crl.signature)) {
      throw new PkiError('token-unavailable', 'the token returned a signature that does not verify');
    }
    if (before && crl.number <= before.number) throw new Error('a CRL number that does not rise');
    await replaceFile(join(this.#folder, definition.path), der);
    this.#published.set(name, crl);
  }

  #encode(
    shard: ShardState,
    definition: ShardDefinition,
    certificate: Bytes,
    signer: Signer<'crl'>,
    before: ParsedCrl | undefined,
  ): Bytes {
    const { subject, serial } = parseCertificate(certificate);
    // The feed's time, not the clock's: what the list is known to be right for.
    const thisUpdateMs = Math.min(this.index.watermarkMs, this.#clock.wallMs());
    return encodeTbsCertList({
      suite: signer.suite,
      issuer: subject,
      reference: {
        subject,
        serialNumber: unsignedInteger(serial),
        subjectKeyIdentifier: keyIdentifier(subjectPublicKeyBits(signer.publicKey)),
      },
      thisUpdateMs,
      nextUpdateMs: thisUpdateMs + this.#validityMs,
      // Rises whatever happens to clocks and files.
      number: Math.max((before?.number ?? 0) + 1, this.#clock.wallMs()),
      distributionPointName: definition.distributionPointName,
      scope: shard.shard.startsWith('authority/') ? 'onlyContainsCACerts' : 'onlyContainsUserCerts',
      entries: [...shard.entries.values()],
    });
  }

  /** The CRL an earlier run left; its number is not to be used again. One that is damaged is as good as none. */
  #read(name: string, { path }: ShardDefinition): ParsedCrl | undefined {
    try {
      const crl = parseCrl(readFileSync(join(this.#folder, path)));
      this.#published.set(name, crl);
      return crl;
    } catch (error) {
      if (error instanceof DerError)
        this.#logger.error({ shard: name, reason: error.message }, 'a published CRL is damaged');
      else if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      return undefined;
    }
  }
}

/** Readers see the old file or the new one; after a loss of power too. */
async function replaceFile(path: string, octets: Bytes): Promise<void> {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.new`;
  const file = await open(temporary, 'w', 0o644);
  try {
    await file.writeFile(octets);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
