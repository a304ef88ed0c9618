import type { ClientKind } from '../../core/model/client-name.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Client, NewClient } from './certificate-store.ts';
import type { OperatorCommand } from './outcome.ts';

/** How long a client may act with one of its certificates. */
export interface ClientTerm {
  /** Who it is, whatever certificates it renewed: the fingerprint of its first. */
  readonly clientId: string;
  /** End of its certificate; null where that is not known. */
  readonly certificateEndsMs: number | null;
  /** End of the binding to roles, which only an administrator moves. */
  readonly bindingEndsMs: number;
  /** End of a certificate that was renewed, before its own. */
  readonly endsMs: number | null;
  /** Fingerprints of the certificates before and after it. */
  readonly renews: string | null;
  readonly renewedBy: string | null;
  readonly lastUsedMs: number | null;
  /** Since when an administrator that was bound at the console waits to be confirmed by another. */
  readonly unconfirmedSinceMs: number | null;
}

export interface KnownClient extends Client {
  readonly kind: ClientKind;
  /** null of a client from before there were terms. */
  readonly term: ClientTerm | null;
}

/** Certificates of one client that are in force at a time. */
export const certificatesMax = 4;

/** Who a client is: what it asked for, proposed and reported stays its own when it renews its certificate. */
export const clientIdOf = ({ term, fingerprint }: KnownClient): string => term?.clientId ?? fingerprint;

/** A certificate of the operations CA, before it is signed. */
export interface OperationsDraft {
  /** Hex. */
  readonly serialNumber: string;
  readonly kind: 'operations-authority' | 'tls-server' | 'tls-client';
  readonly commonName: string;
  /** SHA-256 of the SubjectPublicKeyInfo. */
  readonly keyHash: Bytes;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly toBeSigned: Bytes;
}

/** What is to be signed, or was, where the request is a repetition. */
export interface ReservedOperations {
  readonly serialNumber: string;
  readonly toBeSigned: Bytes;
  readonly signature: Bytes | null;
}

/** What the operations CA signs, on record: durable before it is signed, and complete once it is. */
export interface OperationsRecord {
  /**
   * `already-certified` where the operations CA has certified the key before; but a client certificate that was never bound, of the same
   * name, is that of a request that is repeated.
   */
  reserve(draft: OperationsDraft): Promise<ReservedOperations>;
  /** `fingerprint`: SHA-256 of the certificate, hex. */
  complete(serialNumber: string, signature: Bytes, fingerprint: string): Promise<void>;
}

/** A client under a new certificate. */
export interface CertifiedClient extends KnownClient {
  /** DER, Base64. */
  readonly certificate: string;
}

/** What ends rights leaves enough persons who decide; null, or nothing: any number will do. `in-use` otherwise. */
interface Leaving {
  readonly remaining?: { readonly personsMin: number; readonly bindingMs: number } | null;
}

/** Clients and their terms; durability, concurrency and errors as of `CertificateStore`. */
export interface ClientStore extends OperationsRecord {
  client(fingerprint: string): Promise<KnownClient | undefined>;
  /** All certificates of a client, which `clientIdOf` names. */
  certificatesOf(clientId: string): Promise<readonly KnownClient[]>;
  /** In order of fingerprints, from behind one on. */
  list(after: string | null, limit: number): Promise<readonly KnownClient[]>;
  /** Binds a client certificate. `bad-request` where it is bound already, `in-use` where the name is another's. */
  add(
    command: OperatorCommand & { readonly client: NewClient; readonly bindingEndsMs: number },
  ): Promise<KnownClient>;
  /** The same for a certificate that was made for the client's request. */
  enrol(
    command: OperatorCommand & {
      readonly client: Omit<NewClient, 'fingerprint'>;
      /** DER. */
      readonly certificate: Bytes;
      readonly bindingEndsMs: number;
    },
  ): Promise<CertifiedClient>;
  /** One more certificate of a client, bound to the same. `quota-exceeded` beyond `certificatesMax` in force. */
  addCertificate(
    command: OperatorCommand & {
      /** Of a certificate that the client has. */
      readonly fingerprint: string;
      /** The new one, DER. */
      readonly certificate: Bytes;
      readonly bindingEndsMs: number;
      /** Under that certificate, and not by an administrator. */
      readonly isAskedByItself: boolean;
    },
  ): Promise<CertifiedClient>;
  /** Ends one certificate of a client, with those that were asked for under it; others go on. `not-found` where there is none, or it is not the client's that is named. */
  endCertificate(
    command: OperatorCommand & {
      readonly fingerprint: string;
      /** Whose it has to be; null: anyone's. */
      readonly of: string | null;
    } & Leaving,
  ): Promise<KnownClient>;
  /** Shuts a client out, with all its certificates. `not-found` where there is none. */
  revoke(command: OperatorCommand & { readonly fingerprint: string } & Leaving): Promise<KnownClient>;
  /**
   * Binds the successor of a certificate to what that is bound to, and as long; the old one ends at `oldEndsMs`. `bindingEndsMs` is of
   * a binding whose end is not on record.
   */
  renew(
    command: OperatorCommand & {
      readonly fingerprint: string;
      /** The successor, DER. */
      readonly certificate: Bytes;
      readonly oldEndsMs: number;
      readonly bindingEndsMs: number;
    },
  ): Promise<CertifiedClient>;
  /** Changes what a client is bound to, with all its certificates, and until when. */
  rebind(
    command: OperatorCommand & {
      readonly fingerprint: string;
      /** What is not named stays. */
      readonly named: {
        readonly roles?: readonly string[] | undefined;
        readonly desks?: readonly string[] | undefined;
        readonly authorities?: readonly string[] | undefined;
        readonly municipalities?: readonly string[] | undefined;
      };
      /** Names of all authorities. */
      readonly known: readonly string[];
      /** What a revoker or reader is bound to that is bound to no municipality yet; null: it has to be named. */
      readonly municipalitiesOtherwise: readonly string[] | null;
      readonly bindingEndsMs: number;
    } & Leaving,
  ): Promise<KnownClient>;
  /** Confirms an administrator that was bound at the console. `forbidden` to itself, and to one who is not confirmed while another is. */
  confirm(
    command: OperatorCommand & { readonly fingerprint: string; readonly bindingMs: number },
  ): Promise<KnownClient>;
  /** When clients last acted, wall-clock milliseconds by fingerprint. */
  noteUses(uses: ReadonlyMap<string, number>): Promise<void>;
}

