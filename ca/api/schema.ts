import { type Static, Type } from 'typebox';
import { DeskCode, MunicipalityCode } from './schema-desks.ts';
import {
  type BlockKey,
  Cause,
  type ChangeCertificate,
  dryRun,
  EventId,
  OccurredAt,
  Status,
} from './schema-events.ts';
import { Problem } from './schema-problem.ts';
import {
  Authority,
  base64,
  closed,
  day,
  identifier,
  instant,
  Kind,
  nullable,
  Reference,
  SerialNumber,
} from './schema-values.ts';

export * from './schema-clients.ts';
export * from './schema-events.ts';
export { Authority, SerialNumber } from './schema-values.ts';

// The API's shapes: validated by the server, and the source of the OpenAPI document.

export const IssueToCard = Type.Object(
  {
    holderId: identifier('stable pseudonym from the population register; never the My Number'),
    cardId: identifier('the card'),
    cardExpiresOn: day('the card’s last day'),
    municipalityCode: MunicipalityCode,
    deskCode: { ...DeskCode, description: 'desk that identified the holder (受付窓口識別記号)' },
    basicFour: Type.Optional(
      Type.Object(
        {
          name: Type.String({
            maxLength: 1000,
            description: 'surname and given name, parted by a full-width space; or one word',
          }),
          address: Type.String({ maxLength: 1000, description: 'from the prefecture, without postcode' }),
          birthDate: day('birth date, Gregorian; 00 for a day, or a month and day, that is not known'),
          birthEraUnknown: Type.Optional(Type.Boolean({ description: 'the register does not know the era' })),
          sex: Type.Enum(['male', 'female', 'other']),
          nameSubstitution: Type.Optional(
            Type.String({ maxLength: 1000, description: 'one 0 or 1 a character' }),
          ),
          addressSubstitution: Type.Optional(
            Type.String({ maxLength: 1000, description: 'one 0 or 1 a character' }),
          ),
          nameReading: Type.Optional(
            Type.String({
              maxLength: 1000,
              description: 'reading of the name in katakana; kept, in no certificate',
            }),
          ),
          nameRoman: Type.Optional(
            Type.String({ maxLength: 1000, description: 'Roman form of the name; kept, in no certificate' }),
          ),
        },
        { ...closed, description: 'wanted with a signing certificate' },
      ),
    ),
    requests: Type.Object(
      {
        signing: Type.Optional(base64('PKCS#10 request, DER', 8192)),
        authentication: Type.Optional(base64('PKCS#10 request, DER', 8192)),
      },
      {
        ...closed,
        description: 'both; signing alone, to replace a revoked one; or authentication alone',
      },
    ),
    authenticationOnly: Type.Optional(
      Type.Boolean({ description: 'the holder may not, or does not want to, have a signing certificate' }),
    ),
    event: Type.Optional(
      Type.String({
        pattern: '^[a-z-]{1,64}$',
        description: 'event of the policy table by which these take the place of what it revokes, in one act',
      }),
    ),
    eventId: Type.Optional(EventId),
    occurredAt: Type.Optional(OccurredAt),
    replacesCardId: Type.Optional(identifier('the card that is replaced; cardId by default')),
    handedOver: Type.Optional(
      Type.Boolean({ description: 'the desk hands the card over now: nothing waits for its delivery' }),
    ),
    signedChange: Type.Optional(
      base64(
        'CMS SignedData over a CardChange, made with the signing key of the card whose certificates are replaced: then no second person is wanted, and a holder can move here',
        32_768,
      ),
    ),
    ...dryRun,
  },
  closed,
);

const keyAttestation = Type.Optional(
  Type.Array(base64('certificate, DER', 8192), {
    maxItems: 8,
    description: 'Android Key Attestation of a companion key, leaf first',
  }),
);

