import type { Suite } from '../core/algorithms.ts';
import type { Bytes } from '../core/bytes.ts';
import {
  booleanTrue,
  context,
  enumerated,
  explicit,
  generalizedTime,
  integer,
  sequence,
  time,
  tlv,
  unsignedInteger,
} from '../core/der-writer.ts';
import { authorityKeyIdentifier, extension, type IssuerReference } from '../core/extension.ts';
import { oid } from '../core/oids.ts';
import { type RevocationReason, reasonNumber } from '../core/revocation.ts';

export interface CrlEntry {
  readonly serial: Bytes;
  readonly revokedMs: number;
  readonly reason: RevocationReason | null;
  readonly invalidityMs: number | null;
}

/**
 * One of revokedCertificates: SEQUENCE { userCertificate, revocationDate, crlEntryExtensions OPTIONAL }
 * (RFC 5280 §5.1.2.6). Reason unspecified is left out (§5.3.1).
 */
export function encodeCrlEntry({ serial, revokedMs, reason, invalidityMs }: CrlEntry): Bytes {
  const extensions: Bytes[] = [];
  if (reason !== null && reason !== 'unspecified') {
    extensions.push(extension(oid.cRLReasons, enumerated(reasonNumber[reason])));
  }
  if (invalidityMs !== null) extensions.push(extension(oid.invalidityDate, generalizedTime(invalidityMs)));
  return sequence(
    unsignedInteger(serial),
    time(revokedMs),
    ...(extensions.length > 0 ? [sequence(...extensions)] : []),
  );
}

/**
 *     TBSCertList ::= SEQUENCE { version v2, signature, issuer, thisUpdate, nextUpdate,
 *                                revokedCertificates SEQUENCE OF … OPTIONAL, crlExtensions [0] }
 *
 * RFC 5280 §5.1. issuingDistributionPoint (critical) carries the name that the certificates' own
 * cRLDistributionPoints carry, octet for octet.
 */
export function encodeTbsCertList(crl: {
  readonly suite: Suite;
  /** Name DER. */
  readonly issuer: Bytes;
  readonly reference: IssuerReference;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  readonly number: number;
  /** DistributionPointName DER. */
  readonly distributionPointName: Bytes;
  /** Whether it lists CA certificates, or those of holders. */
  readonly scope: 'onlyContainsUserCerts' | 'onlyContainsCACerts';
  readonly entries: readonly Bytes[];
}): Bytes {
  const scopeTag = context(crl.scope === 'onlyContainsUserCerts' ? 1 : 2, 'primitive');
  const issuingDistributionPoint = sequence(
    crl.distributionPointName,
    tlv(scopeTag, booleanTrue.subarray(2)),
  );
  return sequence(
    integer(1),
    crl.suite.algorithmIdentifier,
    crl.issuer,
    time(crl.thisUpdateMs),
    time(crl.nextUpdateMs),
    ...(crl.entries.length > 0 ? [sequence(...crl.entries)] : []),
    explicit(
      0,
      sequence(
        authorityKeyIdentifier(crl.reference),
        extension(oid.cRLNumber, integer(crl.number)),
        extension(oid.issuingDistributionPoint, issuingDistributionPoint, 'critical'),
      ),
    ),
  );
}
