import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Static } from 'typebox';
import { subjectPublicKeyBits } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { keyIdentifier } from '../../core/asn1/extension.ts';
import { durationMs } from '../../core/config/duration.ts';
import type { DigestSigner } from '../../core/crypto/signer.ts';
import type { RevokedRun } from '../../core/filter/build.ts';
import { buildFilter } from '../../core/filter/build-filter.ts';
import { encodeDelta } from '../../core/filter/delta.ts';
import { decodeFilter, encodeSigned, type FilterHead } from '../../core/filter/filter.ts';
import { type Slot, slotOfAuthority, slots } from '../../core/model/kinds.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { replaceDurablyMeanwhile } from '../../core/runtime/durable-file.ts';
import type { LocalOcspService } from '../../ocsp/node/service.ts';
import type { Filters } from '../config/filters.ts';

// Publishes a revocation filter of each CA, and between two what has changed since.

export interface FilterOptions {
  readonly index: LocalOcspService['index'];
  readonly signer: DigestSigner<'message'>;
  /** The published folder. */
  readonly folder: string;
  readonly config: Static<typeof Filters>;
  /** How far notBefore lies before a certificate is made, milliseconds. */
  readonly backdateMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The last base of a kind, as deltas go on from it. */
interface Base {
  readonly head: FilterHead;
  readonly octets: number;
  /** What was revoked or held, by epoch and first position. */
  readonly runs: ReadonlyMap<string, Uint8Array>;
}

/** Below the listening threads: no one waits for a filter. */
const niceness = 10;
/** A delta of more than this share of its base is no gain. */
const deltaShareMax = 0.25;
/** How far behind the clock of a node that issues may be. */
const clockLagMs = 5 * 60_000;
const mode = 0o644;

const fileOf = (kind: Slot, type: FilterHead['type']): string =>
  `filter/${kind}${type === 'delta' ? '-delta' : ''}.filter`;
const runName = ({ authority, epoch, first }: RevokedRun): string => `${authority}:${epoch}:${first}`;

export class FilterPublisher {
  readonly #options: FilterOptions;
  readonly #bases = new Map<Slot, Base>();
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(options: FilterOptions) {
    this.#options = options;
    mkdirSync(join(options.folder, 'filter'), { recursive: true });
  }

  /** Issues what is due of each kind, one after the other. */
  run(): Promise<void> {
    this.#running = this.#running.catch(() => undefined).then(() => this.#runAll());
    return this.#running;
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running.catch(() => undefined);
  }

  async #runAll(): Promise<void> {
    for (const kind of slots) if (!this.#stop.signal.aborted) await this.#issue(kind);
  }

  async #issue(kind: Slot): Promise<void> {
    const { index, clock, config } = this.#options;
    // Before anything is read: all of it is known to be right then.
    const knownMs = Math.min(index.reader.watermarkMs, clock.wallMs());
    if (knownMs === 0) return;
    const runs: RevokedRun[] = [];
    for await (const run of index.revokedRuns((name) => slotOfAuthority(name) === kind)) runs.push(run);
    const base = this.#bases.get(kind);
    const isDue = !base || knownMs - Date.parse(base.head.knownAt) >= durationMs(config.baseEvery);
    const delta = isDue ? undefined : this.#deltaOf(base, runs);
    if (base && delta) await this.#write(this.#headOf(kind, knownMs, { base }), delta);
    else await this.#issueBase(kind, knownMs, runs);
  }

  async #issueBase(kind: Slot, knownMs: number, runs: readonly RevokedRun[]): Promise<void> {
    const { threads } = this.#options.config;
    const { signal } = this.#stop;
    const { body, ...tables } = await buildFilter(runs, { threads, niceness, signal });
    const head = this.#headOf(kind, knownMs, tables);
    await this.#write(head, body);
    const known = new Map(runs.map((run) => [runName(run), run.revoked]));
    this.#bases.set(kind, { head, octets: body.length, runs: known });
    // The deltas of the one before say nothing of this one.
    await this.#write(
      this.#headOf(kind, knownMs, { base: { head } }),
      encodeDelta({ revoked: [], released: [] }),
    );
  }

  /** What has changed since a base; undefined where that is too much, or another one is needed. */
  #deltaOf({ runs: known, octets }: Base, runs: readonly RevokedRun[]): Buffer | undefined {
    const revoked: Uint8Array[] = [];
    const released: Uint8Array[] = [];
    for (const run of runs) {
      // Of a segment that the base has not: none of its certificates is covered.
      const before = known.get(runName(run));
      if (!before) continue;
      for (const [octet, now] of run.revoked.entries()) {
        const was = before[octet] ?? 0;
        for (let changed = was ^ now; changed !== 0; changed &= changed - 1) {
          const bit = 31 - Math.clz32(changed & -changed);
          const { authority, epoch, first } = run;
          const serial = this.#options.index.serialOf({
            authority,
            epoch,
            position: first + octet * 8 + bit,
          });
          ((now >>> bit) & 1 ? revoked : released).push(serial);
        }
      }
    }
    const delta = encodeDelta({ revoked, released });
    return delta.length > 4096 && delta.length > octets * deltaShareMax ? undefined : delta;
  }

  #headOf(
    kind: Slot,
    knownMs: number,
    of:
      | { readonly base: { readonly head: FilterHead } }
      | { readonly columns: number; readonly shards: number },
  ): FilterHead {
    const { index, config, backdateMs } = this.#options;
    const authorities = [...index.reader.authorities]
      .filter(([name]) => slotOfAuthority(name) === kind)
      .map(([, certificate]) =>
        hex(keyIdentifier(subjectPublicKeyBits(parseCertificate(certificate).publicKey))),
      );
    const base = 'base' in of ? of.base.head : null;
    const own = 'base' in of ? { columns: 0, shards: 0 } : of;
    const at = (ms: number): string => new Date(ms).toISOString();
    return {
      ...{
        type: base ? 'delta' : 'base',
        kind,
        sequence: this.#sequenceOf(kind, knownMs),
        knownAt: at(knownMs),
      },
      // A delta speaks of no certificate that its base does not, and a base of none that may have been issued after it: notBefore is
      // backdated, and a whole second.
      covers: base?.covers ?? at(knownMs - backdateMs - 1000 - clockLagMs),
      believeUntil: at(knownMs + durationMs(config.believeFor)),
      ...{ authorities: base?.authorities ?? authorities, base: base?.sequence ?? null },
      ...{ columns: own.columns, shards: own.shards },
    };
  }

  /** Higher than that of any file that is published: seconds, so that it is also where those files are lost. */
  #sequenceOf(kind: Slot, knownMs: number): number {
    const known = (['base', 'delta'] as const).map((type) => {
      const file = join(this.#options.folder, fileOf(kind, type));
      return existsSync(file) ? decodeFilter(readFileSync(file)).head.sequence : 0;
    });
    return Math.max(Math.floor(knownMs / 1000), ...known.map((sequence) => sequence + 1));
  }

  async #write(head: FilterHead, body: Buffer): Promise<void> {
    const { folder, signer, logger } = this.#options;
    const signed = encodeSigned(head, body);
    const signature = await signer.signDigest(digest('sha256', signed));
    const file = join(folder, fileOf(head.kind, head.type));
    await replaceDurablyMeanwhile(file, Buffer.concat([signed, signature]), mode);
    const { kind, type, sequence } = head;
    logger.info({ kind, type, sequence, octets: signed.length }, 'a revocation filter was issued');
  }
}
