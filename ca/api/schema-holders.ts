import { Type } from 'typebox';
import { Authority, CertificateSummary, SerialNumber } from './schema.ts';
import { DeskCode } from './schema-desks.ts';
import { base64, closed, identifier, instant, nullable } from './schema-values.ts';

// What desks and the TSM decide of holders.

export const ProposeCorrection = Type.Object(
  {
    deskCode: Type.Optional({
      ...DeskCode,
      description: 'the desk that proposes it; default: the only one of the client',
    }),
    note: Type.String({
      minLength: 1,
      maxLength: 500,
      pattern: '^[^\\u0000-\\u001f\\u007f]+$',
      description: 'what was wrong, for the client that approves; no personal data',
    }),
  },
  closed,
);

export const Correction = Type.Object({
  correctionId: Type.String(),
  holderId: Type.String(),
  note: Type.String(),
  closedBy: Type.String({ description: 'the event that it undoes' }),
  closedAt: instant('when that occurred'),
  state: Type.Enum(['proposed', 'approved', 'withdrawn']),
  proposedBy: Type.String({ description: 'fingerprint of the client' }),
  proposedAt: instant('when it was proposed'),
  approvedBy: nullable(Type.String()),
  approvedAt: nullable(instant('when it was approved')),
});

export const GiveCode = Type.Object(
  {
    holderId: identifier('the holder, who stands at the desk'),
    cardId: identifier('the holder’s card'),
    deskCode: Type.String({ pattern: '^[0-9A-Z]{9}$', description: 'desk that identified the holder' }),
  },
  closed,
);

export const EnrolmentCode = Type.Object({
  code: Type.String({ description: 'for the holder; usable once' }),
  expiresAt: instant('when it can no longer be used'),
});

export const ConfirmStorage = Type.Object(
  {
    stored: Type.Boolean({ description: 'false: the certificates could not be stored, and are revoked' }),
    applet: Type.Optional(
      Type.Object(
        {
          instanceId: Type.String({
            pattern: '^([0-9a-f]{2}){5,16}$',
            description: 'AID of the instance, hex',
          }),
          version: Type.String({ pattern: '^[\\x21-\\x7e]{1,64}$', description: 'version of the applet' }),
        },
        { ...closed, description: 'the applet that holds the keys; kept with the phone' },
      ),
    ),
    dryRun: Type.Optional(Type.Boolean({ description: 'answer the plan, act on nothing' })),
    planHash: Type.Optional(
      Type.String({ pattern: '^[0-9a-f]{64}$', description: 'act only if the plan is still this one' }),
    ),
  },
  closed,
);

export const Adopted = Type.Object({
  certificates: Type.Array(
    Type.Intersect([CertificateSummary, Type.Object({ adoptedAt: instant('when the restore was') })]),
  ),
  next: nullable(Type.String({ description: 'for `after`; null on the last page' })),
});

export const BindAdopted = Type.Object(
  {
    holderId: identifier('the holder'),
    cardId: Type.Optional(identifier('the card that carries it')),
    deviceId: Type.Optional(identifier('or the phone')),
    restsOn: Type.Optional(
      Type.Object(
        { authority: Authority, serialNumber: SerialNumber },
        { ...closed, description: 'of a phone: the card’s certificate, where the record does not know it' },
      ),
    ),
    certificate: base64('the certificate, DER, as its issuer or holder kept it', 16_384),
  },
  closed,
);
