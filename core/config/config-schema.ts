import { Type } from 'typebox';
import { closed, count, duration, durationOrNone, durationPattern, port, text } from './config-values.ts';
import { ClockLimits, Limits, Warnings } from './operation-schema.ts';
import { Activation, Evidence, Notices } from './partners-schema.ts';
import { PolicySchema, Scheme } from './scheme-schema.ts';
import { towns } from './towns-schema.ts';

// Every key there is, with its default and what it means.

const Listen = (ports: number, what: string) =>
  Type.Object(
    { host: text('127.0.0.1', `address ${what} listens on`), port: port(ports, `port of ${what}`) },
    closed,
  );

/** Relying parties that an operator knows by name, and how each is known. */
const Verifier = Type.Object(
  {
    name: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$', description: 'as logs and notices name it' }),
    tokenSha256: Type.Optional(
      Type.String({ pattern: '^[0-9a-f]{64}$', description: 'SHA-256 of its token: it asks below /v/TOKEN' }),
    ),
    port: Type.Optional(Type.Integer({ description: 'port of its own', minimum: 1, maximum: 65535 })),
    certificateSha256: Type.Optional(
      Type.String({ pattern: '^[0-9a-f]{64}$', description: 'SHA-256 of its TLS certificate, DER' }),
    ),
  },
  { additionalProperties: false },
);

const Verifiers = Type.Object(
  {
    required: Type.Boolean({ default: false, description: 'refuse whoever is not listed, with 403' }),
    log: Type.Boolean({
      default: false,
      description: 'keep who asked about which certificate, and when, in asked/DATE.ndjson',
    }),
    list: Type.Array(Verifier, { default: [], description: 'verifiers known by name' }),
    tls: Type.Optional(
      Type.Object(
        {
          port: Type.Integer({
            description: 'port for verifiers with a TLS certificate',
            minimum: 1,
            maximum: 65535,
          }),
          key: Type.String({ description: 'file with the server’s key, relative to the data folder' }),
          cert: Type.String({ description: 'file with the server’s certificate' }),
          ca: Type.String({ description: 'file with the CA of verifiers’ certificates' }),
        },
        { additionalProperties: false },
      ),
    ),
  },
  closed,
);

const Presign = Type.Object(
  {
    to: Type.Enum(['nowhere', 'memory', 'files'], {
      default: 'nowhere',
      description: 'memory: answers are signed before anybody asks; files: for a static server or CDN',
    }),
    newest: count(10_000, 'how many certificates, the last issued under each epoch'),
    folder: text('presigned', 'folder of the files, relative to the data folder'),
    every: duration('30min', 'how often; less than responseValidity'),
  },
  closed,
);

const Metrics = Type.Optional(
  Type.Object(
    {
      host: Type.String({ description: 'address that Prometheus asks', minLength: 1 }),
      port: Type.Integer({ description: 'port of /metrics', minimum: 1, maximum: 65535 }),
    },
    { additionalProperties: false, description: 'where metrics are served; default: nowhere' },
  ),
);

/** Where else a PIN may be. */
const otherPins = {
  pinEnvironment: Type.Optional(
    Type.String({
      minLength: 1,
      description: 'variable of the environment with the user PIN, instead of the file',
    }),
  ),
  pinCredential: Type.Optional(
    Type.String({
      pattern: '^[A-Za-z0-9._-]+$',
      description: 'systemd credential (LoadCredential=) with the user PIN, instead of the file',
    }),
  ),
};

const Token = (label: string) =>
  Type.Object(
    {
      label: text(label, 'token label'),
      pinFile: text(`secrets/${label}.pin`, 'file with the user PIN, relative to the data folder'),
      ...otherPins,
      copies: Type.Array(
        Type.Object(
          {
            label: Type.String({ minLength: 1, description: 'token label' }),
            pinFile: Type.String({ minLength: 1, description: 'file with its user PIN' }),
            ...otherPins,
          },
          { additionalProperties: false },
        ),
        {
          default: [],
          description:
            'tokens with copies of its keys, made by the vendor’s cloning: they share the signing, and stand in for each other',
        },
      ),
    },
    closed,
  );

