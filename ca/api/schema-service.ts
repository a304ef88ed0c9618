import { Type } from 'typebox';
import { Authority, instant, nullable } from './schema-values.ts';

// What an operator looks at: who one is, what there is, and how it goes.

export const CallerShape = Type.Object({
  clientId: Type.String(),
  name: nullable(Type.String({ description: 'as it was bound; null where it has none' })),
  kind: Type.Enum(['person', 'system']),
  roles: Type.Array(Type.String()),
  desks: Type.Array(Type.String()),
  municipalities: Type.Array(Type.String()),
  mode: Type.Enum(['development', 'production']),
  purposes: Type.Array(Type.String(), { description: 'for which holders may be looked up (Warifu-Purpose)' }),
  events: Type.Array(Type.Object({ event: Type.String(), target: Type.Enum(['holder', 'card', 'phone']) }), {
    description: 'events of the policy table, and to what each happens',
  }),
  proposals: Type.Integer({
    minimum: 0,
    description: 'how many requests wait for a second person that it may see',
  }),
  purposeRequired: Type.Boolean({ description: 'whether a look-up has to name one' }),
});

const count = (description: string) => Type.Integer({ minimum: 0, description });

export const ServiceShape = Type.Object({
  node: Type.String({ description: 'the CA node that answers' }),
  startedAt: instant('when it started'),
  at: instant('the record’s time of this answer'),
  authorities: Type.Array(
    Type.Object({
      authority: Authority,
      slot: Type.Enum(['signing', 'authentication']),
      generation: Type.Integer(),
      suite: Type.String({ description: 'key and signature' }),
      notBefore: instant('of its certificate'),
      notAfter: instant('of its certificate'),
      issuing: Type.Boolean({
        description:
          'whether it issues certificates now; an older one still answers for those that it issued',
      }),
    }),
  ),
  nodes: Type.Array(
    Type.Object({
      node: Type.String(),
      behind: nullable(
        Type.Integer({
          description: 'events that this node knows and that one has not applied; null where it has not said',
        }),
      ),
    }),
    { description: 'the other CA nodes on this record that may give answers' },
  ),
  followers: Type.Array(
    Type.Object({
      clientId: Type.String(),
      name: nullable(Type.String()),
      connectedAt: instant('since when it follows'),
      knownTo: nullable(instant('up to when it has been sent everything; null before it has caught up')),
      lagSeconds: nullable(Type.Number({ description: 'how long ago that was' })),
    }),
    { description: 'OCSP and CRL nodes elsewhere that follow this CA node' },
  ),
  counts: Type.Object(
    {
      certificates: count('signatures of certificates'),
      crls: count('signatures of CRLs'),
      others: count('signatures of the audit chain, notices and filters'),
      waiting: count('signatures that wait now'),
      ocspAnswers: count('answers of the OCSP responder in this process'),
    },
    { description: 'since the start' },
  ),
});

export const CrlsShape = Type.Object({
  crls: Type.Array(
    Type.Object({
      path: Type.String({ description: 'below the address of CRLs' }),
      number: Type.Integer({ description: 'CRLNumber' }),
      octets: Type.Integer(),
      thisUpdate: instant('of the complete CRL'),
      nextUpdate: instant('of the complete CRL'),
      deltaNextUpdate: nullable(instant('of the delta CRL; null where there is none')),
    }),
  ),
  next: nullable(Type.String({ description: '`after` of the next page; null where there is none' })),
});
