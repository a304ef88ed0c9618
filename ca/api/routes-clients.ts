import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { durationMs } from '../../core/config/duration.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { boundAuthorities, type RenewedClient } from '../../store/api/client-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { parseCertificationRequest } from '../request/certification-request.ts';
import { IdempotencyHeaders, problems, writeOnce } from './answer.ts';
import { callerOf } from './caller.ts';
import * as present from './present.ts';
import { AddClient, Client, Fingerprint, roles } from './schema.ts';
import { Rebind, RenewalRequest, RenewedClient as RenewedShape } from './schema-clients.ts';

const config = { roles: ['administrator'] } as const;
const FingerprintParams = Type.Object({ fingerprint: Fingerprint });
const pageMax = 500;
const keyTypes = ['rsa2048', 'p256', 'p384'] as const;

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
        config,
        schema: {
          summary: 'Bind a client certificate to roles and desks',
          headers: IdempotencyHeaders,
          body: AddClient,
          response: { 201: Client, ...problems },
        },
      },
      async (request, reply) => {
        const { fingerprint, name, roles, desks } = request.body;
        const authorities = boundAuthorities(namesOf(ca), request.body);
        const client = { fingerprint, name, roles, desks, authorities };
        const bindingEndsMs = bindingEnds(ca);
        return writeOnce(ca, { request, reply }, { status: 201, show: present.client }, (command) =>
          ca.clients.add({ ...command, client, bindingEndsMs }),
        );
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
          ca.clients.revoke({ ...command, fingerprint }),
        );
      },
    );

    app.post(
      '/clients/:fingerprint/binding',
      {
        config,
        schema: {
          summary: 'Bind a client to other roles and desks, or for longer: a binding lasts a year from now',
          headers: IdempotencyHeaders,
          params: FingerprintParams,
          body: Rebind,
          response: { 200: Client, ...problems },
        },
      },
      async (request, reply) => {
        const { params, body: named } = request;
        const bound = { ...params, named, known: namesOf(ca), bindingEndsMs: bindingEnds(ca) };
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
            'Renew the certificate that the caller uses: the new one is bound to the same, the old one ends a day later',
          headers: IdempotencyHeaders,
          body: RenewalRequest,
          response: { 201: RenewedShape, ...problems },
        },
      },
      async (request, reply) => renew(ca, request, reply, request.body.request),
    );
  };

const namesOf = ({ authorities }: CertificateAuthority): string[] => authorities.all.map(({ name }) => name);

const bindingEnds = ({ config: { limits }, machineClock }: CertificateAuthority): number =>
  machineClock.wallMs() + durationMs(limits.clientBinding);

/** The story of a renewal: a proven key, a certificate for it, and the binding of the old one, all on record. */
async function renew(
  ca: CertificateAuthority,
  request: FastifyRequest,
  reply: FastifyReply,
  encoded: string,
): Promise<FastifyReply> {
  const { fingerprint } = callerOf(request);
  const show = ({ certificate, ...client }: RenewedClient) => ({
    ...present.client(client),
    certificate: present.pem(Buffer.from(certificate, 'base64')),
  });
  return writeOnce(ca, { request, reply }, { status: 201, show }, async (command) => {
    const before = await ca.clients.client(fingerprint);
    if (!before) throw new PkiError('unauthenticated', 'no such client');
    if (before.term?.renewedBy != null)
      throw new PkiError('illegal-transition', 'the certificate was renewed already: use the new one');
    const { publicKey } = parseCertificationRequest(Buffer.from(encoded, 'base64'), 'request', keyTypes);
    const certificate = await ca.certifyClient(before.name, publicKey);
    const { limits } = ca.config;
    const nowMs = ca.machineClock.wallMs();
    const renewed = await ca.clients.renew({
      ...command,
      fingerprint,
      certificate,
      oldEndsMs: nowMs + durationMs(limits.clientOverlap),
      bindingEndsMs: before.addedMs + durationMs(limits.clientBinding),
    });
    request.log.info({ client: fingerprint, name: before.name }, 'a client renewed its certificate');
    return renewed;
  });
}
