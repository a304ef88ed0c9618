import { type Static, Type } from 'typebox';
import { exportKinds } from '../../store/api/operations-store.ts';
import { closed, instant, nullable } from './schema-values.ts';

// Who looked holders up, and what is read in bulk.

export const AllowExport = Type.Object(
  {
    what: Type.Enum([...exportKinds], {
      description: 'renewals: the holders in GET /v1/renewals; accesses: who looked one holder up',
    }),
    holderId: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' })),
    ground: Type.String({ minLength: 1, maxLength: 200, description: 'the law, and the matter' }),
  },
  closed,
);

export type AllowExportBody = Static<typeof AllowExport>;

export const AllowedExport = Type.Object({
  exportId: Type.String({ description: '`export` of the request that it is for' }),
  expiresAt: instant('when it is allowed no more'),
});

export const HolderAccesses = Type.Object({
  accesses: Type.Array(
    Type.Object({
      at: instant('when, or when last on that day'),
      times: Type.Integer({ description: 'in that day' }),
      kind: Type.Enum(['person', 'system', 'verifier']),
      name: nullable(
        Type.String({ description: 'of a system or verifier; persons are known by where they act' }),
      ),
      role: Type.String(),
      actsFor: Type.Array(Type.String(), { description: 'desks, or municipalities; * is the nation' }),
      purpose: nullable(Type.String()),
      route: Type.String({ description: 'what was asked' }),
    }),
    { description: 'by client, purpose, route and day, the latest first; 5,000 at most' },
  ),
  queries: Type.Array(
    Type.Object({
      verifier: Type.String(),
      purpose: nullable(Type.String()),
      day: Type.String({ description: 'YYYY-MM-DD in Japan' }),
    }),
    { description: 'what verifiers reported to have asked; for the holder alone' },
  ),
});
