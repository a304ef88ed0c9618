import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { problems } from './answer.ts';
import type { Observed } from './observed.ts';

/** Asked every second by each node that serves CRLs. */
const config = { roles: ['follower'], polled: true } as const;

/** Octets of a path of a CRL, at most; shards are named after kinds, generations, towns and numbers. */
const pathMax = 200;

const Octets = Type.String({ contentEncoding: 'base64' });

/** What is published, for CRL nodes elsewhere that have no key of an authority. */
export const publishedRoutes =
  (observed: Pick<Observed, 'published'>): FastifyPluginAsyncTypebox =>
  async (app) => {
    app.get(
      '/feed/crls',
      {
        config,
        schema: {
          summary: 'Which CRLs are published with a greater number than that, for nodes that serve them',
          querystring: Type.Object(
            {
              above: Type.String({
                pattern: '^[0-9]{1,15}$',
                description: 'the greatest CRL number of those that are known',
              }),
            },
            { additionalProperties: false },
          ),
          response: {
            200: Type.Object({
              crls: Type.Array(Type.Object({ path: Type.String(), number: Type.Integer() })),
            }),
            ...problems,
          },
        },
      },
      async (request, reply) => {
        void reply.header('Cache-Control', 'no-store');
        return { crls: [...(await observed.published.above(Number(request.query.above)))] };
      },
    );
    app.get(
      '/feed/crl',
      {
        config,
        schema: {
          summary:
            'The CRLs of one shard that fit each other: complete, base of the delta where that is another, delta',
          querystring: Type.Object(
            { path: Type.String({ maxLength: pathMax, description: 'as /feed/crls names it' }) },
            { additionalProperties: false },
          ),
          response: {
            200: Type.Object({
              crl: Type.Union([
                Type.Object({
                  path: Type.String(),
                  number: Type.Integer(),
                  described: Type.String({ description: 'what the publisher knows of them, JSON' }),
                  complete: Octets,
                  base: Type.Union([Octets, Type.Null()]),
                  delta: Type.Union([Octets, Type.Null()]),
                }),
                Type.Null(),
              ]),
            }),
            ...problems,
          },
        },
      },
      async (request, reply) => {
        void reply.header('Cache-Control', 'no-store');
        const crl = await observed.published.get(request.query.path);
        if (!crl) return { crl: null };
        const { path, number, described, complete, base, delta } = crl;
        const text = (octets: Uint8Array): string => Buffer.from(octets).toString('base64');
        return {
          crl: {
            ...{ path, number, described, complete: text(complete) },
            ...{ base: base && text(base), delta: delta && text(delta) },
          },
        };
      },
    );
  };
