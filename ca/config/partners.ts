import { Type } from 'typebox';
import { closed, count, duration, durationPattern } from '../../core/config/values.ts';

// Who else has a part in it: sources of evidence on phones, receivers of orders and notices.

const use = (description: string) =>
  Type.Enum(['required', 'optional', 'off'], { default: 'off', description });

const partnerTls = {
  ca: Type.Optional(
    Type.String({ description: 'file with CAs of these servers, PEM; default: those of Node' }),
  ),
  clientKey: Type.Optional(
    Type.String({ description: 'file with the key by which this CA is known to them, PEM' }),
  ),
  clientCert: Type.Optional(Type.String({ description: 'file with the certificate of that key, PEM' })),
};

/** What phones bring with their signed enrolment. What is optional is checked where it is there. */
export const Evidence = Type.Object(
  {
    keyAttestation: Type.Object(
      {
        use: use('Android Key Attestation of a companion key; other platforms have none'),
        roots: Type.Array(Type.String(), {
          default: [],
          description: 'files with the roots that are believed, PEM of certificate or key',
        }),
        apps: Type.Array(
          Type.Object(
            {
              package: Type.String({ minLength: 1, maxLength: 255, description: 'name of its package' }),
              signatureDigests: Type.Array(Type.String({ pattern: '^[0-9a-f]{64}$' }), {
                minItems: 1,
                description: 'SHA-256 of the certificates it may be signed with, hex',
              }),
            },
            { additionalProperties: false },
          ),
          {
            default: [],
            description: 'apps whose keys are believed; may be empty outside of production alone, for all',
          },
        ),
        revocationList: Type.Optional(
          Type.String({
            description:
              'file with the list of attestation certificates that were withdrawn, as Google publishes it; read again when it changes',
          }),
        ),
        revocationListAgeMax: duration('7d', 'age of that file from which on is warned of it'),
        revokedSerials: Type.Array(Type.String({ pattern: '^[0-9a-f]+$' }), {
          default: [],
          description: 'serial numbers of attestation certificates that were withdrawn, hex octets',
        }),
      },
      closed,
    ),
    secureElementStatement: Type.Object(
      {
        use: use('the SP-TSM’s signed statement that the keys are in the secure element'),
        signers: Type.Array(Type.String(), {
          default: [],
          description: 'files with the certificates of those who may sign it, PEM',
        }),
      },
      closed,
    ),
    verdicts: Type.Array(
      Type.Object(
        {
          name: Type.String({
            pattern: '^[A-Za-z0-9._-]{1,64}$',
            description: 'as tokens and refusals name it',
          }),
          url: Type.String({ pattern: '^https?://[^\\s]+$', description: 'address that is asked' }),
          use: Type.Enum(['required', 'optional', 'off'], {
            description: 'optional: heeded where it answers',
          }),
          timeout: Type.String({ pattern: durationPattern, description: 'how long it may take' }),
        },
        { additionalProperties: false },
      ),
      { default: [], description: 'providers of verdicts on phones' },
    ),
    ...partnerTls,
  },
  closed,
);

const webhook = (description: string) =>
  Type.Optional(Type.String({ pattern: '^https?://[^\\s]+$', description }));

/** Where orders and notices go; each is a signed POST, but for mail. */
export const Notices = Type.Object(
  {
    tsm: webhook(
      'address of the SP-TSM, for orders of personalisation and remote deletion; default: these wait',
    ),
    towns: webhook(
      'address of the relay to towns, for notices of holders who moved away; default: these wait',
    ),
    portal: webhook('address of the portal, for notices to holders who gave no mail address'),
    verifiers: Type.Array(
      Type.Object(
        {
          name: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$', description: 'name of its API client' }),
          url: Type.String({ pattern: '^https?://[^\\s]+$', description: 'address for its notices' }),
          title: Type.Optional(
            Type.String({ minLength: 1, maxLength: 100, description: 'as holders know it; default: name' }),
          ),
        },
        { additionalProperties: false },
      ),
      {
        default: [],
        description:
          'verifiers of an earlier version that get notices: taken over onto the register by the first start, and read no more (POST /v1/verifiers)',
      },
    ),
    ...partnerTls,
    contact: Type.Optional(
      Type.String({
        minLength: 1,
        maxLength: 200,
        description: 'whom holders turn to where a notice names what they did not do',
      }),
    ),
    confirmAddressWithin: duration('24h', 'how long the code that confirms a mail address can be used'),
    mail: Type.Optional(
      Type.Object(
        {
          host: Type.String({ minLength: 1, description: 'SMTP server' }),
          port: Type.Integer({ minimum: 1, maximum: 65535, description: 'its port' }),
          from: Type.String({ minLength: 3, description: 'sender' }),
          tls: Type.Enum(['always', 'starttls', 'never'], { description: 'how the connection is protected' }),
          user: Type.Optional(Type.String({ minLength: 1, description: 'user, where it wants one' })),
          passwordFile: Type.Optional(
            Type.String({ minLength: 1, description: 'file with the password, relative to the data folder' }),
          ),
        },
        { additionalProperties: false, description: 'how mail to holders is sent; default: not at all' },
      ),
    ),
    timeout: duration('10s', 'how long a receiver may take'),
    retryFirst: duration('1s', 'before the first repetition; doubles with each'),
    retryMost: duration('1h', 'between two repetitions at most'),
    attemptsMax: count(20, 'attempts in a row before a notice is given up, visibly; orders are never'),
    retention: duration('90d', 'how long what was delivered, or confirmed, is kept'),
    confirmWithin: duration('24h', 'how long an order waits for its confirmation before it is sent again'),
  },
  closed,
);

/** When a new card or phone is good. */
export const Activation = Type.Object(
  {
    card: Type.Enum(['at-once', 'when-delivered'], {
      default: 'at-once',
      description:
        'when-delivered: it is held until card-delivered is reported; at-once: where desks hand cards over as they issue',
    }),
    phone: Type.Enum(['by-tsm', 'at-once', 'when-stored'], {
      default: 'by-tsm',
      description:
        'when-stored: its certificates are held until the TSM confirms that they are stored; by-tsm: so where notices.tsm names one, else at once',
    }),
    wait: duration('60d', 'how long delivery may take'),
    storageWait: duration('7d', 'how long the TSM may take to store what was issued to a phone'),
    unconfirmed: Type.Enum(['revoke', 'activate'], {
      default: 'revoke',
      description: 'what becomes of what was not confirmed in time: it is revoked, or good all the same',
    }),
  },
  closed,
);
