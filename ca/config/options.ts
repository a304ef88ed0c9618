import { Type } from 'typebox';
import { Listen, Metrics, Mode, Warnings } from '../../core/config/shared.ts';
import { closed, count, duration, durationPattern } from '../../core/config/values.ts';
import { CrlOptions } from '../../crl/config/options.ts';
import { Pkcs11Options } from '../../hsm/config/options.ts';
import { OcspOptions } from '../../ocsp/config/options.ts';
import { Approvals } from './approvals.ts';
import { Backups } from './backups.ts';
import { Filters } from './filters.ts';
import { ClockLimits, Limits } from './limits.ts';
import { Activation, Evidence, Notices } from './partners.ts';
import { Reading } from './reading.ts';
import { RecordOptions } from './record.ts';
import { PolicySchema, Scheme } from './scheme.ts';
import { towns } from './towns.ts';
import { Tracing } from './tracing.ts';
import { VerifierLimits } from './verifiers.ts';

// Every key of the service's configuration, with its default and what it means. Each service states its own options.

export const ConfigSchema = Type.Object(
  {
    mode: Mode,
    node: Type.String({
      default: 'n1',
      // An operator's command writes as NODE-operator.
      pattern: '^(?!.*-operator$)[a-z0-9-]{1,32}$',
      description: 'name of this node, unique among those that share a record; none that ends with -operator',
    }),
    api: Type.Object(
      {
        ...Listen(8443, 'the CA API').properties,
        names: Type.Array(Type.String({ minLength: 1, maxLength: 253 }), {
          default: [],
          description:
            'names and addresses by which callers reach the API: they stand in its TLS certificate, as well as host, localhost and the loopback addresses',
        }),
        tlsMin: Type.Enum(['TLSv1.3', 'TLSv1.2'], {
          default: 'TLSv1.3',
          description: 'oldest version of TLS that the API speaks',
        }),
      },
      closed,
    ),
    record: RecordOptions,
    ocsp: OcspOptions,
    crl: CrlOptions,
    metrics: Metrics,
    tracing: Tracing,
    audit: Type.Object(
      { checkpointEvery: duration('10min', 'how often the head of the audit chain is signed and shipped') },
      closed,
    ),
    caValidityYears: count(10, 'life of a CA certificate'),
    pkcs11: Pkcs11Options,
    issuing: Type.Object(
      {
        backdate: duration('1min', 'how far notBefore lies back, for relying parties whose clocks lag'),
        batchLines: count(512, 'lines of batches that are worked on at once'),
        checkThreads: count(2, 'threads that check requests and their keys'),
        octetsRetention: Type.Optional(
          Type.String({
            pattern: durationPattern,
            description:
              'how long after their end the octets of certificates, and the proofs with which they were asked for, are kept; default: for ever',
          }),
        ),
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
            'when the card’s authentication key has to sign a phone’s enrolment for a pair as well as its signing key, which signs documents that others wrote',
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
            description:
              'how long renewed certificates stay valid after their successors are issued; default: not at all',
          }),
        ),
      },
      closed,
    ),
    approvals: Approvals,
    reading: Reading,
    activation: Activation,
    verifiers: VerifierLimits,
    filters: Filters,
    notices: Notices,
    backups: Backups,
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