export const IssueToPhone = Type.Object(
  {
    deviceId: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$', description: 'the phone' }),
    signedEnrolment: base64(
      'CMS SignedData over a PhoneEnrolment, made with the card’s signing key; with an enrolmentCode, with its authentication key',
      32_768,
    ),
    enrolmentCode: Type.Optional(
      Type.String({
        pattern: '^[0-9A-HJKMNP-TV-Z]{16}$',
        description:
          'of a desk, where the card has no signing certificate: then the card’s authentication key signs',
      }),
    ),
    ...dryRun,
    deviceEvidence: Type.Optional(
      Type.Object(
        {
          keyAttestation,
          secureElementStatement: Type.Optional(
            base64('CMS SignedData of the SP-TSM over a SecureElementStatement', 32_768),
          ),
          verdictTokens: Type.Optional(
            Type.Record(
              Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }),
              Type.String({ maxLength: 8192 }),
              {
                description: 'by the provider’s name',
              },
            ),
          ),
        },
        { ...closed, description: 'what says of the phone what it is' },
      ),
    ),
  },
  closed,
);

export const ReportDevice = Type.Object(
  {
    signedReport: base64(
      'CMS SignedData over a DeviceReport, made with the phone’s authentication key',
      32_768,
    ),
    deviceEvidence: Type.Optional(
      Type.Object(
        { keyAttestation },
        {
          ...closed,
          description: 'what says so besides the phone: a key attested over SHA-256 of the DeviceReport',
        },
      ),
    ),
  },
  closed,
);

const reportedVersion = (description: string) => nullable(Type.String({ description }));

export const DeviceReported = Type.Object({
  deviceId: Type.String({ description: 'the phone' }),
  osVersion: Type.String(),
  patchLevel: Type.String({ description: 'empty where the platform has none' }),
  appletVersion: reportedVersion('of the applet; null where it was never said'),
  appVersion: reportedVersion('of the app; null where it was never said'),
  state: Type.Enum(['good', 'held', 'revoked'], {
    description: 'of the certificate that signed, by what is known now',
  }),
});

export const RevokePhone = Type.Object(
  {
    signedRevocation: base64(
      'CMS SignedData over a PhoneRevocation, made with either of the phone’s keys',
      32_768,
    ),
    ...dryRun,
  },
  closed,
);

export const Issued = Type.Object({
  issuanceId: Type.String(),
  holderId: Type.String(),
  certificates: Type.Array(
    Type.Object({
      kind: Kind,
      authority: Authority,
      serialNumber: SerialNumber,
      notBefore: instant('notBefore'),
      notAfter: instant('notAfter'),
      certificate: Type.String({ description: 'PEM' }),
    }),
  ),
  replaced: Type.Array(Reference, {
    description:
      'certificates whose place these take: at once, when their overlap has passed, or when these have arrived',
  }),
  awaited: Type.Boolean({
    description: 'these are held until their delivery or storage is confirmed',
  }),
});

export const CertifyResponder = Type.Object(
  {
    authority: Authority,
    request: base64('PKCS#10 of a key in the responder’s token: RSA-2048, P-256 or P-384', 8192),
  },
  closed,
);

export const ResponderCertificate = Type.Pick(Issued, ['issuanceId', 'certificates']);

export const AskChallenge = Type.Object({ deskCode: DeskCode }, closed);

export const Challenge = Type.Object({
  challenge: base64('32 random octets, usable once', 64),
  expiresAt: instant('when it can no longer be used'),
});

const certificateSummary = {
  authority: Authority,
  serialNumber: SerialNumber,
  kind: Kind,
  holderId: nullable(Type.String()),
  mediumId: nullable(Type.String()),
  status: Status,
  notBefore: instant('notBefore'),
  notAfter: instant('notAfter'),
  restsOn: nullable(Reference),
};

export const CertificateSummary = Type.Object(certificateSummary);
export const CertificateDetail = Type.Object({
  ...certificateSummary,
  certificate: nullable(
    Type.String({ description: 'PEM; null while it is only reserved, and once its year was erased' }),
  ),
});

export const Renewals = Type.Object({
  certificates: Type.Array(
    Type.Object({
      ...certificateSummary,
      endsAt: instant('when it ends: with its own last day, or with that of its card'),
      opensAt: nullable(instant('from when on it may be renewed; null where its card is renewed first')),
    }),
  ),
  next: nullable(Type.String({ description: '`after` of the next page; null where there is none' })),
});

