import { Type } from 'typebox';
import { DeskCode, MunicipalityCode } from './schema-desks.ts';
import {
  Authority,
  base64,
  closed,
  day,
  identifier,
  instant,
  Kind,
  nullable,
  Reason,
  Reference,
  SerialNumber,
} from './schema-values.ts';

// Shapes of what ends, and of what was reported.

const PlanHash = Type.String({
  pattern: '^[0-9a-f]{64}$',
  description: 'SHA-256 of all that a plan does, its times apart',
});
export const dryRun = {
  dryRun: Type.Optional(Type.Boolean({ description: 'answer the plan, act on nothing' })),
  planHash: Type.Optional({ ...PlanHash, description: 'act only if the plan is still this one' }),
};

export const EventId = Type.String({
  pattern: '^[A-Za-z0-9._:-]{1,64}$',
  description: 'the caller’s own id of the event: it happens once, for ever',
});
export const OccurredAt = Type.String({
  format: 'date-time',
  description: 'when it occurred, RFC 3339; default: now',
});

export const ReportEvent = Type.Object(
  {
    event: Type.String({ pattern: '^[a-z-]{1,64}$', description: 'an event of the policy table' }),
    holderId: Type.Optional(identifier('the holder it happened to')),
    cardId: Type.Optional(identifier('the card it happened to')),
    deviceId: Type.Optional(identifier('the phone it happened to')),
    eventId: Type.Optional(EventId),
    occurredAt: Type.Optional(OccurredAt),
    cardExpiresOn: Type.Optional(day('the card’s new last day, where the event moves it')),
    municipalityCode: Type.Optional({
      ...MunicipalityCode,
      description:
        'where the holder moved to, where the event is a move: that municipality issues from now on',
    }),
    deskCode: Type.Optional({
      ...DeskCode,
      description: 'the desk that reports it; default: the only one of the client',
    }),
    ...dryRun,
  },
  { ...closed, description: 'exactly one of holderId, cardId, deviceId' },
);

export const ChangeCertificate = Type.Object(
  {
    deskCode: Type.Optional({
      ...DeskCode,
      description: 'the desk that does it; default: the only one of the client',
    }),
    action: Type.Enum(['revoke', 'hold', 'release']),
    reason: Type.Optional(Reason),
    invalidityDate: Type.Optional(
      Type.String({ format: 'date-time', description: 'when the key was compromised, if known' }),
    ),
    heldBy: Type.Optional(
      Type.String({
        pattern: '^[a-z0-9:-]{1,100}$',
        description: 'the hold that a release ends; default: the caller’s own, or the only one of an event',
      }),
    ),
    ...dryRun,
  },
  closed,
);

export const BlockKey = Type.Object(
  {
    keyHash: Type.Optional(
      Type.String({
        pattern: '^[0-9a-f]{64}$',
        description: 'SHA-256 of the key material: modulus ‖ exponent of an RSA key, 04 ‖ x ‖ y of an EC key',
      }),
    ),
    publicKey: Type.Optional(base64('SubjectPublicKeyInfo, DER', 2048)),
    ...dryRun,
  },
  { ...closed, description: 'exactly one of keyHash, publicKey' },
);

export const Status = Type.Object({
  state: Type.Enum(['reserved', 'good', 'held', 'revoked', 'retired']),
  reason: nullable(Type.String()),
  revokedAt: nullable(instant('when it was held or revoked')),
  invalidityDate: nullable(instant('when its key was compromised')),
  heldBy: Type.Array(Type.String(), {
    description: 'what holds it: event:NAME, operator:CLIENT, restriction:ID, not-delivered',
  }),
});

export const Cause = Type.Object({
  event: Type.String(),
  cascadedFrom: nullable(Reference),
  partOf: nullable(Type.String({ description: 'issuance:ID of what took its place, or restriction:ID' })),
  occurredAt: Type.Optional(nullable(instant('when the event occurred, where that was stated'))),
});

export const Changed = Type.Object({
  dryRun: Type.Boolean(),
  planHash: PlanHash,
  changes: Type.Array(
    Type.Object({
      authority: Authority,
      serialNumber: SerialNumber,
      kind: Kind,
      from: Status,
      to: Status,
      cause: Cause,
    }),
  ),
  orders: Type.Array(
    Type.Object({
      type: Type.Literal('remote-deletion'),
      deviceId: Type.String(),
      authority: Authority,
      serialNumber: SerialNumber,
    }),
  ),
  reissue: Type.Array(Type.Object({ kind: Kind, mediumId: Type.String() }), {
    description: 'certificates that the holder needs replacements for',
  }),
  // Not in answers of earlier versions, which are replayed for some days.
  knownEverywhereBy: Type.Optional(
    nullable(
      instant(
        'when no OCSP node gives an answer any more that was signed before this; null where nothing ceased or was held',
      ),
    ),
  ),
  standing: Type.Optional(
    nullable(Type.String({ description: 'what becomes of the holder: closes, leaves, returns, …' })),
  ),
  confirmed: Type.Optional(Type.Array(Type.String(), { description: 'issuances that have arrived' })),
  awaited: Type.Optional(
    Type.Boolean({ description: 'nothing of this happens before what is issued has arrived' }),
  ),
  cardExpiresAt: Type.Optional(nullable(instant('the card’s last moment from now on, where it moves'))),
});
