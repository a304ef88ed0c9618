import { type Static, Type } from 'typebox';
import { deskFunctions, deskKinds } from '../../core/model/desk.ts';
import { closed, instant, nullable } from './schema-values.ts';

// Desks, as administrators record them.

export const DeskCode = Type.String({
  pattern: '^[0-9A-Z]{9}$',
  description: 'the desk (受付窓口識別記号)',
});

/** Of a municipality, with or without its check digit. */
export const MunicipalityCode = Type.String({
  pattern: '^[0-9]{5}[0-9]?$',
  description: 'JIS X 0401/0402 code, with or without its check digit',
});

/** Municipalities that something is bound to. */
export const Municipalities = Type.Array(Type.Union([Type.Literal('*'), MunicipalityCode]), {
  minItems: 1,
  uniqueItems: true,
});

const Functions = Type.Array(Type.Enum([...deskFunctions]), { minItems: 1, uniqueItems: true });

export const RecordDesk = Type.Object(
  {
    deskCode: DeskCode,
    kind: Type.Enum([...deskKinds]),
    municipalityCode: Type.Optional({
      ...MunicipalityCode,
      description: 'whose it is, or who delegated to it; of counters, post offices and visits',
    }),
    functions: Type.Optional({
      ...Functions,
      description: 'what may be done there; default: all that its kind may',
    }),
    municipalities: Type.Optional({
      ...Municipalities,
      description:
        'for whose holders it acts; default: its own municipality’s, and where it has none *, the nation’s',
    }),
    actsPerDay: Type.Optional(
      Type.Integer({ minimum: 1, description: 'acts in one day in Japan; default: as many as come' }),
    ),
    validFrom: Type.Optional(Type.String({ format: 'date-time', description: 'RFC 3339; default: now' })),
    validTo: Type.Optional(Type.String({ format: 'date-time', description: 'RFC 3339; default: for ever' })),
  },
  closed,
);
export type RecordDeskBody = Static<typeof RecordDesk>;

export const Desk = Type.Object({
  deskCode: Type.String(),
  kind: Type.Enum([...deskKinds]),
  municipalityCode: nullable(Type.String({ description: 'whose it is, or who delegated to it' })),
  functions: Type.Array(Type.Enum([...deskFunctions])),
  municipalities: Type.Array(Type.String(), { description: '* is the nation' }),
  actsPerDay: nullable(Type.Integer()),
  validFrom: instant('from when on it may act'),
  validTo: nullable(instant('until when')),
  suspendedAt: nullable(instant('since when it may do nothing')),
  changedAt: instant('when it was recorded, or suspended'),
});

const identifier = (what: string) => Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$', description: what });
/** As many as fit into one request. */
const orderMax = 500;

export const OrderCards = Type.Object(
  {
    deskCode: DeskCode,
    event: Type.String({ pattern: '^[a-z][a-z-]{0,63}$', description: 'by which certificates are replaced' }),
    cards: Type.Array(
      Type.Object(
        {
          holderId: identifier('whose card it is'),
          cardId: identifier('the new card'),
          replacesCardId: identifier('the card whose place it takes'),
        },
        closed,
      ),
      { minItems: 1, maxItems: orderMax },
    ),
  },
  closed,
);
export type OrderCardsBody = Static<typeof OrderCards>;

export const CardOrder = Type.Object({
  orderId: Type.String(),
  cards: Type.Integer(),
  expiresAt: instant('when its cards can no longer be issued to'),
});
