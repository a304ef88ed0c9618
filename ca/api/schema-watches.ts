import { Type } from 'typebox';
import { base64, closed, instant, nullable, Reference } from './schema-values.ts';

// What verifiers watch, and what they learn of certificates that they have received.

/** Watches in one request: as many receipts as fit into its octets. */
export const watchesAtOnce = 25;

const receipt = base64('CMS of a Receipt, made with the key of the certificate', 8192);

export const reference = Type.String({
  pattern: '^[\\x20-\\x7e]{1,100}$',
  description: 'the verifier’s own name for it, such as a private id (民間ID); its notices have it',
});

export const WatchOne = Type.Object(
  {
    receipt,
    reference: Type.Optional(reference),
  },
  closed,
);

export const WatchMany = Type.Object(
  { watches: Type.Array(WatchOne, { minItems: 1, maxItems: watchesAtOnce }) },
  closed,
);

export const Watch = Type.Object({
  ...Reference.properties,
  reference: nullable(Type.String()),
  createdAt: instant('since when'),
});

export const WatchResult = Type.Object({
  watch: nullable(Watch),
  problem: nullable(Type.Object({ title: Type.String(), detail: Type.String() })),
});

export const AskLink = Type.Object(
  {
    receipt,
    link: Type.Enum(['pair', 'successor'], {
      description:
        'pair: the other certificate of the same card or phone; successor: the one of the same kind that came next',
    }),
  },
  closed,
);

export const Link = Type.Object({ ...Reference.properties, kind: Type.String() });

export const FetchNotices = Type.Object(
  {
    received: Type.Optional(
      Type.Array(Type.String({ pattern: '^[0-9a-f-]{36}$' }), {
        maxItems: 500,
        uniqueItems: true,
        description: 'notices of before, by messageId: they are not given again',
      }),
    ),
  },
  closed,
);

export const VerifierNotice = Type.Object({
  messageId: Type.String(),
  ...Reference.properties,
  kind: Type.String(),
  occasion: Type.String({ description: 'issued, revoked, held, released, expired, succeeded' }),
  reason: nullable(Type.String()),
  reference: nullable(Type.String()),
  createdAt: instant('when it happened'),
});
