import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import type { CertificateAuthority } from '../issue.ts';
import { answerOnce, IdempotencyHeaders, problems, replySealer } from './answer.ts';
import { callerOf, scopeOf } from './caller.ts';
import * as present from './present.ts';
import { AddClient, Client, Fingerprint } from './schema.ts';

const config = { roles: ['administrator'] } as const;

export const administrationRoutes =
  (ca: CertificateAuthority): FastifyPluginAsyncTypebox =>
  async (app) => {
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
        const { actor } = callerOf(request);
        const scope = await scopeOf(ca, request, request.headers['idempotency-key']);
        const seal = await replySealer(ca, scope);
        const { fingerprint, name, roles, desks } = request.body;
        return answerOnce(ca, reply, scope, () =>
          ca.store.addClient({
            scope,
            actor,
            client: { fingerprint, name, roles, desks },
            reply: (client) => seal(201, present.client(client)),
          }),
        );
      },
    );

    app.post(
      '/clients/:fingerprint/revocation',
      {
        config,
        schema: {
          summary: 'Shut a client out, from its next request on',
          headers: IdempotencyHeaders,
          params: Type.Object({ fingerprint: Fingerprint }),
          response: { 200: Client, ...problems },
        },
      },
      async (request, reply) => {
        const { actor } = callerOf(request);
        const scope = await scopeOf(ca, request, request.headers['idempotency-key']);
        const seal = await replySealer(ca, scope);
        const { fingerprint } = request.params;
        return answerOnce(ca, reply, scope, () =>
          ca.store.revokeClient({
            scope,
            actor,
            fingerprint,
            reply: (client) => seal(200, present.client(client)),
          }),
        );
      },
    );
  };
