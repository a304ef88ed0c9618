import { resolve } from 'node:path';
import nodemailer, { type Transporter } from 'nodemailer';
import { Agent, request } from 'undici';
import { durationMs } from '../../core/config/duration.ts';
import { partnerTls } from '../../core/http/partner-tls.ts';
import { type HolderKind, slotOf } from '../../core/model/kinds.ts';
import { hex } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { must, PkiError } from '../../core/runtime/errors.ts';
import { readSecret } from '../../core/runtime/secret-file.ts';
import type { Sealed } from '../../store/api/certificate-store.ts';
import { isMandatoryNotice, isOrder, type Message } from '../../store/api/outbox-store.ts';
import type { Language, PreferenceStore } from '../../store/api/preference-store.ts';
import type { VerifierStore } from '../../store/api/verifier-store.ts';
import type { WatchStore } from '../../store/api/watch-store.ts';
import type { Config } from '../config/config.ts';
import type { Authorities } from '../issue/authority.ts';
import type { Sealer } from '../sealing/sealer.ts';
import { type MessageSigner, signedHeaders } from './message-signature.ts';
import { noticeText } from './notice-text.ts';
import { addressCodeOf, addressContext } from './notice-wishes.ts';

/** What others get to read of an answer that refuses, at most. */
const errorLengthMax = 200;

interface DeliveryOptions {
  readonly config: Config;
  readonly folder: string;
  readonly authorities: Authorities;
  readonly preferences: PreferenceStore;
  readonly verifiers: VerifierStore;
  readonly watches: WatchStore;
  readonly sealer: Sealer;
  readonly signer: MessageSigner;
  /** Certificates of an issuance, as the TSM is to store them. */
  readonly certificatesOf: (issuanceId: string) => Promise<readonly object[]>;
  readonly clock: Clock;
}

/** A message as its receiver reads it. */
export function bodyOf(message: Message, authorities: Authorities): object {
  const { authority, ...key } = message.certificate;
  return {
    messageId: message.messageId,
    type: message.type,
    occasion: message.occasion,
    reason: message.reason,
    createdAt: new Date(message.createdMs).toISOString(),
    authority,
    serialNumber: hex(authorities.byName(authority).serialOf(key)),
    kind: message.kind,
    ...(message.verifier === null ? {} : { verifier: message.verifier }),
    ...(message.municipality == null ? {} : { municipalityCode: message.municipality }),
    // Verifiers get to know the certificate, never whose it is.
    ...(message.type === 'verifier-notice' ? {} : { holderId: message.holderId }),
    ...(isOrder(message)
      ? { deviceId: message.mediumId?.slice('phone:'.length), instance: message.instance }
      : {}),
  };
}

/** Brings messages to their destinations: signed webhooks, and mail to holders who chose it. */
export class Delivery {
  readonly #options: DeliveryOptions;
  readonly #agent: Agent;
  readonly #mail: Transporter | undefined;
  readonly #timeoutMs: number;
  readonly #underWay = new Set<AbortController>();

  constructor(options: DeliveryOptions) {
    this.#options = options;
    const { notices } = options.config;
    this.#timeoutMs = durationMs(notices.timeout);
    const tls = partnerTls(options.folder, notices);
    this.#agent = new Agent({ connect: tls, connections: 16 });
    this.#mail = notices.mail && mailer(notices.mail, options.folder, { timeoutMs: this.#timeoutMs, tls });
  }

