import { type Static, Type } from 'typebox';
import { durationMs } from '../../core/config/duration.ts';
import { followerOptions } from '../../core/config/follower.ts';
import { completed, fail, isPublicAddress, readJson } from '../../core/config/read.ts';
import { Listen } from '../../core/config/shared.ts';
import { closed, count, duration, durationPattern, text } from '../../core/config/values.ts';
import { verifierOptions } from '../../core/config/verifier-options.ts';
import { Pkcs11Options } from '../../hsm/config/options.ts';

// Options of the CRL publisher, within the CA's process and alone.

/** A verifier of the list that an earlier version had. */
const Listed = Type.Object(
  {
    name: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$', description: 'as an operator knows it' }),
    tokenSha256: Type.String({
      pattern: '^[0-9a-f]{64}$',
      description: 'SHA-256 of its token: its own addresses begin with /v/TOKEN',
    }),
  },
  { additionalProperties: false },
);

export const CrlOptions = Type.Object(
  {
    ...Listen(8081, 'the CRL publisher').properties,
    publicUrl: text('http://127.0.0.1:8081', 'address of the publisher as certificates name it'),
    distributionPoint: Type.Enum(['address', 'directory-name'], {
      default: 'address',
      description:
        'whether certificates name the address of their CRL as well as its directory name, or the directory name alone: where each verifier is given an address of its own',
    }),
    validity: duration('48h', 'how long after it was known to be right a complete CRL holds'),
    backdate: duration('1min', 'how far thisUpdate lies back, for relying parties whose clocks lag'),
    refreshEvery: duration(
      '24h',
      'age at which a complete CRL is issued by schedule, and becomes the base of deltas; spread over the last quarter of it',
    ),
    deltas: Type.Boolean({ default: true, description: 'issue delta CRLs as well as complete ones' }),
    deltaValidity: duration('1h', 'the same of a delta CRL'),
    deltaEvery: duration('15min', 'age at which a delta CRL is reissued, spread likewise'),
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
    journalRetention: duration(
      '90d',
      'at a CRL node: how long the journal of what was received is kept; longer than the age of any backup that would be restored',
    ),
    verifiers: Type.Object(verifierOptions(Listed), closed),
  },
  closed,
);

export type CrlOptions = Static<typeof CrlOptions>;

/** Refuses values that contradict each other. */
export function checkCrl(crl: CrlOptions): void {
  // Past half of its life a CRL without a successor is an alarm: what is configured must not be one.
  if (durationMs(crl.refreshEvery) * 2 > durationMs(crl.validity)) {
    fail('/crl/refreshEvery is more than half of /crl/validity');
  }
  if (!crl.deltas) {
    if (crl.onEvent === 'delta') fail('/crl/onEvent wants deltas, and /crl/deltas has none');
    return;
  }
  if (durationMs(crl.deltaEvery) * 2 > durationMs(crl.deltaValidity)) {
    fail('/crl/deltaEvery is more than half of /crl/deltaValidity');
  }
  if (durationMs(crl.deltaValidity) > durationMs(crl.validity)) {
    fail('/crl/deltaValidity is more than /crl/validity');
  }
}

/** Refuses an address that cannot stand in certificates: those that the CA issues name it. */
export function checkCrlAddress({ publicUrl }: CrlOptions): void {
  if (!isPublicAddress(publicUrl)) fail('/crl/publicUrl is not http://host or http://host:port');
}

export const CrlNodeSchema = Type.Object(
  {
    ...followerOptions,
    crl: CrlOptions,
    pkcs11: Pkcs11Options,
    ocsp: Type.Optional(Type.Unknown({ description: 'of an OCSP node, which may share the file' })),
  },
  { additionalProperties: false },
);

/** Configuration of a CRL node that runs alone. */
export type CrlNodeConfig = Static<typeof CrlNodeSchema> & {
  /** Whether it signs CRLs itself, with keys in a token of its own; otherwise it serves those that the CA has signed. */
  readonly signs: boolean;
};

/** Checks a node's configuration and fills in its defaults. Throws `bad-request`, naming every wrong key. */
export function parseCrlNodeConfig(input: unknown): CrlNodeConfig {
  const config = completed(CrlNodeSchema, input);
  checkCrl(config.crl);
  // A node that is to sign names its token.
  return { ...config, signs: typeof input === 'object' && input !== null && 'pkcs11' in input };
}

export const readCrlNodeConfig = (file: string): CrlNodeConfig => readJson(file, parseCrlNodeConfig);
