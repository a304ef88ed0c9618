import type { Logger } from 'pino';
import { FailureLog } from '../../core/runtime/failure-log.ts';
import type { Reservation } from '../../store/api/certificate-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { rollForward } from '../issue.ts';

/** How often reservations are looked over for such as were left behind. */
const reviewMs = 5000;

/**
 * Finishes what was reserved and not completed, by this process before it died or by a node whose lease ran out.
 * At start everything pending of this node, and what others left; later, what a failing token or a node that died has left, by one node for all.
 */
export class Recovery {
  readonly #ca: CertificateAuthority;
  readonly #logger: Logger;
  readonly #failures: FailureLog;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;

  constructor(ca: CertificateAuthority, logger: Logger) {
    this.#ca = ca;
    this.#logger = logger;
    this.#failures = new FailureLog(logger, 'reservations cannot be looked up');
  }

  /** Tries everything that is pending, once, before anything is served; what cannot be finished now is tried again. */
  async start(): Promise<void> {
    await this.#review('own-and-expired');
    this.#timer = setInterval(() => {
      if (!this.#ca.nodes.does('duties')) return;
      this.#running ??= this.#review('expired').finally(() => {
        this.#running = undefined;
      });
    }, reviewMs).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }

  async #review(which: 'own-and-expired' | 'expired'): Promise<void> {
    await this.#failures.watch(async () => {
      for (const issuanceId of await this.#ca.store.pendingReservations(which))
        await this.#finish(issuanceId);
    });
  }

  /** A command that adds an authority signs its first certificates by itself, before this process takes the authority up. */
  #isOurs({ certificates }: Reservation): boolean {
    const known = new Set(this.#ca.authorities.all.map(({ name }) => name));
    return certificates.every(({ authority }) => known.has(authority));
  }

  /** One that cannot be finished does not keep the others waiting. */
  async #finish(issuanceId: string): Promise<void> {
    try {
      const reservation = await this.#ca.store.reservation(issuanceId);
      if (!this.#isOurs(reservation)) return;
      await rollForward(this.#ca, reservation);
      this.#logger.info({ issuanceId }, 'reservation rolled forward');
    } catch (error) {
      this.#logger.error(
        { issuanceId, reason: (error as Error).message },
        'reservation cannot be rolled forward yet',
      );
    }
  }
}
