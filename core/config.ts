import { existsSync, readFileSync } from 'node:fs';
import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import defaultPolicy from './default-policy.json' with { type: 'json' };
import { PkiError } from './errors.ts';
import municipalities from './municipalities.json' with { type: 'json' };

const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of a duration such as `10min`. */
export function durationMs(text: string): number {
  const match = /^(\d+)(ms|s|min|h|d)$/.exec(text);
  return Number(match?.[1]) * (units[match?.[2] ?? ''] ?? Number.NaN);
}

const closed = { additionalProperties: false, default: {} } as const;
const text = (value: string, description: string) =>
  Type.String({ default: value, description, minLength: 1 });
const duration = (value: string, description: string) =>
  Type.String({ default: value, description, pattern: '^[1-9][0-9]*(ms|s|min|h|d)$' });
const count = (value: number, description: string) =>
  Type.Integer({ default: value, description, minimum: 1 });
const oid = (value: string, description: string) =>
  Type.String({ default: value, description, pattern: '^[0-2](\\.(0|[1-9][0-9]*))+$' });
const port = (value: number, description: string) =>
  Type.Integer({ default: value, description, minimum: 1, maximum: 65535 });

/** Facts of the scheme that no public source settles, or that differ between a test and a real system. */
const Scheme = Type.Object(
  {
    organization: text('JPKI-TEST', 'O of every issuer; JPKI in the real system'),
    operator: text('Japan Agency for Local Authority Information Systems', 'last OU of every issuer'),
    signingUnit: text('JPKI for digital signature', 'OU of the signing CA'),
    authenticationUnit: text('JPKI for user authentication', 'OU of the authentication CA'),
    japaneseOrganization: text('公的個人認証サービス', 'O of the Japanese issuer name'),
    japaneseSigningUnit: text('公的個人認証サービス署名用', 'OU of the signing CA’s Japanese name'),
    japaneseAuthenticationUnit: text(
      '公的個人認証サービス利用者証明用',
      'OU of the authentication CA’s Japanese name',
    ),
    japaneseOperator: text('地方公共団体情報システム機構', 'last OU of the Japanese issuer names'),
    cpsUri: text('http://www.jpki.example/cps.html', 'CPS URI in certificatePolicies'),
    policies: Type.Object(
      {
        'card-signing': oid('1.2.392.200149.8.5.1.0.20', 'policy of card signing certificates'),
        'card-authentication': oid('1.2.392.200149.8.5.1.3.30', 'policy of card authentication certificates'),
        'phone-signing': oid('1.2.392.200149.8.5.1.0.40', 'policy of phone signing certificates'),
        'phone-authentication': oid(
          '1.2.392.200149.8.5.1.3.40',
          'policy of phone authentication certificates',
        ),
      },
      closed,
    ),
    enrolmentContentType: oid(
      '1.3.6.1.4.1.32473.8.1',
      'eContentType of a phone’s enrolment; the default is of the arc for examples (RFC 5612)',
    ),
    onlineDeskCode: Type.String({
      default: 'ONLINE001',
      pattern: '^[0-9A-Z]{9}$',
      description: 'desk code of phone certificates',
    }),
    platforms: Type.Array(Type.String({ pattern: '^[a-z0-9-]{1,16}$' }), {
      default: ['android', 'ios'],
      description: 'platforms of phones, as enrolments spell them',
    }),
    leapDayBirthday: Type.Enum(['02-28', '03-01'], {
      default: '02-28',
      description: 'birthday of those born on 29 February, in common years',
    }),
    otherSex: Type.Enum(['3', '9'], {
      default: '9',
      description: 'code of the third value of sex',
    }),
    nameLengthMax: count(100, 'characters of a name'),
    addressLengthMax: count(200, 'characters of an address'),
  },
  closed,
);

const Cell = Type.String({
  pattern: '^(none|hold|release|revoke:[a-zA-Z]+)$',
  description: 'none, hold, release, or revoke:<reason of RFC 5280 §5.3.1>',
});