  /** Where messages can be brought now; those for others wait until they can. */
  async destinations(): Promise<string[]> {
    const { tsm, portal, towns } = this.#options.config.notices;
    return [
      ...(towns === undefined ? [] : ['towns']),
      ...(tsm === undefined ? [] : ['tsm']),
      ...(portal === undefined && this.#mail === undefined ? [] : ['holder']),
      ...(await this.#options.verifiers.notified(this.#options.clock.wallMs())),
    ];
  }

  /** Resolves once the other side has taken it; rejects with why it has not. */
  async deliver(message: Message): Promise<void> {
    if (message.type === 'verifier-notice' && !(await this.#isOfItsKind(message))) return;
    if (message.destination !== 'holder') return this.#post(await this.#urlOf(message), message);
    const preferences = await this.#options.preferences.of(must(message.holderId, 'holder of a notice'));
    // The preferences were withdrawn meanwhile: no notice is sent.
    const isMandatory = isMandatoryNotice(message.kind, message.occasion);
    if (!isMandatory && (!preferences || preferences.occasions.length === 0)) return;
    const { portal } = this.#options.config.notices;
    // Notices of a change go where notices went before it.
    const isOfChange = message.occasion === 'wishes-changed';
    const address = isOfChange ? message.address : (message.address ?? preferences?.mailAddress);
    if (address) return this.#mailTo(address, message, preferences?.language ?? 'ja');
    if (portal !== undefined) return this.#post(portal, message);
    if (!isOfChange) throw new PkiError('internal', 'no portal is configured');
  }

  /** Cuts off what is under way. */
  abort(): void {
    for (const attempt of this.#underWay) attempt.abort(new PkiError('internal', 'the service is stopping'));
    this.#mail?.close();
  }

  async close(): Promise<void> {
    this.abort();
    await this.#agent.destroy();
  }

  /** Whether a verifier may still be notified of such certificates. */
  async #isOfItsKind({ destination, kind }: Message): Promise<boolean> {
    const verifier = await this.#options.verifiers.verifier(destination);
    return verifier === undefined || verifier.kinds.includes(slotOf(kind as HolderKind));
  }

  async #urlOf({ destination }: Message): Promise<string> {
    const { tsm, towns } = this.#options.config.notices;
    const known: Readonly<Record<string, string | undefined>> = { tsm, towns };
    if (Object.hasOwn(known, destination)) return must(known[destination], `address of ${destination}`);
    const verifier = await this.#options.verifiers.verifier(destination);
    return must(verifier?.url, `address of ${destination}`);
  }

  async #post(address: string, message: Message): Promise<void> {
    // What is signed is what is sent: a path where there is none, and all else as URLs have it.
    const url = new URL(address).href;
    const { authorities, signer, clock, certificatesOf } = this.#options;
    const certificates =
      message.type === 'personalisation'
        ? { certificates: await certificatesOf(must(message.instance, 'instance of an order')) }
        : {};
    const { watches } = this.#options;
    const reference =
      message.type === 'verifier-notice'
        ? { reference: await watches.reference(message.destination, message.certificate) }
        : {};
    const body = Buffer.from(
      JSON.stringify({ ...bodyOf(message, authorities), ...certificates, ...reference }),
    );
    const headers = await signedHeaders(signer, { url, body, createdMs: clock.wallMs() });
    const attempt = new AbortController();
    const timer = setTimeout(
      () => attempt.abort(new PkiError('internal', 'no answer in time')),
      this.#timeoutMs,
    );
    this.#underWay.add(attempt);
    try {
      const { signal } = attempt;
      const response = await request(url, { method: 'POST', headers, body, dispatcher: this.#agent, signal });
      await response.body.dump();
      if (response.statusCode < 200 || response.statusCode > 299)
        throw new PkiError('internal', `answered HTTP ${response.statusCode}`);
    } finally {
      clearTimeout(timer);
      this.#underWay.delete(attempt);
    }
  }

  async #mailTo(sealed: Sealed, message: Message, language: Language): Promise<void> {
    if (!this.#mail) throw new PkiError('internal', 'no mail server is configured');
    const { sealer, config } = this.#options;
    const { mail, contact = '' } = config.notices;
    const { messageId, holderId, occasion, verifier } = message;
    const address = await sealer.open(addressContext(must(holderId, 'holder of a mail address')), sealed);
    const code = occasion === 'address-code' ? await addressCodeOf({ sealer }, messageId) : '';
    const known = verifier === null ? undefined : await this.#options.verifiers.verifier(verifier);
    const { subject, text } = noticeText(message, language, {
      verifier: known?.name ?? verifier ?? '',
      code,
      contact,
    });
    try {
      await this.#mail.sendMail({
        from: mail?.from,
        // One address: nothing in it is read as a list, or as a name.
        to: { name: '', address: Buffer.from(address).toString('utf8') },
        subject,
        text,
        textEncoding: 'base64',
        messageId: `<${messageId}@warifu>`,
      });
    } catch (error) {
      // What a mail server says may hold the address.
      const { responseCode, code } = error as { responseCode?: number; code?: string };
      throw new PkiError('internal', `the mail server refused: ${responseCode ?? code ?? 'no answer'}`, {
        cause: error,
      });
    }
  }
}

function mailer(
  mail: NonNullable<Config['notices']['mail']>,
  folder: string,
  { timeoutMs, tls: connection }: { readonly timeoutMs: number; readonly tls: ReturnType<typeof partnerTls> },
): Transporter {
  const { host, port, tls, user, passwordFile } = mail;
  const pass = passwordFile === undefined ? '' : readSecret(resolve(folder, passwordFile)).trim();
  return nodemailer.createTransport({
    host,
    port,
    secure: tls === 'always',
    requireTLS: tls === 'starttls',
    ignoreTLS: tls === 'never',
    connectionTimeout: timeoutMs,
    greetingTimeout: timeoutMs,
    socketTimeout: timeoutMs,
    pool: true,
    tls: connection,
    ...(user === undefined ? {} : { auth: { user, pass } }),
  });
}

/** Why an attempt failed, for operators: short, and without what others may have put into it. */
export function reasonOf(error: unknown): string {
  const { message, code } = error as { message?: string; code?: string };
  const said = error instanceof PkiError ? error.message : (code ?? message ?? 'failed');
  // A receiver's words may hold anything; what is kept is text.
  return said
    .replace(/[^\x20-\x7e\xa0-\uffff]/g, '?')
    .toWellFormed()
    .slice(0, errorLengthMax);
}
