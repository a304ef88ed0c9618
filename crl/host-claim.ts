import { existsSync, readFileSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../core/clock.ts';
import { replaceDurably } from '../core/durable-file.ts';
import { PkiError } from '../core/errors.ts';

// Publishers that share a folder share the state in it, whose locks the kernel keeps: all of them run on one host. A folder
// on a network file system could be opened on two; the claim that lies in it is refused to the second.

interface Claim {
  /** Of one start of one kernel. */
  readonly kernel: string;
  /** For a person to read. */
  readonly host: string;
  readonly atMs: number;
}

/** How often a claim is made anew. */
export const claimEveryMs = 5000;
/** One that is older than that was left behind. */
const staleMs = 30_000;

export interface Kernel {
  readonly kernel: string;
  readonly host: string;
}

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

  constructor(options: { readonly folder: string; readonly kernel?: Kernel; readonly clock: Clock }) {
    this.#file = join(options.folder, '.host.json');
    this.#kernel = options.kernel ?? thisKernel();
    this.#clock = options.clock;
  }

  /** Claims the folder, or goes on doing so. Throws `in-use` where another host has. */
  renew(): void {
    const nowMs = this.#clock.wallMs();
    const claim = this.#read();
    const isFresh = claim !== undefined && Math.abs(nowMs - claim.atMs) < staleMs;
    if (isFresh && claim.kernel !== this.#kernel.kernel) {
      const what = `the host ${claim.host} publishes there, and publishers on one folder must be on one host`;
      throw new PkiError('in-use', `${this.#file}: ${what}`);
    }
    replaceDurably(this.#file, JSON.stringify({ ...this.#kernel, atMs: nowMs } satisfies Claim));
  }

  /** Lets another host have the folder at once. Other publishers of this host claim it anew. */
  release(): void {
    if (this.#read()?.kernel === this.#kernel.kernel) rmSync(this.#file, { force: true });
  }

  #read(): Claim | undefined {
    if (!existsSync(this.#file)) return undefined;
    const text = readFileSync(this.#file, 'utf8');
    try {
      return JSON.parse(text) as Claim;
    } catch (error) {
      throw new PkiError('record-unavailable', `${this.#file} is not JSON; remove it`, { cause: error });
    }
  }
}
