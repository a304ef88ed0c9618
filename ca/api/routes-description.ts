import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { errorStatus } from '../../core/runtime/errors.ts';
import { problems } from './answer.ts';
import { problemTypes } from './problem-types.ts';

const config = { polled: true } as const;

/** What the API says of itself. */
export const descriptionRoutes = (): FastifyPluginAsyncTypebox => async (app) => {
  app.get(
    '/openapi.json',
    {
      config,
      schema: {
        summary: 'This API, as OpenAPI 3.1',
        response: { 200: Type.Object({}, { additionalProperties: true }), ...problems },
      },
    },
    async (_, reply) => {
      const document = JSON.stringify((app as unknown as { swagger(): object }).swagger());
      return reply
        .type('application/json')
        .serializer((text: string) => text)
        .send(document as unknown as Record<string, never>);
    },
  );
  app.get(
    '/problems',
    {
      config,
      schema: {
        summary: 'Every type of problem that this API answers, what it means, and what the caller does',
        response: {
          200: Type.Object({
            problems: Type.Array(
              Type.Object({
                type: Type.String(),
                status: Type.Integer(),
                meaning: Type.String(),
                act: Type.String(),
              }),
            ),
          }),
          ...problems,
        },
      },
    },
    async () => ({
      problems: Object.entries(problemTypes).map(([code, of]) => ({
        type: `urn:warifu:problem:${code}`,
        status: errorStatus[code as keyof typeof errorStatus],
        ...of,
      })),
    }),
  );
};
