import type { FastifyReply, FastifyRequest } from 'fastify';
import { durationMs } from '../../core/config/duration.ts';
import type { ApprovalAct } from '../../core/model/approval.ts';
import { checkClientName } from '../../core/model/client-name.ts';
import { type Bytes, digest, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { NewClient } from '../../store/api/certificate-store.ts';
import { boundAuthorities, boundMunicipalities, checkRoles } from '../../store/api/client-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { parseCertificationRequest } from '../request/certification-request.ts';
import { clientKeyTypes } from '../request/key.ts';
import { townOf } from '../request/towns.ts';
import { type Exchange, writeOnce } from './answer.ts';
import { callerOf } from './caller.ts';
import * as present from './present.ts';
import type { AddClientBody } from './schema.ts';

// How clients are enrolled, bound and certified: what is checked before anyone is asked to approve it, and what is done then.

/** A client as it was sent, with what follows from the mode. Throws `bad-request`. */
function clientIn(ca: CertificateAuthority, body: AddClientBody): Omit<NewClient, 'fingerprint'> {
  const { fingerprint, request, kind, ...named } = body;
  if ((fingerprint === undefined) === (request === undefined))
    throw new PkiError('bad-request', 'exactly one of fingerprint and request is wanted');
  if (kind === undefined && ca.config.mode === 'production')
    throw new PkiError('bad-request', 'kind: production wants it: person or system');
  checkClientName(named.name);
  checkRoles(kind ?? 'system', named.roles);
  const authorities = boundAuthorities(namesOf(ca), named);
  const towns = { ...named, municipalities: townsNamed(ca, named) };
  const municipalities = boundMunicipalities(towns, municipalitiesOtherwise(ca));
  return { ...named, kind: kind ?? 'system', authorities, municipalities };
}

/** Refuses in production to bind a client to desks that are on no record. */
export async function refuseUnknownDesks(
  ca: CertificateAuthority,
  desks: readonly string[] = [],
): Promise<void> {
  if (ca.config.mode !== 'production') return;
  for (const code of desks)
    if (code !== '*' && !(await ca.desks.desk(code)))
      throw new PkiError('bad-request', `desks: ${code} is on no record: record it first (POST /v1/desks)`);
}

/** What is refused is refused before anyone is asked to approve it. */
export const enrolmentIn =
  (ca: CertificateAuthority) =>
  async ({ body }: FastifyRequest): Promise<ApprovalAct> => {
    const sent = body as AddClientBody;
    clientIn(ca, sent);
    await refuseUnknownDesks(ca, sent.desks);
    if (sent.request !== undefined) proven(sent.request);
    return 'client-rights';
  };

/** Whose key is certified: who approves compares it with what the owner says. */
export const keyIn = ({ body }: FastifyRequest): object => {
  const { request } = body as { readonly request?: string };
  return request === undefined ? {} : { publicKeySha256: hex(digest('sha256', proven(request))) };
};

/** Binds a client: by a certificate that it has, or by its request, for which it gets one. */
export async function enrol(
  ca: CertificateAuthority,
  exchange: Exchange,
  body: AddClientBody,
): Promise<FastifyReply> {
  const { fingerprint, request } = body;
  const client = clientIn(ca, body);
  await refuseUnknownDesks(ca, client.desks);
  const bindingEndsMs = bindingEnds(ca);
  if (fingerprint !== undefined)
    return writeOnce(ca, exchange, { status: 201, show: present.client }, (command) =>
      ca.clients.add({ ...command, client: { ...client, fingerprint }, bindingEndsMs }),
    );
  return writeOnce(ca, exchange, { status: 201, show: present.certifiedClient }, async (command) => {
    const certificate = await ca.certifyClient(client.name, proven(request));
    return ca.clients.enrol({ ...command, client, certificate, bindingEndsMs });
  });
}

/** The public key of a client's request. */
export const proven = (encoded = ''): Bytes =>
  parseCertificationRequest(Buffer.from(encoded, 'base64'), 'request', clientKeyTypes).publicKey;

/** In production one person at least can still decide. */
export const remaining = ({ config: { mode, limits } }: CertificateAuthority) =>
  mode === 'production' ? { personsMin: 1, bindingMs: durationMs(limits.clientBinding) } : null;

/** What a revoker or reader is bound to where nothing is said. */
export const municipalitiesOtherwise = ({
  config: { mode },
}: CertificateAuthority): readonly string[] | null => (mode === 'production' ? null : ['*']);

/** Municipalities by the codes that they go on under. */
export const townsNamed = (
  ca: CertificateAuthority,
  { municipalities }: { readonly municipalities?: readonly string[] },
): readonly string[] | undefined =>
  municipalities?.map((code) => (code === '*' ? code : townOf(ca.config, code).code));

export const namesOf = ({ authorities }: CertificateAuthority): string[] =>
  authorities.all.map(({ name }) => name);

export const bindingEnds = ({ config: { limits }, machineClock }: CertificateAuthority): number =>
  machineClock.wallMs() + durationMs(limits.clientBinding);

/** The story of a renewal: a proven key, a certificate for it, and the binding of the old one, all on record. */
export async function renew(
  ca: CertificateAuthority,
  { request, reply }: Exchange,
  { encoded, additional }: { readonly encoded: string; readonly additional: boolean },
): Promise<FastifyReply> {
  const { fingerprint } = callerOf(request);
  const presentation = { status: 201, show: present.certifiedClient };
  return writeOnce(ca, { request, reply }, presentation, async (command) => {
    const before = await ca.clients.client(fingerprint);
    if (!before) throw new PkiError('unauthenticated', 'no such client');
    if (before.term?.renewedBy != null)
      throw new PkiError('illegal-transition', 'the certificate was renewed already: use the new one');
    const certificate = await ca.certifyClient(before.name, proven(encoded));
    const { limits } = ca.config;
    const nowMs = ca.machineClock.wallMs();
    const bindingEndsMs = before.addedMs + durationMs(limits.clientBinding);
    const another = { ...command, fingerprint, certificate, bindingEndsMs };
    if (additional) return ca.clients.addCertificate({ ...another, isAskedByItself: true });
    const renewed = await ca.clients.renew({
      ...another,
      oldEndsMs: nowMs + durationMs(limits.clientOverlap),
    });
    request.log.info({ client: fingerprint, name: before.name }, 'a client renewed its certificate');
    return renewed;
  });
}
