import { existsSync, readFileSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '../../core/runtime/clock.ts';
import { replaceDurablyMeanwhile } from '../../core/runtime/durable-file.ts';
import { PkiError } from '../../core/runtime/errors.ts';

// Publishers that share a folder use SQLite locks, which hold within one kernel only. On a network file system two hosts
// could open the same folder; a claim file in it lets the second host refuse to start. Liveness of a claim is measured with
// the local monotonic clock, because clocks of two hosts may differ.

/** Identifies one boot of one host. */
export interface Kernel {
  readonly kernel: string;
  /** Host name, for error messages. */
  readonly host: string;
}

/** Interval between renewals of the claim. */
export const claimEveryMs = 5000;
/** A claim that does not change for this long is abandoned. */
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
   * Claims the folder. Observes a claim of another host for `staleMs` and throws `in-use` if it is renewed meanwhile. Replaces
   * a claim of this host from an earlier boot immediately.
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
    await this.#write();
  }

  /** Renews the claim. Throws `in-use` if another host holds it. */
  async renew(): Promise<void> {
    const claim = this.#read();
    if (claim && this.#isForeign(claim)) this.#refuse(claim);
    await this.#write();
  }

  /** Removes the claim. Other publishers on this host restore it with their next renewal. */
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

  async #write(): Promise<void> {
    this.#renewals += 1;
    const claim = { ...this.#kernel, atMs: this.#clock.wallMs(), renewals: this.#renewals };
    await replaceDurablyMeanwhile(this.#file, JSON.stringify(claim));
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
