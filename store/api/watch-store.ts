import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { CertificateView } from './certificate-store.ts';
import type { Message } from './outbox-store.ts';
import type { OperatorCommand } from './outcome.ts';

/** A certificate that a verifier watches. */
export interface Watch {
  readonly key: CertificateId;
  /** The verifier's own name for it. */
  readonly reference: string | null;
  readonly createdMs: number;
}

type OfCertificate = OperatorCommand & { readonly verifier: string; readonly key: CertificateId };

/** What verifiers watch, use, and may learn; durability, concurrency and errors as of `CertificateStore`. */
export interface WatchStore {
  /**
   * Notifies a verifier of a certificate's changes from now on; of one that it watches already, under this reference. `quota-exceeded`
   * where it watches `max`.
   */
  watch(command: OfCertificate & { readonly reference: string | null; readonly max: number }): Promise<Watch>;
  /** Notifies it no more. `not-found` where it does not watch that one. */
  end(command: OfCertificate): Promise<Watch>;
  /** What a verifier calls a certificate that it watches; null where it has said nothing. */
  reference(verifier: string, key: CertificateId): Promise<string | null>;
  /** Of one verifier, in order of keys, from behind one on. */
  list(verifier: string, after: CertificateId | null, limit: number): Promise<readonly Watch[]>;
  /** Notifies verifiers of watched certificates that have expired; called now and then. */
  noteExpired(): Promise<void>;
  /** A verifier used a certificate: its holder is notified, if preferred, of `max` uses of one verifier in a day in Japan. */
  used(command: OfCertificate & { readonly max: number }): Promise<null>;
  /** Notices for a verifier that it has not received, oldest first. */
  notices(verifier: string, limit: number): Promise<readonly Message[]>;
  /** A verifier has received these notices. Those that are another's stay. */
  received(verifier: string, messageIds: readonly string[]): Promise<void>;
  /** What belongs to a certificate, or came after it; undefined: nothing that may be known. */
  linked(key: CertificateId, link: 'pair' | 'successor'): Promise<CertificateView | undefined>;
}
