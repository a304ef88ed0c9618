import type { Suite } from '../core/algorithms.ts';
import { type Bytes, digest } from '../core/bytes.ts';
import {
  bitString,
  enumerated,
  explicit,
  generalizedTime,
  objectIdentifier,
  octetString,
  sequence,
  tlv,
} from '../core/der-writer.ts';
import { extension } from '../core/extension.ts';
import { oid } from '../core/oids.ts';
import { type RevocationReason, reasonNumber } from '../core/revocation.ts';

/** OCSPResponseStatus other than successful (RFC 6960 §4.2.1). */
export const errorStatusNumber = {
  malformedRequest: 1,
  internalError: 2,
  tryLater: 3,
  unauthorized: 6,
} as const;

export type OcspErrorStatus = keyof typeof errorStatusNumber;

/** An unsigned OCSPResponse: a status and no responseBytes. */
export function encodeErrorResponse(status: OcspErrorStatus): Bytes {
  return sequence(enumerated(errorStatusNumber[status]));
}

export type CertStatus =
  | { readonly type: 'good' | 'unknown' }
  | { readonly type: 'revoked'; readonly revokedMs: number; readonly reason: RevocationReason | null };

export interface SingleResponse {
  /** CertID DER as it was asked. */
  readonly certId: Bytes;
  readonly status: CertStatus;
}

/** good [0] IMPLICIT NULL; revoked [1] IMPLICIT RevokedInfo; unknown [2] IMPLICIT NULL */
function encodeStatus(status: CertStatus): Bytes {
  if (status.type !== 'revoked') return Uint8Array.of(status.type === 'good' ? 0x80 : 0x82, 0);
  const reason =
    status.reason && status.reason !== 'unspecified'
      ? [explicit(0, enumerated(reasonNumber[status.reason]))]
      : [];
  return tlv(0xa1, generalizedTime(status.revokedMs), ...reason);
}

/**
 *     ResponseData ::= SEQUENCE { responderID [2] byKey, producedAt GeneralizedTime,
 *                                 responses SEQUENCE OF SingleResponse, responseExtensions [1] OPTIONAL }
 *     SingleResponse ::= SEQUENCE { certID, certStatus, thisUpdate, nextUpdate [0] EXPLICIT }
 */
export function encodeResponseData(data: {
  /** SHA-1 of the responder's subjectPublicKey bits. */
  readonly responderKeyHash: Bytes;
  readonly producedMs: number;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  readonly responses: readonly SingleResponse[];
  readonly nonce: Bytes | null;
}): Bytes {
  const thisUpdate = generalizedTime(data.thisUpdateMs);
  const nextUpdate = explicit(0, generalizedTime(data.nextUpdateMs));
  const responses = data.responses.map(({ certId, status }) =>
    sequence(certId, encodeStatus(status), thisUpdate, nextUpdate),
  );
  const nonce = data.nonce ? [explicit(1, sequence(extension(oid.ocspNonce, octetString(data.nonce))))] : [];
  return sequence(
    explicit(2, octetString(data.responderKeyHash)),
    generalizedTime(data.producedMs),
    sequence(...responses),
    ...nonce,
  );
}

/** OCSPResponse { successful, id-pkix-ocsp-basic, BasicOCSPResponse } with the responder's certificate. */
export function encodeResponse(
  responseData: Bytes,
  suite: Suite,
  signature: Bytes,
  certificate: Bytes,
): Bytes {
  const basic = sequence(
    responseData,
    suite.algorithmIdentifier,
    bitString(signature),
    explicit(0, sequence(certificate)),
  );
  return sequence(enumerated(0), explicit(0, sequence(objectIdentifier(oid.ocspBasic), octetString(basic))));
}

/** What an ETag says of a response. */
export const entityTag = (response: Bytes): string =>
  `"${Buffer.from(digest('sha256', response)).toString('hex').slice(0, 32)}"`;