/** Why a client may not act now; undefined where it may. `bindingMs`: how long a binding lasts that has no end on record. */
export function whyEnded(client: KnownClient, nowMs: number, bindingMs: number): string | undefined {
  if (client.revokedMs !== null) return 'the client certificate has been shut out';
  const { term, addedMs } = client;
  if (term?.certificateEndsMs != null && term.certificateEndsMs <= nowMs)
    return 'the client certificate has ended: an administrator enrols another';
  if (term?.endsMs != null && term.endsMs <= nowMs)
    return 'the client certificate was renewed, and has ended: use the new one';
  if ((term?.bindingEndsMs ?? addedMs + bindingMs) <= nowMs)
    return 'the binding of the client certificate has ended: an administrator extends it';
  return undefined;
}

/** Roles that act on holders, or read about them. */
const holderRoles = ['revoker', 'reader'];

/**
 * On whose holders a client may act, and about whose it may read; `bad-request` where that is not said, and where it does neither.
 * `otherwise`: what it is bound to where nothing is said; null: it has to be.
 */
export function boundMunicipalities(
  {
    roles,
    municipalities,
  }: { readonly roles: readonly string[]; readonly municipalities?: readonly string[] | undefined },
  otherwise: readonly string[] | null,
): readonly string[] {
  if (!roles.some((role) => holderRoles.includes(role))) {
    if (municipalities === undefined || municipalities.length === 0) return [];
    throw new PkiError(
      'bad-request',
      'municipalities: belong to the roles revoker and reader, and to no other',
    );
  }
  if (municipalities !== undefined && municipalities.length > 0) return municipalities;
  if (otherwise !== null) return otherwise;
  throw new PkiError(
    'bad-request',
    'municipalities: production wants them of a revoker or reader: codes, or * for the nation',
  );
}

/** Whose responder a client may be, of the authorities that are known; `bad-request` where it names what is not there, or is none. */
export function boundAuthorities(
  known: readonly string[],
  {
    roles,
    authorities,
  }: { readonly roles: readonly string[]; readonly authorities?: readonly string[] | undefined },
): readonly string[] {
  if (!roles.includes('ocsp')) {
    if (authorities === undefined) return [];
    throw new PkiError('bad-request', 'authorities: belongs to the role ocsp, and to no other');
  }
  if (authorities === undefined) return known;
  const other = authorities.find((name) => name !== '*' && !known.includes(name));
  if (other === undefined) return authorities;
  throw new PkiError('bad-request', `authorities: there is no ${other}; there are ${known.join(', ')}`);
}

/** Rights that no person has: what acts by them acts at any hour, on its own. */
const systemRoles = ['follower', 'ocsp', 'tsm', 'verifier'];

/** Refuses with `bad-request` a role that a client of that kind cannot have. */
export function checkRoles(kind: ClientKind, roles: readonly string[]): void {
  const other = kind === 'person' ? roles.find((role) => systemRoles.includes(role)) : undefined;
  if (other !== undefined)
    throw new PkiError('bad-request', `roles: ${other} is for systems, and no person has it`);
}
