import type { Logger } from 'pino';
import { durationMs } from '../../core/config/duration.ts';
import { FailureLog } from '../../core/runtime/failure-log.ts';
import { workOff } from '../../core/runtime/steps.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';

/** How often it is looked up whether something has been kept long enough. */
const reviewMs = 10_000;

/** What only grows, and what removes some of it; whether there may be more. `docs/OPERATIONS.md` says how long each is kept. */
function stepsOf(
  ca: CertificateAuthority,
): readonly (readonly [failure: string, step: () => Promise<boolean>])[] {
  const { retention, accesses, clock, config } = ca;
  const before = (kept: string): number => clock.wallMs() - durationMs(kept);
  const { octetsRetention } = config.issuing;
  const own = [
    [
      'who looked holders up long ago cannot be forgotten',
      () => accesses.forget(before(config.reading.kept), clock.wallMs()),
    ],
  ] as const;
  // What is on record one node removes for all of them.
  if (!ca.nodes.does('duties')) return own;
  return [
    ...own,
    ['expired rows cannot be removed', () => retention.purgeExpired()],
    ['old messages cannot be removed', () => retention.purgeMessages(before(config.notices.retention))],
    ...(octetsRetention === undefined
      ? []
      : ([
          [
            'octets of certificates that ended long ago cannot be removed',
            () => retention.purgeOctets(before(octetsRetention)),
          ],
        ] as const)),
  ];
}

/** Removes what has been kept long enough until nothing is left of it, however much has come; most of the time is left to others. */
export class Retention {
  readonly #ca: CertificateAuthority;
  readonly #logger: Logger;
  readonly #logs = new Map<string, FailureLog>();
  readonly #stopping = new AbortController();
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> | undefined;

  constructor(ca: CertificateAuthority, logger: Logger) {
    this.#ca = ca;
    this.#logger = logger;
    this.#timer = setInterval(() => {
      this.#running ??= this.#run().finally(() => {
        this.#running = undefined;
      });
    }, reviewMs).unref();
  }

  #logOf(failure: string): FailureLog {
    const log = this.#logs.get(failure) ?? new FailureLog(this.#logger, failure);
    this.#logs.set(failure, log);
    return log;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    clearInterval(this.#timer);
    await this.#running;
  }

  /** Side by side, so that much of one keeps no other waiting. */
  async #run(): Promise<void> {
    const { clock } = this.#ca;
    const { signal } = this.#stopping;
    // What is removed does not come back: not by a clock that may be ahead.
    if (clock.whyUnreliable?.() !== undefined) return;
    await Promise.all(
      stepsOf(this.#ca).map(([failure, step]) =>
        this.#logOf(failure).watch(() => workOff(step, { clock, signal })),
      ),
    );
  }
}
