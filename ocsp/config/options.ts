import { type Static, Type } from 'typebox';
import { durationMs } from '../../core/config/duration.ts';
import { followerOptions } from '../../core/config/follower.ts';
import { completed, fail, isPublicAddress, readJson } from '../../core/config/read.ts';
import { Listen } from '../../core/config/shared.ts';
import { closed, count, duration, durationOrNone, durationPattern, text } from '../../core/config/values.ts';
import { verifierOptions } from '../../core/config/verifier-options.ts';
import { Pkcs11Options } from '../../hsm/config/options.ts';

// Options of the OCSP responder, within the CA's process and alone.

/** A verifier of the list that an earlier version had. */
const Listed = Type.Object(
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
    ...verifierOptions(Listed),
    log: Type.Boolean({
      default: false,
      description: 'keep who asked about which certificate, and when, in asked/DATE.ndjson',
    }),
    logRetention: duration('30d', 'how long those files are kept'),
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

export const OcspOptions = Type.Object(
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
    journalRetention: duration(
      '90d',
      'how long the journal of what was received is kept; longer than the age of any backup that would be restored',
    ),
    verifiers: Verifiers,
    presign: Presign,
    requestBytesMax: count(8192, 'octets of a request'),
  },
  closed,
);

export type OcspOptions = Static<typeof OcspOptions>;

/** Refuses values that contradict each other, within the CA's process: a node alone stands in no certificate by its own settings. */
export function checkOcsp(ocsp: OcspOptions): void {
  if (durationMs(ocsp.presign.every) >= durationMs(ocsp.responseValidity))
    fail('/ocsp/presign/every is not less than /ocsp/responseValidity');
  if (!isPublicAddress(ocsp.publicUrl)) fail('/ocsp/publicUrl is not http://host or http://host:port');
}

export const OcspNodeSchema = Type.Object(
  {
    ...followerOptions,
    ocsp: OcspOptions,
    pkcs11: Pkcs11Options,
    crl: Type.Optional(Type.Unknown({ description: 'of a CRL node, which may share the file' })),
  },
  { additionalProperties: false },
);

/** Configuration of an OCSP node that runs alone. */
export type OcspNodeConfig = Static<typeof OcspNodeSchema>;

/** Checks a node's configuration and fills in its defaults. Throws `bad-request`, naming every wrong key. */
export function parseOcspNodeConfig(input: unknown): OcspNodeConfig {
  return completed(OcspNodeSchema, input);
}

export const readOcspNodeConfig = (file: string): OcspNodeConfig => readJson(file, parseOcspNodeConfig);
