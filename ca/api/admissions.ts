import type { TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import type { PkiError } from '../../core/runtime/errors.ts';
import { repeat } from '../../core/runtime/process.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { fingerprintOf, whyRefused } from './caller.ts';

/** How often what lasts is looked over. */
const everyMs = 1000;
/** Clients whose connections are looked over in one turn, so that ten thousand that are kept cost little. */
const perTurn = 500;

/** A request that lasts: a stream, a batch. */
interface Lasting {
  readonly fingerprint: string;
  readonly roles: readonly string[];
  readonly end: (why: PkiError) => void;
}

type Ca = Pick<CertificateAuthority, 'clients' | 'config' | 'machineClock'>;

/**
 * What outlives the moment at which its client was authenticated: connections that are kept, streams, batches. A request that lasts ends
 * within a second of its client's certificate or right, a connection that is kept within a turn of all of them; the next request on it
 * is refused at once (`authenticate`).
 */
export class Admissions {
  readonly #ca: Ca;
  readonly #lasting = new Set<Lasting>();
  /** In order of when they were last looked over. */
  readonly #connections = new Map<TLSSocket, string>();
  readonly #stop: () => Promise<void>;

  constructor(ca: Ca, logger: Logger) {
    this.#ca = ca;
    this.#stop = repeat(
      everyMs,
      () => this.#lookOver(),
      logger,
      'clients of connections cannot be looked up',
    );
  }

  /** A connection whose client TLS has accepted. */
  connected(socket: TLSSocket): void {
    const fingerprint = fingerprintOf(socket);
    if (fingerprint === undefined) return;
    this.#connections.set(socket, fingerprint);
    socket.once('close', () => this.#connections.delete(socket));
  }

  /** Has `end` called, once, when the client may no longer do what it does; until the function that is returned is called. */
  during(request: Lasting): () => void {
    this.#lasting.add(request);
    return () => this.#lasting.delete(request);
  }

  close(): Promise<void> {
    return this.#stop();
  }

  async #lookOver(): Promise<void> {
    for (const request of this.#lasting) {
      const why = await this.#whyNot(request.fingerprint, request.roles);
      if (why && this.#lasting.delete(request)) request.end(why);
    }
    const known = new Map<string, PkiError | undefined>();
    for (const [socket, fingerprint] of [...this.#connections]) {
      if (known.size === perTurn) break;
      if (!known.has(fingerprint)) known.set(fingerprint, await this.#whyNot(fingerprint));
      if (!this.#connections.delete(socket)) continue;
      if (known.get(fingerprint)) socket.destroySoon();
      else this.#connections.set(socket, fingerprint);
    }
  }

  /** Why a client may not go on. A certificate that is bound to nothing yet may be bound. */
  async #whyNot(fingerprint: string, roles?: readonly string[]): Promise<PkiError | undefined> {
    const client = await this.#ca.clients.client(fingerprint);
    return client && whyRefused(this.#ca, client, roles);
  }
}