/** The table of life events: what each does to certificates of each kind. */
const Policy = Type.Object(
  {
    events: Type.Record(
      Type.String({ pattern: '^[a-z-]+$' }),
      Type.Object(
        {
          target: Type.Enum(['holder', 'card', 'phone'], {
            description: 'what it happens to; a card’s event reaches the phone certificates that rest on it',
          }),
          kinds: Type.Object(
            {
              'card-signing': Cell,
              'card-authentication': Cell,
              'phone-signing': Cell,
              'phone-authentication': Cell,
            },
            { additionalProperties: false },
          ),
        },
        { additionalProperties: false },
      ),
    ),
    cascade: Type.Object(
      {
        hold: Type.Enum(['none', 'hold'], {
          description: 'what a held card certificate does to the phone certificate that rests on it',
        }),
      },
      { additionalProperties: false },
    ),
    releasable: Type.Array(
      Type.Enum(['card-signing', 'card-authentication', 'phone-signing', 'phone-authentication']),
      { description: 'kinds whose hold may end in good again' },
    ),
  },
  { additionalProperties: false, default: defaultPolicy, description: 'what life events do' },
);

export type Policy = Static<typeof Policy>;

const Listen = (ports: number, what: string) =>
  Type.Object(
    { host: text('127.0.0.1', `address ${what} listens on`), port: port(ports, `port of ${what}`) },
    closed,
  );

const Token = (label: string) =>
  Type.Object(
    {
      label: text(label, 'token label'),
      pinFile: text(`secrets/${label}.pin`, 'file with the user PIN, relative to the data folder'),
    },
    closed,
  );

export const ConfigSchema = Type.Object(
  {
    node: Type.String({
      default: 'n1',
      pattern: '^[a-z0-9-]{1,32}$',
      description: 'name of this node, unique among those that share a record',
    }),
    api: Listen(8443, 'the CA API'),
    ocsp: Type.Object(
      {
        ...Listen(8080, 'the OCSP responder').properties,
        publicUrl: text('http://127.0.0.1:8080', 'address of the responder as certificates name it'),
        responseValidity: duration('1h', 'nextUpdate - thisUpdate of a response'),
        feedLagMax: duration('10s', 'how far the feed may lag before the responder answers tryLater'),
        responderValidity: duration('90d', 'life of a responder certificate'),
        requestBytesMax: count(8192, 'octets of a request'),
      },
      closed,
    ),
    crl: Type.Object(
      {
        ...Listen(8081, 'the CRL publisher').properties,
        publicUrl: text('http://127.0.0.1:8081', 'address of the publisher as certificates name it'),
        validity: duration('48h', 'nextUpdate - thisUpdate of a CRL'),
        refreshEvery: duration('24h', 'age at which an unchanged CRL is issued anew'),
        shardCapacity: count(20_000, 'certificates that may name one CRL'),
      },
      closed,
    ),
    audit: Type.Object(
      { checkpointEvery: duration('10min', 'how often the head of the audit chain is signed and shipped') },
      closed,
    ),
    caValidityYears: count(10, 'life of a CA certificate'),
    pkcs11: Type.Object(
      {
        module: Type.Optional(
          Type.String({
            description:
              'path of the PKCS#11 module; default: WARIFU_PKCS11_MODULE, or SoftHSM where it is found',
          }),
        ),
        signingThreads: count(2, 'threads that sign'),
        signedLog: Type.Boolean({
          default: false,
          description:
            'keep a log, signed.log, of the hash of whatever is signed, before it is: for proving that all of it is on record',
        }),
        caToken: Token('warifu-ca'),
        ocspToken: Token('warifu-ocsp'),
      },
      closed,
    ),
    limits: Type.Object(
      {
        cards: count(1, 'cards in force for one holder'),
        phonesPerPlatform: count(1, 'phones in force for one holder on one platform'),
        challengeLife: duration('10min', 'life of an enrolment challenge'),
        idempotencyRetention: duration('7d', 'how long an answer can be replayed'),
        requestBytesMax: count(65_536, 'octets of an API request'),
        requestTimeout: duration('10s', 'how long an API request may take to arrive'),
      },
      closed,
    ),
    scheme: Scheme,
    policy: Policy,
    municipalities: Type.Array(
      Type.Object(
        {
          code: Type.String({ pattern: '^[0-9]{5}$', description: 'JIS X 0401/0402 code' }),
          prefecture: text('', 'romanized, as CRL distribution points name it'),
          municipality: text('', 'romanized, as CRL distribution points name it'),
        },
        { additionalProperties: false },
      ),
      { default: municipalities, description: 'municipalities that certificates are issued for' },
    ),
  },
  closed,
);

