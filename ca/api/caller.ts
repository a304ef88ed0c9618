import type { TLSSocket } from 'node:tls';
import type { FastifyRequest } from 'fastify';
import { durationMs } from '../../core/config/duration.ts';
import type { ApprovalAct } from '../../core/model/approval.ts';
import type { ClientKind } from '../../core/model/client-name.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { type ErrorCode, invariant, PkiError } from '../../core/runtime/errors.ts';
import type { Actor, RequestScope } from '../../store/api/certificate-store.ts';
import { clientIdOf, type KnownClient, whyEnded } from '../../store/api/client-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import type { Role } from './schema.ts';

/** Who calls: a client certificate of the operations CA that is bound to roles in the record. */
export interface Caller {
  /** Of the certificate that it shows; `actor.client` is who it is, whatever it renewed. */
  readonly fingerprint: string;
  readonly roles: readonly string[];
  readonly desks: readonly string[];
  readonly authorities: readonly string[];
  readonly municipalities: readonly string[];
  readonly kind: ClientKind;
  /** Bound at the console, and not confirmed by another: it decides nothing yet. */
  readonly isUnconfirmed: boolean;
  /** Who has approved what it does, and which consequence of it, where one was shown; null where no one has. */
  readonly approval: { readonly by: string; readonly planHash: string | undefined } | null;
  readonly actor: Actor;
}

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller | null;
    /** The body as it came: what an idempotency key is bound to. */
    bodyOctets: Buffer | null;
    /** Why it was refused; null where it was not. */
    problem: ErrorCode | null;
  }
  interface FastifyContextConfig {
    roles?: readonly Role[];
    /** Nodes ask it again and again: where it succeeds it is not logged. */
    polled?: boolean;
    /** The body is a stream that lasts as long as it has something to say. */
    streams?: boolean;
    /** The answer is a stream that lasts. */
    lasts?: boolean;
    /** The act that a second person approves before a request is carried out; undefined where none has to. */
    approval?: (request: FastifyRequest) => ApprovalAct | undefined | Promise<ApprovalAct | undefined>;
    /** What a plan says besides the members of the request. */
    plan?: (request: FastifyRequest) => object | Promise<object>;
  }
}

/**
 * Looks the caller's certificate up in the record, each time, so that a revocation counts from the next request
 * on. TLS has checked already that the operations CA issued it. `unauthenticated` or `forbidden` otherwise.
 */
export async function authenticate(
  ca: Pick<CertificateAuthority, 'clients' | 'uses' | 'config' | 'machineClock'>,
  request: FastifyRequest,
  roles: readonly Role[],
): Promise<Caller> {
  const fingerprint = fingerprintOf(request.raw.socket as TLSSocket);
  const client = fingerprint === undefined ? undefined : await ca.clients.client(fingerprint);
  if (!client) throw new PkiError('unauthenticated', 'the client certificate is not registered');
  const refusal = whyRefused(ca, client, roles);
  if (refusal) throw refusal;
  ca.uses.note(client.fingerprint, ca.machineClock.wallMs());
  const role = roles.find((candidate) => client.roles.includes(candidate));
  invariant(role, 'a client that is not refused has one of the roles');
  return callerAs(client, role, request.id);
}

/** A client as it acts in one of its roles. */
export function callerAs(client: KnownClient, role: string, requestId: string): Caller {
  const { fingerprint, roles, desks, authorities, municipalities, kind } = client;
  const actor = { client: clientIdOf(client), role, requestId };
  const isUnconfirmed = client.term?.unconfirmedSinceMs != null;
  const bound = { fingerprint, roles, desks, authorities, municipalities, kind, isUnconfirmed };
  return { ...bound, approval: null, actor };
}

/** Refuses with `forbidden` to have a system decide what is for a person. */
export function refuseSystem({ kind, isUnconfirmed }: Caller): void {
  if (isUnconfirmed)
    throw new PkiError('forbidden', 'the client was bound at the console, and another confirms it first');
  if (kind !== 'person')
    throw new PkiError(
      'forbidden',
      'this takes two persons, and the client is a system: a person with that role asks for it, and another approves it',
    );
}

/** The same in production, where it takes two persons. */
export function refuseSystemToApprove(
  { config }: Pick<CertificateAuthority, 'config'>,
  request: FastifyRequest,
): void {
  if (config.mode === 'production') refuseSystem(callerOf(request));
}

/** Why a client may not act now, or in none of these roles; undefined where it may. */
export function whyRefused(
  { config, machineClock }: Pick<CertificateAuthority, 'config' | 'machineClock'>,
  client: KnownClient,
  roles?: readonly string[],
): PkiError | undefined {
  const why = whyEnded(client, machineClock.wallMs(), durationMs(config.limits.clientBinding));
  if (why !== undefined) return new PkiError('unauthenticated', why);
  if (!roles || roles.some((role) => client.roles.includes(role))) return undefined;
  return new PkiError('forbidden', `this needs the role ${roles.join(' or ')}`);
}

/** SHA-256 of the certificate that a connection's client showed, hex; undefined where TLS has not accepted it. */
export function fingerprintOf(socket: TLSSocket): string | undefined {
  const known = fingerprints.get(socket);
  if (known !== undefined || !socket.authorized) return known;
  const found = socket.getPeerX509Certificate()?.fingerprint256.replaceAll(':', '').toLowerCase();
  if (found !== undefined) fingerprints.set(socket, found);
  return found;
}

/** A connection shows one certificate for as long as it lasts. */
const fingerprints = new WeakMap<TLSSocket, string>();

export function callerOf(request: FastifyRequest): Caller {
  if (!request.caller) throw new PkiError('unauthenticated', 'no caller');
  return request.caller;
}

/** An issuer acts for its desks only. */
export function checkDesk(caller: Caller, deskCode: string): void {
  if (!caller.desks.includes('*') && !caller.desks.includes(deskCode)) {
    throw new PkiError('desk-not-allowed', `this client does not act for desk ${deskCode}`);
  }
}

/** A responder is certified for the authorities it was bound to. */
export function checkAuthority(caller: Caller, authority: string): void {
  if (!caller.authorities.includes('*') && !caller.authorities.includes(authority)) {
    throw new PkiError('forbidden', `this client does not answer for ${authority}`);
  }
}

/**
 * The scope in which a write happens once: client, route, Idempotency-Key, and what was asked. `octets` are those of the
 * line where a request has many.
 */
export async function scopeOf(
  ca: CertificateAuthority,
  request: FastifyRequest,
  idempotencyKey: string,
  octets: Bytes = request.bodyOctets ?? Buffer.alloc(0),
): Promise<RequestScope> {
  const bodyHash = await ca.sealer.keyedHash(Buffer.from(`${request.url}\n`), octets);
  return {
    client: callerOf(request).actor.client,
    route: `${request.method} ${request.routeOptions.url}`,
    idempotencyKey,
    bodyHash,
    expiresMs: ca.clock.wallMs() + durationMs(ca.config.limits.idempotencyRetention),
  };
}
