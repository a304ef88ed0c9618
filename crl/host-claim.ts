import { existsSync, readFileSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { replaceDurably } from '../core/durable-file.ts';
import { PkiError } from '../core/errors.ts';

// Publishers that share a folder share the state in it, whose locks one kernel keeps: all of them run on one host. A folder
// on a network file system could be opened on two; the claim that lies in it is refused to the second. Whether a claim is
// kept up is watched by one's own clock: those of two hosts may differ.

/** Which start of which host's kernel. */
export interface Kernel {
  readonly kernel: string;
  /** For a person to read. */
  readonly host: string;
}

/** How often a claim is made anew. */
export const claimEveryMs = 5000;
/** One that does not change for so long was left behind. */
const staleMs = 30_000;
const lookEveryMs = 500;

export function thisKernel(): Kernel {
  const file = '/proc/sys/kernel/random/boot_id';
  const host = hostname();
  return { kernel: existsSync(file) ? readFileSync(file, 'utf8').trim() : host, host };
}

/** The claim of this host on a published folder. */
export class HostClaim {
  readonly #file: string;
  readonly #kernel: Kernel;
  readonly #clock: Clock;
  readonly #wait: (ms: number) => Promise<void>;
  #renewals = 0;

  constructor(options: {
    readonly folder: string;
    readonly clock: Clock;
    readonly kernel?: Kernel;
    readonly wait?: (ms: number) => Promise<void>;
  }) {
    this.#file = join(options.folder, '.host.json');
    this.#kernel = options.kernel ?? thisKernel();
    this.#clock = options.clock;
    this.#wait = options.wait ?? ((ms) => new Promise((done) => setTimeout(done, ms)));
  }

  /**
   * Claims the folder. Another host's claim is watched for half a minute: `in-use` where it is kept up. One of this host from
   * before it was started anew is taken over at once.
   */
  async take(): Promise<void> {
    const first = this.#read();
    const sinceMs = this.#clock.monotonicMs();
    while (first && this.#isForeign(first) && first.host !== this.#kernel.host) {
      const now = this.#read();
      if (now?.text !== first.text) {
        if (now && this.#isForeign(now)) this.#refuse(now);
        break;
      }
      if (this.#clock.monotonicMs() - sinceMs >= staleMs) break;
      await this.#wait(lookEveryMs);
    }
    this.#write();
  }

  /** Keeps the claim up. Throws `in-use` where another host has taken it. */
  renew(): void {
    const claim = this.#read();
    if (claim && this.#isForeign(claim)) this.#refuse(claim);
    this.#write();
  }

  /** Lets another host have the folder at once. Other publishers of this host claim it anew. */
  release(): void {
    const claim = this.#read();
    if (claim && !this.#isForeign(claim)) rmSync(this.#file, { force: true });
  }

  #isForeign({ kernel }: Kernel): boolean {
    return kernel !== this.#kernel.kernel;
  }

  #refuse({ host }: Kernel): never {
    const what = `the host ${host} publishes there, and publishers on one folder must be on one host`;
    throw new PkiError('in-use', `${this.#file}: ${what}`);
  }

  #write(): void {
    this.#renewals += 1;
    const claim = { ...this.#kernel, atMs: this.#clock.wallMs(), renewals: this.#renewals };
    replaceDurably(this.#file, JSON.stringify(claim));
  }

  #read(): (Kernel & { readonly text: string }) | undefined {
    if (!existsSync(this.#file)) return undefined;
    const text = readFileSync(this.#file, 'utf8');
    const [, kernel] = /"kernel":"([^"]{1,200})"/.exec(text) ?? [];
    const [, host] = /"host":"([^"]{1,300})"/.exec(text) ?? [];
    if (kernel === undefined || host === undefined)
      throw new PkiError('record-unavailable', `${this.#file} is no claim of a host; remove it`);
    return { kernel, host, text };
  }
}
