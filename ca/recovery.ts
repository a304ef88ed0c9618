import type { Logger } from 'pino';
import { type CertificateAuthority, rollForward } from './issue.ts';

/** How often reservations are looked over for such as were left behind. */
const reviewMs = 5000;

/**
 * Finishes what was reserved and not completed, by this process before it died or by a node whose lease ran out.
 * At start everything pending of this node; later, what a failing token left.
 */
export class Recovery {
  readonly #ca: CertificateAuthority;
  readonly #logger: Logger;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;

  constructor(ca: CertificateAuthority, logger: Logger) {
    this.#ca = ca;
    this.#logger = logger;
  }

  /** Resolves when everything that was pending is complete; rejects where it cannot be. */
  async start(): Promise<void> {
    for (const reservation of await this.#ca.store.pendingReservations('own-and-expired')) {
      await rollForward(this.#ca, reservation);
      this.#logger.info({ issuanceId: reservation.issuanceId }, 'reservation rolled forward');
    }
    this.#timer = setInterval(() => {
      this.#running ??= this.#review().finally(() => {
        this.#running = undefined;
      });
    }, reviewMs).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }

  async #review(): Promise<void> {
    try {
      for (const reservation of await this.#ca.store.pendingReservations('expired'))
        await rollForward(this.#ca, reservation);
    } catch (error) {
      this.#logger.error({ reason: (error as Error).message }, 'reservations cannot be rolled forward yet');
    }
  }
}
