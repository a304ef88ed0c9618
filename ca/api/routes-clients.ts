import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { durationMs } from '../../core/config/duration.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { IdempotencyHeaders, problems, proposed, writeOnce } from './answer.ts';
import { callerOf, refuseSystemToApprove } from './caller.ts';
import {
  bindingEnds,
  enrol,
  enrolmentIn,
  keyIn,
  municipalitiesOtherwise,
  namesOf,
  proven,
  refuseUnknownDesks,
  remaining,
  renew,
  townsNamed,
} from './client-enrolment.ts';
import * as present from './present.ts';
import { AddClient, Client, Fingerprint, roles } from './schema.ts';
import {
  AnotherCertificate,
  CertifiedClient,
  CertifyClient,
  EnrolledClient,
  Rebind,
} from './schema-clients.ts';

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
        config: { ...config, approval: enrolmentIn(ca), plan: keyIn },
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
        config: { ...config, lane: 'revocation' },
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
  };

/** What clients are bound to, and certified for, by administrators. */
export const clientRightRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
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
        await refuseUnknownDesks(ca, named.desks);
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

    app.post(
      '/clients/:fingerprint/certificates',
      {
        config: {
          ...config,
          approval: ({ body }) => {
            proven((body as { readonly request: string }).request);
            return 'client-rights';
          },
          plan: keyIn,
        },
        schema: {
          summary:
            'One more certificate for a client, for a key of its own: where it has lost those that it had',
          headers: IdempotencyHeaders,
          params: FingerprintParams,
          body: CertifyClient,
          response: { 201: CertifiedClient, ...proposed, ...problems },
        },
      },
      async (request, reply) => {
        const { fingerprint } = request.params;
        const presentation = { status: 201, show: present.certifiedClient };
        return writeOnce(ca, { request, reply }, presentation, async (command) => {
          const before = await ca.clients.client(fingerprint);
          if (!before) throw new PkiError('not-found', 'no such client');
          const certificate = await ca.certifyClient(before.name, proven(request.body.request));
          const bindingEndsMs = bindingEnds(ca);
          const another = { ...command, fingerprint, certificate, bindingEndsMs };
          return ca.clients.addCertificate({ ...another, isAskedByItself: false });
        });
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
        refuseSystemToApprove(ca, request);
        const bindingMs = durationMs(ca.config.limits.clientBinding);
        return writeOnce(ca, { request, reply }, { show: present.client }, (command) =>
          ca.clients.confirm({ ...command, fingerprint, bindingMs }),
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
        config: { roles, lane: 'revocation' },
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
