import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { durationMs } from '../../core/config/duration.ts';
import type { ApprovalAct } from '../../core/model/approval.ts';
import { checkClientName } from '../../core/model/client-name.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { boundAuthorities, boundMunicipalities } from '../../store/api/client-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { parseCertificationRequest } from '../request/certification-request.ts';
import { clientKeyTypes } from '../request/key.ts';
import { townOf } from '../request/towns.ts';
import { type Exchange, IdempotencyHeaders, problems, proposed, writeOnce } from './answer.ts';
import { callerOf } from './caller.ts';
import * as present from './present.ts';
import { AddClient, type AddClientBody, Client, Fingerprint, roles } from './schema.ts';
import { AnotherCertificate, CertifiedClient, EnrolledClient, Rebind } from './schema-clients.ts';

const config = { roles: ['administrator'] } as const;
const FingerprintParams = Type.Object({ fingerprint: Fingerprint });
const pageMax = 500;

/** Who may call: bound by administrators, renewed by each under its own certificate. */
export const clientRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/clients',
      {
        // Who may approve sees who else can, and which certificate took the place of which.
        config: { roles: ['administrator', 'revoker', 'reader'] },
        schema: {
          summary: 'All clients, with their ends, last uses and renewals, page by page',
          querystring: Type.Object({ after: Type.Optional(Fingerprint) }, { additionalProperties: false }),
          response: {
            200: Type.Object({
              clients: Type.Array(Client),
              next: Type.Union([Fingerprint, Type.Null()], {
                description: '`after` of the next page; null where there is none',
              }),
            }),
            ...problems,
          },
        },
      },
      async (request) => {
        const clients = await ca.clients.list(request.query.after ?? null, pageMax);
        const next = clients.length < pageMax ? null : (clients.at(-1)?.fingerprint ?? null);
        return { clients: clients.map(present.client), next };
      },
    );

    app.post(
      '/clients',
      {
        config: { ...config, approval: enrolmentOf },
        schema: {
          summary:
            'Enrol a person or a system by a request for its own key, or bind a certificate that it has',
          headers: IdempotencyHeaders,
          body: AddClient,
          response: { 201: EnrolledClient, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        return enrol(ca, { request, reply }, request.body);
      },
    );

    app.post(
      '/clients/:fingerprint/revocation',
      {
        config,
        schema: {
          summary: 'Shut a client out with all its certificates, from its next request on',
          headers: IdempotencyHeaders,
          params: FingerprintParams,
          response: { 200: Client, ...problems },
        },
      },
      async (request, reply) => {
        const { fingerprint } = request.params;
        return writeOnce(ca, { request, reply }, { show: present.client }, (command) =>
          ca.clients.revoke({ ...command, fingerprint, remaining: remaining(ca) }),
        );
      },
    );

    app.post(
      '/clients/:fingerprint/binding',
      {
        config: { ...config, approval: () => 'client-rights' },
        schema: {
          summary: 'Bind a client to other roles and desks, or for longer: a binding lasts a year from now',
          headers: IdempotencyHeaders,
          params: FingerprintParams,
          body: Rebind,
          response: { 200: Client, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        const { params, body: named } = request;
        const bound = {
          ...params,
          named: { ...named, municipalities: townsNamed(ca, named) },
          known: namesOf(ca),
          municipalitiesOtherwise: municipalitiesOtherwise(ca),
          bindingEndsMs: bindingEnds(ca),
          remaining: remaining(ca),
        };
        return writeOnce(ca, { request, reply }, { show: present.client }, (command) =>
          ca.clients.rebind({ ...command, ...bound }),
        );
      },
    );
  };

/** What a client confirms or renews: an administrator bound at the console, and its own certificate. */
export const clientCertificateRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.post(
      '/clients/:fingerprint/confirmation',
      {
        config,
        schema: {
          summary: 'Confirm an administrator that was bound at the console',
          headers: IdempotencyHeaders,
          params: FingerprintParams,
          response: { 200: Client, ...problems },
        },
      },
      async (request, reply) => {
        const { fingerprint } = request.params;
        return writeOnce(ca, { request, reply }, { show: present.client }, (command) =>
          ca.clients.confirm({ ...command, fingerprint }),
        );
      },
    );

    app.post(
      '/client-certificates',
      {
        config: { roles },
        schema: {
          summary:
            'Renew the certificate that the caller uses: the new one is bound to the same, the old one ends a day later; or get one more',
          headers: IdempotencyHeaders,
          body: AnotherCertificate,
          response: { 201: CertifiedClient, ...problems },
        },
      },
      async (request, reply) => {
        const { additional = false, request: encoded } = request.body;
        return renew(ca, { request, reply }, { encoded, additional });
      },
    );

    app.post(
      '/client-certificates/:fingerprint/revocation',
      {
        config: { roles },
        schema: {
          summary:
            'End one certificate of the caller’s own, or as an administrator of anyone’s; its others go on',
          headers: IdempotencyHeaders,
          params: FingerprintParams,
          response: { 200: Client, ...problems },
        },
      },
      async (request, reply) => {
        const { fingerprint } = request.params;
        const caller = callerOf(request);
        const of = caller.roles.includes('administrator') ? null : caller.actor.client;
        return writeOnce(ca, { request, reply }, { show: present.client }, (command) =>
          ca.clients.endCertificate({ ...command, fingerprint, of, remaining: remaining(ca) }),
        );
      },
    );
  };

/** A name that cannot be read is shown to no one who is to approve it. */
const enrolmentOf = ({ body }: FastifyRequest): ApprovalAct => {
  checkClientName((body as AddClientBody).name);
  return 'client-rights';
};

/** Binds a client: by a certificate that it has, or by its request, for which it gets one. */
async function enrol(
  ca: CertificateAuthority,
  exchange: Exchange,
  { fingerprint, request, kind, ...body }: AddClientBody,
): Promise<FastifyReply> {
  if ((fingerprint === undefined) === (request === undefined))
    throw new PkiError('bad-request', 'exactly one of fingerprint and request is wanted');
  if (kind === undefined && ca.config.mode === 'production')
    throw new PkiError('bad-request', 'kind: production wants it: person or system');
  const authorities = boundAuthorities(namesOf(ca), body);
  const municipalities = boundMunicipalities(
    { ...body, municipalities: townsNamed(ca, body) },
    municipalitiesOtherwise(ca),
  );
  const client = { ...body, kind: kind ?? 'system', authorities, municipalities };
  const bindingEndsMs = bindingEnds(ca);
  if (fingerprint !== undefined)
    return writeOnce(ca, exchange, { status: 201, show: present.client }, (command) =>
      ca.clients.add({ ...command, client: { ...client, fingerprint }, bindingEndsMs }),
    );
  return writeOnce(ca, exchange, { status: 201, show: present.certifiedClient }, async (command) => {
    checkClientName(client.name);
    const certificate = await ca.certifyClient(client.name, proven(request));
    return ca.clients.enrol({ ...command, client, certificate, bindingEndsMs });
  });
}

/** The public key of a client's request. */
const proven = (encoded = ''): Bytes =>
  parseCertificationRequest(Buffer.from(encoded, 'base64'), 'request', clientKeyTypes).publicKey;

/** In production one person at least can still decide. */
const remaining = ({ config: { mode, limits } }: CertificateAuthority) =>
  mode === 'production' ? { personsMin: 1, bindingMs: durationMs(limits.clientBinding) } : null;

/** What a revoker or reader is bound to where nothing is said. */
const municipalitiesOtherwise = ({ config: { mode } }: CertificateAuthority): readonly string[] | null =>
  mode === 'production' ? null : ['*'];

/** Municipalities by the codes that they go on under. */
const townsNamed = (
  ca: CertificateAuthority,
  { municipalities }: { readonly municipalities?: readonly string[] },
): readonly string[] | undefined =>
  municipalities?.map((code) => (code === '*' ? code : townOf(ca.config, code).code));

const namesOf = ({ authorities }: CertificateAuthority): string[] => authorities.all.map(({ name }) => name);

const bindingEnds = ({ config: { limits }, machineClock }: CertificateAuthority): number =>
  machineClock.wallMs() + durationMs(limits.clientBinding);

/** The story of a renewal: a proven key, a certificate for it, and the binding of the old one, all on record. */
async function renew(
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
    if (additional) return ca.clients.addCertificate(another);
    const renewed = await ca.clients.renew({
      ...another,
      oldEndsMs: nowMs + durationMs(limits.clientOverlap),
    });
    request.log.info({ client: fingerprint, name: before.name }, 'a client renewed its certificate');
    return renewed;
  });
}