export const ConfigSchema = Type.Object(
  {
    mode: Type.Enum(['evaluation', 'production'], {
      default: 'evaluation',
      description: 'production: npm start installs nothing, and says what is missing',
    }),
    node: Type.String({
      default: 'n1',
      pattern: '^[a-z0-9-]{1,32}$',
      description: 'name of this node, unique among those that share a record',
    }),
    api: Type.Object(
      {
        ...Listen(8443, 'the CA API').properties,
        names: Type.Array(Type.String({ minLength: 1, maxLength: 253 }), {
          default: [],
          description:
            'names and addresses by which callers reach the API: they stand in its TLS certificate, beside host, localhost and the loopback addresses',
        }),
        tlsMin: Type.Enum(['TLSv1.3', 'TLSv1.2'], {
          default: 'TLSv1.3',
          description: 'oldest version of TLS that the API speaks',
        }),
      },
      closed,
    ),
    ocsp: Type.Object(
      {
        ...Listen(8080, 'the OCSP responder').properties,
        publicUrl: text('http://127.0.0.1:8080', 'address of the responder as certificates name it'),
        responseValidity: duration('1h', 'how long after it was known to be right a response holds'),
        backdate: duration('1min', 'how far thisUpdate lies back, for relying parties whose clocks lag'),
        feedLagMax: duration('10s', 'how far the feed may lag before the responder signs no more'),
        signedAnswersFor: durationOrNone(
          '10min',
          'how long beyond that answers which are signed already, and still hold, are given; 0: not at all',
        ),
        responderValidity: duration('7d', 'life of a responder certificate'),
        responderSuites: Type.Array(Type.Enum(['issuer', 'p256-sha256']), {
          default: ['issuer', 'p256-sha256'],
          minItems: 1,
          description:
            'suites of the responder keys: the first answers, others where a relying party prefers them (RFC 6960 §4.4.7)',
        }),
        neverIssued: Type.Enum(['unknown', 'revoked'], {
          default: 'revoked',
          description:
            'what is said of serial numbers never issued: revoked, by extended-revoke (RFC 6960 §2.2), or unknown, which clients may take for a reason to look elsewhere',
        }),
        archiveRetention: Type.Optional(
          Type.String({
            pattern: durationPattern,
            description: 'how long after their end certificates are answered for; default: for ever',
          }),
        ),
        nonceUnderOverload: Type.Enum(['answer', 'ignore'], {
          default: 'answer',
          description: 'whether a nonce is left out when the queue is half full',
        }),
        threads: count(1, 'threads that listen'),
        signing: Type.Enum(['inline', 'pool'], {
          default: 'inline',
          description:
            'inline: listening threads sign themselves; pool: each has pkcs11.signingThreads that do, for tokens behind a network',
        }),
        waitingMax: count(1024, 'requests of one thread that may wait for a signature; beyond it: tryLater'),
        cacheBytes: count(134_217_728, 'octets of signed answers that one thread keeps'),
        connectionsMax: count(10_000, 'connections of one thread'),
        snapshotEvery: duration('10min', 'how often the status index is written to disk'),
        verifiers: Verifiers,
        presign: Presign,
        requestBytesMax: count(8192, 'octets of a request'),
      },
      closed,
    ),
    crl: Type.Object(
      {
        ...Listen(8081, 'the CRL publisher').properties,
        publicUrl: text('http://127.0.0.1:8081', 'address of the publisher as certificates name it'),
        distributionPoint: Type.Enum(['address', 'directory-name'], {
          default: 'address',
          description:
            'whether certificates name the address of their CRL beside its directory name, or that alone: where each verifier is given an address of its own',
        }),
        validity: duration('48h', 'how long after it was known to be right a complete CRL holds'),
        backdate: duration('1min', 'how far thisUpdate lies back, for relying parties whose clocks lag'),
        refreshEvery: duration(
          '24h',
          'age at which a complete CRL is issued by schedule, and becomes the base of deltas; spread over the last quarter of it',
        ),
        deltas: Type.Boolean({ default: true, description: 'issue delta CRLs beside the complete ones' }),
        deltaValidity: duration('1h', 'the same of a delta CRL'),
        deltaEvery: duration('15min', 'age at which a delta CRL is issued anew, spread likewise'),
        onEvent: Type.Enum(['complete', 'delta', 'nothing'], {
          default: 'complete',
          description:
            'what is issued when a certificate is revoked, held or released: a complete CRL with its delta, a delta, or nothing before its time',
        }),
        onEventDelay: duration('20ms', 'how long changes are gathered before that'),
        partition: Type.Enum(['municipality', 'none'], {
          default: 'municipality',
          description:
            'none: for small sites, certificates of one kind and generation name one CRL, whatever their number',
        }),
        shardCapacity: count(20_000, 'certificates that may name one CRL of a municipality'),
        workers: count(3, 'threads that encode, hash and check CRLs'),
        threads: count(1, 'threads that listen'),
        cacheBytes: count(268_435_456, 'octets of files that one thread keeps in memory'),
        cacheAgeMax: Type.Optional(
          Type.String({
            pattern: durationPattern,
            description:
              'how long caches may keep a CRL; default: deltaEvery, and without deltas until its nextUpdate',
          }),
        ),
        connectionsMax: count(10_000, 'connections of one thread'),
        verifiers: Type.Object(
          {
            required: Type.Boolean({ default: false, description: 'refuse whoever is not listed, with 403' }),
            list: Type.Array(
              Type.Object(
                {
                  name: Type.String({
                    pattern: '^[A-Za-z0-9._-]{1,64}$',
                    description: 'as an operator knows it',
                  }),
                  tokenSha256: Type.String({
                    pattern: '^[0-9a-f]{64}$',
                    description: 'SHA-256 of its token: its own addresses begin with /v/TOKEN',
                  }),
                },
                { additionalProperties: false },
              ),
              { default: [], description: 'verifiers with addresses of their own' },
            ),
          },
          closed,
        ),
      },
      closed,
    ),
    metrics: Metrics,
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
        signingThreads: count(2, 'threads, or processes, that sign'),
        isolation: Type.Enum(['threads', 'processes'], {
          default: 'threads',
          description:
            'where CA keys are used: in this process, or in processes of their own, which are killed when a call hangs and started again when the module crashes',
        }),
        callTimeout: duration('10s', 'how long a call of the module may take before it is taken to hang'),
        copyKeys: Type.Optional(
          Type.Boolean({
            description:
              'sign with copies of keys that live as long as a session: faster with SoftHSM, which is where it is the default',
          }),
        ),
        signedLog: Type.Boolean({
          default: false,
          description:
            'keep a log, signed.log, of the digest of whatever is signed, before it is: for proving that all of it is on record',
        }),
        caToken: Token('warifu-ca'),
        ocspToken: Token('warifu-ocsp'),
      },
      closed,
    ),
    issuing: Type.Object(
      {
        backdate: duration('1min', 'how far notBefore lies back, for relying parties whose clocks lag'),
        batchLines: count(512, 'lines of batches that are worked on at once'),
        checkThreads: count(2, 'threads that check requests and their keys'),
        primeModuli: Type.Enum(['refused', 'not-tried'], {
          default: 'refused',
          description:
            'whether RSA moduli are tried for being prime, which takes 2 ms a key; not-tried: only where all keys are made by chips whose key generation was evaluated',
        }),
        enrolmentCodes: Type.Enum(['off', 'on'], {
          default: 'off',
          description: 'on: desks allow a phone, by a code, to holders whose card has no signing certificate',
        }),
        enrolmentWithBothKeys: Type.Enum(['in-production', 'always', 'never'], {
          default: 'in-production',
          description:
            'when the card’s authentication key has to sign a phone’s enrolment for a pair beside its signing key, which signs documents that others wrote',
        }),
        termsVersions: Type.Array(Type.String({ minLength: 1, maxLength: 64 }), {
          default: [],
          description:
            'versions of the terms of use of which a phone’s enrolment must name one; empty: none is wanted',
        }),
        debianBlocklists: Type.Array(Type.String(), {
          default: [],
          description:
            'lists of keys of CVE-2008-0166, in the form of Debian’s openssl-blacklist, relative to the data folder',
        }),
      },
      closed,
    ),
    renewal: Type.Object(
      {
        windowMonths: count(3, 'months before their end from which certificates may be renewed'),
        overlap: Type.Optional(
          Type.String({
            pattern: durationPattern,
            description: 'how long renewed certificates live on beside their successors; default: not at all',
          }),
        ),
      },
      closed,
    ),
    activation: Activation,
    notices: Notices,
    evidence: Evidence,
    limits: Limits,
    clock: ClockLimits,
    warnings: Warnings,
    scheme: Scheme,
    policy: PolicySchema,
    ...towns,
  },
  closed,
);

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
    metrics: Metrics,
    warnings: Warnings,
    mode: ConfigSchema.properties.mode,
    pkcs11: ConfigSchema.properties.pkcs11,
  },
  { additionalProperties: false },
);
