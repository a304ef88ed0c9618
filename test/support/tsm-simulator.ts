import { X509Certificate } from 'node:crypto';
import type { CaClient } from '../../ca/client/client.ts';
import { type Delivered, Receiver } from './tsm.ts';

/** What an order of personalisation brings besides what every message has. */
export interface Personalisation extends Delivered {
  readonly instance: string;
  readonly certificates: readonly { readonly kind: string; readonly certificate: string }[];
}

/** One instance of the applet in a secure element. */
export interface Instance {
  readonly deviceId: string;
  readonly instanceId: string;
  readonly kinds: readonly string[];
  /** How often it was installed: once, whatever is repeated. */
  installed: number;
  isDeleted: boolean;
}

/** How the way between the CA and the TSM is: chances from 0 to 1. */
export interface Weather {
  /** An order is lost on the way, or its answer is. */
  readonly loss: number;
  /** A confirmation is sent twice. */
  readonly repetition: number;
  /** How long a confirmation may take, milliseconds; later orders overtake it. */
  readonly delayMs: number;
}

const calm: Weather = { loss: 0, repetition: 0, delayMs: 0 };

/**
 * An SP-TSM: it installs an instance of the applet for what was issued to a phone, checks that its certificates are for one
 * phone, stores them, and confirms; deletes the instance when it is asked to, and confirms that. By the API's own client, over
 * TLS, and the signed orders alone.
 */
export class TsmSimulator {
  readonly receiver: Receiver;
  /** By the instance of the order, which is the issuance. */
  readonly instances = new Map<string, Instance>();
  /** What went wrong: nothing may. */
  readonly faults: string[] = [];
  weather: Weather = calm;
  #client: CaClient | undefined;
  #seen = new Map<string, number>();
  readonly #underWay = new Set<Promise<void>>();
  readonly #timer: NodeJS.Timeout;
  #count = 0;

  private constructor(receiver: Receiver) {
    this.receiver = receiver;
    receiver.mood = () => {
      if (Math.random() >= this.weather.loss) return 'takes';
      return Math.random() < 0.5 ? 'drops' : 'takes-and-drops';
    };
    this.#timer = setInterval(() => this.#work(), 20);
  }

  static async start(): Promise<TsmSimulator> {
    return new TsmSimulator(await Receiver.start());
  }

  /** Goes to work for a CA whose orders it believes. */
  serve(client: CaClient, folder: string): void {
    this.#client = client;
    this.receiver.trust(folder);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#underWay);
    await this.receiver.stop();
  }

  #work(): void {
    if (!this.#client) return;
    for (const [messageId, { message, times }] of this.receiver.had) {
      const seen = this.#seen.get(messageId) ?? 0;
      if (times <= seen) continue;
      this.#seen.set(messageId, times);
      const job = this.#obey(message).catch((error: Error) => void this.faults.push(error.message));
      this.#underWay.add(job);
      void job.finally(() => this.#underWay.delete(job));
    }
  }

  async #obey(message: Delivered): Promise<void> {
    if (message.type === 'personalisation') this.#install(message as Personalisation);
    else if (message.type === 'remote-deletion') this.#delete(message as Personalisation);
    else this.faults.push(`an order of type ${message.type}`);
    await new Promise((resolve) => setTimeout(resolve, Math.random() * this.weather.delayMs));
    await this.#confirm(message as Personalisation);
    if (Math.random() < this.weather.repetition) await this.#confirm(message as Personalisation);
  }

  #install({ instance, deviceId = '', certificates, kind }: Personalisation): void {
    const before = this.instances.get(instance);
    if (before) return;
    for (const { certificate } of certificates)
      if (!new X509Certificate(certificate).subject) this.faults.push('a certificate without a subject');
    if (certificates.length === 0) this.faults.push(`nothing to store for ${kind}`);
    this.#count += 1;
    this.instances.set(instance, {
      deviceId,
      instanceId: `a000000476${String(this.#count).padStart(10, '0')}`,
      kinds: certificates.map((each) => each.kind),
      installed: 1,
      isDeleted: false,
    });
  }

  /** The previous owner's late order names the previous instance, and reaches no other. */
  #delete({ instance }: Personalisation): void {
    const known = this.instances.get(instance);
    if (known) known.isDeleted = true;
  }

  async #confirm({ type, instance, messageId }: Personalisation): Promise<void> {
    const client = this.#client;
    if (!client) return;
    const applet = { instanceId: this.instances.get(instance)?.instanceId ?? 'a000000476', version: '3.1.0' };
    const { status } =
      type === 'personalisation'
        ? await client.post(`/issuances/${instance}/storage`, { stored: true, applet })
        : await client.post(`/orders/${messageId}/confirmation`, undefined);
    if (status !== 200) this.faults.push(`${type} was answered ${status}`);
  }
}
