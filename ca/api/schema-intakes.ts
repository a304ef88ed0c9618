import { Type } from 'typebox';
import { Authority, base64, closed, instant, nullable, Reference, SerialNumber } from './schema-values.ts';
import { VerifierId } from './schema-verifiers.ts';
import { reference } from './schema-watches.ts';

// Intakes of customers whom a verifier had before it could have them sign receipts.

/** Certificates, and signatures, in one request: as many as fit into its octets. */
const entriesAtOnce = 200;
const signaturesAtOnce = 16;

export const BeginIntake = Type.Object(
  {
    statement: Type.String({
      minLength: 4,
      maxLength: 100,
      description:
        'what the content that each of these customers has signed contains, in UTF-8: it names the verifier and the service, and no public document has it',
    }),
  },
  closed,
);

export const AddEntries = Type.Object(
  {
    entries: Type.Array(
      Type.Object(
        { authority: Authority, serialNumber: SerialNumber, reference: Type.Optional(reference) },
        closed,
      ),
      { minItems: 1, maxItems: entriesAtOnce },
    ),
  },
  closed,
);

export const ShowSignatures = Type.Object(
  {
    signatures: Type.Array(
      base64('CMS of what the customer has signed, with its content (id-data) attached', 48_000),
      {
        minItems: 1,
        maxItems: signaturesAtOnce,
      },
    ),
  },
  closed,
);

export const Intake = Type.Object({
  intakeId: Type.String(),
  verifierId: VerifierId,
  statement: Type.String(),
  state: Type.Enum(['open', 'sampled', 'shown', 'accepted', 'done', 'ended']),
  entries: Type.Integer({ description: 'certificates of it' }),
  sampled: Type.Integer({ description: 'of which a signature has to be shown' }),
  shown: Type.Integer({ description: 'of which one was shown, and verified' }),
  watched: Type.Integer({ description: 'of an accepted intake: certificates that are watched by now' }),
  leftOut: Type.Integer({
    description: 'and those that may not be: of another kind, not on record, known to have leaked, too many',
  }),
  begunAt: instant('when it was begun'),
  changedAt: instant('when it last changed'),
});

export const IntakeWithSample = Type.Object({
  ...Intake.properties,
  toShow: Type.Array(Type.Object(Reference.properties), {
    description: 'certificates that were drawn, of which no signature was shown yet',
  }),
});

export const IntakePage = Type.Object({
  intakes: Type.Array(Intake),
  next: nullable(Type.String({ description: '`after` of the next page; null where there is none' })),
});
