import { Type } from 'typebox';
import { noticeOccasions, orderTypes } from '../../store/api/outbox-store.ts';
import { languages } from '../../store/api/preference-store.ts';
import { Authority, SerialNumber } from './schema.ts';
import { base64, closed, instant, nullable } from './schema-values.ts';

// Orders and notices, as operators and receivers see them.

export const MessageState = Type.Enum(['waiting', 'delivered', 'confirmed', 'dead']);

export const Message = Type.Object({
  messageId: Type.String(),
  type: Type.Enum([...orderTypes, 'holder-notice', 'verifier-notice', 'town-notice']),
  destination: Type.String({ description: 'tsm, holder, towns, or the name of a verifier' }),
  authority: Authority,
  serialNumber: SerialNumber,
  kind: Type.String(),
  occasion: Type.String(),
  reason: nullable(Type.String()),
  deviceId: nullable(Type.String({ description: 'the phone of an order' })),
  instance: Type.Optional(
    nullable(
      Type.String({ description: 'the applet’s instance of an order: the issuance that brought the key' }),
    ),
  ),
  createdAt: instant('when it happened'),
  state: MessageState,
  attempts: Type.Integer(),
  dueAt: nullable(instant('when it is tried next')),
  lastError: nullable(Type.String({ description: 'why the last attempt failed' })),
  deliveredAt: nullable(instant('when it was first taken')),
  confirmedAt: nullable(instant('when it was confirmed')),
});

export const SignedWishes = Type.Object(
  {
    signedWishes: base64(
      'CMS SignedData over NoticeWishes, by the signing key of card or phone, DER',
      16_384,
    ),
  },
  closed,
);

export const ConfirmAddress = Type.Object(
  { code: Type.String({ pattern: '^[0-9A-Za-z]{8}$', description: 'that was sent to the address' }) },
  closed,
);

export const NoticesSet = Type.Object({
  occasions: Type.Array(Type.Enum(noticeOccasions)),
  by: Type.Enum(['mail', 'portal'], { description: 'where notices go now' }),
  language: Type.Enum(languages),
  confirmBy: nullable(
    instant('until when the code that was sent to a new address confirms it; null where none waits'),
  ),
});

export const Noted = Type.Object({ noted: Type.Literal(true) });