export const Holder = Type.Object({
  holderId: Type.String(),
  media: Type.Array(
    Type.Object({
      mediumId: Type.String(),
      type: Type.Enum(['card', 'phone']),
      expiresAt: instant('the medium’s last moment'),
      restsOn: nullable(Type.String()),
      platform: nullable(Type.String()),
      model: nullable(Type.String()),
      osVersion: nullable(Type.String()),
      secureElement: nullable(Type.String()),
      patchLevel: nullable(Type.String()),
      appletVersion: nullable(
        Type.String({ description: 'as the phone said last; null where it never did' }),
      ),
      appVersion: nullable(Type.String({ description: 'the same of its app' })),
      applets: Type.Array(
        Type.Object({
          instance: Type.String({ description: 'the issuance whose keys it holds' }),
          instanceId: Type.String({ description: 'its AID, hex' }),
          version: Type.String(),
        }),
        { description: 'of a phone, as the TSM says' },
      ),
    }),
  ),
  certificates: Type.Array(CertificateSummary),
  standing: nullable(
    Type.Object(
      {
        closedBy: nullable(Type.String({ description: 'the event since which nothing is issued' })),
        reopens: nullable(Type.Enum(['return', 'correction'])),
        signingBarredBy: nullable(
          Type.String({ description: 'the event since which there is no signing certificate' }),
        ),
      },
      { description: 'null where nothing was said of the holder' },
    ),
  ),
});

export const MediumDetail = Type.Object({
  holderId: Type.String(),
  type: Type.Enum(['card', 'phone']),
  id: Type.String({ description: 'cardId or deviceId' }),
  expiresAt: instant('the medium’s last moment'),
  platform: nullable(Type.String()),
  model: nullable(Type.String()),
  osVersion: nullable(Type.String()),
  restsOn: nullable(Type.String({ description: 'of a phone: the card that it was enrolled with' })),
  certificates: Type.Array(CertificateSummary),
});

export const CarriedMedia = Type.Object({
  media: Type.Array(
    Type.Object({
      type: Type.Enum(['card', 'phone']),
      id: Type.String({ description: 'cardId or deviceId, as an event names it' }),
      platform: nullable(Type.String()),
      model: nullable(Type.String()),
      isHeld: Type.Boolean({ description: 'nothing on it is good' }),
    }),
  ),
});

const Actor = Type.Object({
  client: Type.String({ description: 'clientId of who did it; `node:` and a name where the service did' }),
  role: Type.String(),
  requestId: Type.String(),
  desk: Type.Optional(Type.String({ description: 'the desk that it acted for' })),
  approvedBy: Type.Optional(Type.String({ description: 'clientId of the second person who approved it' })),
});

export const History = Type.Object({
  holderId: Type.String(),
  entries: Type.Array(
    Type.Object({
      at: instant('when it was recorded'),
      authority: Authority,
      serialNumber: SerialNumber,
      change: Type.String(),
      reason: nullable(Type.String()),
      cause: Cause,
      actor: Actor,
    }),
  ),
  events: Type.Array(
    Type.Object({
      event: Type.String(),
      mediumId: nullable(Type.String()),
      eventId: nullable(Type.String({ description: 'the caller’s own id of it' })),
      at: instant('when it was recorded'),
      occurredAt: instant('when it occurred'),
      issuanceId: nullable(Type.String({ description: 'the issuance that it was part of' })),
      actor: Actor,
    }),
  ),
});

export const BatchLine = Type.Object(
  {
    idempotencyKey: Type.String({
      pattern: '^[\\x21-\\x7e]{1,64}$',
      description: 'makes a repetition of this line answer what the first one answered',
    }),
    card: IssueToCard,
  },
  { ...closed, description: 'one line of a batch' },
);

export const BatchAnswer = Type.Object({
  idempotencyKey: nullable(
    Type.String({ description: 'that of the line; null where it has none that can be read' }),
  ),
  line: Type.Integer({ description: 'number of the line, from 1' }),
  status: Type.Integer({ description: 'the HTTP status that the same request would have had by itself' }),
  replayed: Type.Boolean({ description: 'the line had been answered before, and this is that answer' }),
  issued: nullable(Issued),
  problem: nullable(Problem),
});

export type BlockKeyBody = Static<typeof BlockKey>;
export type ChangeCertificateBody = Static<typeof ChangeCertificate>;