export type Config = Static<typeof ConfigSchema>;

/** Configuration of an OCSP or CRL node that runs alone, following a CA elsewhere. */
export const FollowerConfigSchema = Type.Object(
  {
    feed: Type.Object(
      {
        url: Type.String({ pattern: '^https://[^/]+$', description: 'address of the CA API' }),
        key: Type.String({ description: 'file with the TLS client key, relative to the data folder' }),
        cert: Type.String({ description: 'file with the TLS client certificate' }),
        ca: Type.String({ description: 'file with the operations CA’s certificate' }),
      },
      { additionalProperties: false, description: 'where the status feed comes from' },
    ),
    ocsp: ConfigSchema.properties.ocsp,
    crl: ConfigSchema.properties.crl,
    pkcs11: ConfigSchema.properties.pkcs11,
  },
  { additionalProperties: false },
);

export type FollowerConfig = Static<typeof FollowerConfigSchema>;

/** Checks a configuration and fills in its defaults. Throws `bad-request`, naming the first wrong key. */
export function parseConfig(input: unknown): Config {
  const config = complete(ConfigSchema, input);
  crossCheck(config);
  return config;
}

export function parseFollowerConfig(input: unknown): FollowerConfig {
  return complete(FollowerConfigSchema, input);
}

function complete<T extends TSchema>(schema: T, input: unknown): Static<T> {
  const config = Value.Default(schema, structuredClone(input)) as unknown;
  if (Value.Check(schema, config)) return config;
  const [error] = Value.Errors(schema, config);
  throw new PkiError(
    'bad-request',
    `configuration: ${error?.instancePath || '/'} ${error?.message ?? 'is wrong'}`,
  );
}

function crossCheck(config: Config): void {
  const fail = (what: string): never => {
    throw new PkiError('bad-request', `configuration: ${what}`);
  };
  if (durationMs(config.limits.challengeLife) > 600_000) fail('/limits/challengeLife is more than 10min');
  if (durationMs(config.crl.refreshEvery) >= durationMs(config.crl.validity)) {
    fail('/crl/refreshEvery is not less than /crl/validity');
  }
  // A certificate lives to the fifth birthday at most, and never outlives its CA.
  if (config.caValidityYears < 6) fail('/caValidityYears is less than 6');
  if (config.pkcs11.caToken.label === config.pkcs11.ocspToken.label)
    fail('/pkcs11: CA and OCSP keys share a token');
  const codes = new Set(config.municipalities.map(({ code }) => code));
  if (codes.size !== config.municipalities.length) fail('/municipalities names a code twice');
  for (const service of ['ocsp', 'crl'] as const) {
    if (!/^http:\/\/[A-Za-z0-9.-]+(:\d{1,5})?$/.test(config[service].publicUrl))
      fail(`/${service}/publicUrl is not http://host or http://host:port`);
  }
}

/** The configuration in a file; all defaults where there is no file. */
export function readConfig(file: string): Config {
  return parseConfig(existsSync(file) ? readJson(file) : {});
}

export function readFollowerConfig(file: string): FollowerConfig {
  return parseFollowerConfig(readJson(file));
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new PkiError('bad-request', `configuration: ${file}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
