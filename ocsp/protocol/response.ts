import type { Suite } from '../../core/asn1/algorithms.ts';
import {
  context,
  enumerated,
  explicit,
  generalizedTime,
  headerLength,
  nullValue,
  objectIdentifier,
  octetString,
  sequence,
  tag,
  tlv,
  writeHeader,
} from '../../core/asn1/der-writer.ts';
import { extension } from '../../core/asn1/extension.ts';
import { oid } from '../../core/asn1/oids.ts';
import { type RevocationReason, reasonNumber } from '../../core/model/revocation.ts';
import { type Bytes, view } from '../../core/runtime/bytes.ts';

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

/** Whatever the answers of one responder at one moment have in common. */
export interface ResponseMoment {
  /** SHA-1 of the responder's subjectPublicKey bits. */
  readonly responderKeyHash: Bytes;
  readonly producedMs: number;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  /** Revocation information is kept for certificates that ended after then (RFC 6960 §4.4.4); null where it is not said. */
  readonly archiveCutoffMs: number | null;
}

export interface ResponseContent {
  readonly responses: readonly SingleResponse[];
  readonly nonce: Bytes | null;
  /** Whether a certificate that was never issued is called revoked (RFC 6960 §4.4.8). */
  readonly extendedRevoke: boolean;
}

/**
 *     ResponseData ::= SEQUENCE { responderID [2] byKey, producedAt GeneralizedTime,
 *                                 responses SEQUENCE OF SingleResponse, responseExtensions [1] OPTIONAL }
 *     SingleResponse ::= SEQUENCE { certID, certStatus, thisUpdate, nextUpdate [0] EXPLICIT,
 *                                   singleExtensions [1] EXPLICIT OPTIONAL }
 */
export function encodeResponseData(moment: ResponseMoment, content: ResponseContent): Bytes {
  const nextUpdate = explicit(0, generalizedTime(moment.nextUpdateMs));
  const { archiveCutoffMs } = moment;
  const single =
    archiveCutoffMs === null
      ? []
      : [explicit(1, sequence(extension(oid.ocspArchiveCutoff, generalizedTime(archiveCutoffMs))))];
  const responses = content.responses.map(({ certId, status }) =>
    sequence(
      certId,
      encodeStatus(status),
      generalizedTime(thisUpdateOf(moment, status)),
      nextUpdate,
      ...single,
    ),
  );
  const extensions = [
    ...(content.extendedRevoke ? [extension(oid.ocspExtendedRevoke, nullValue)] : []),
    ...(content.nonce ? [extension(oid.ocspNonce, octetString(content.nonce))] : []),
  ];
  return sequence(
    explicit(2, octetString(moment.responderKeyHash)),
    generalizedTime(moment.producedMs),
    sequence(...responses),
    ...(extensions.length > 0 ? [explicit(1, sequence(...extensions))] : []),
  );
}

/** Of a certificate that was revoked since, the time at which it was: no status is later than thisUpdate. */
export const thisUpdateOf = ({ thisUpdateMs }: ResponseMoment, status: CertStatus): number =>
  status.type === 'revoked' ? Math.max(thisUpdateMs, status.revokedMs) : thisUpdateMs;

const serialTail = 17;
const timeOctets = 15;

/**
 * ResponseData that says *good* of one certificate, but for serial number, times and nonce: encoded once, then copied and
 * filled in. Serial numbers are of 17 octets and end the CertID; nonces are of one length.
 */
export class GoodTemplate {
  readonly #template: Bytes;
  readonly #at: {
    serial: number;
    produced: number;
    thisUpdate: number;
    nextUpdate: number;
    archive: number;
    nonce: number;
  };

  constructor(moment: ResponseMoment, certId: Bytes, nonceLength: number) {
    const data = encodeResponseData(moment, {
      responses: [{ certId, status: { type: 'good' } }],
      nonce: nonceLength === 0 ? null : new Uint8Array(nonceLength),
      extendedRevoke: false,
    });
    const certIdEnd = view(data).indexOf(certId) + certId.length;
    // Behind the CertID: the status, and two octets of tag and length before each time, four before nextUpdate.
    const thisUpdate = certIdEnd + 4;
    const nextUpdate = thisUpdate + timeOctets + 4;
    const archived = moment.archiveCutoffMs === null ? -1 : view(data).indexOf(archiveCutoffId, nextUpdate);
    this.#template = data;
    this.#at = {
      serial: certIdEnd - serialTail,
      produced: view(data).indexOf(generalizedTime(moment.producedMs)) + 2,
      thisUpdate,
      nextUpdate,
      archive: archived < 0 ? -1 : archived + archiveCutoffId.length + 4,
      nonce: data.length - nonceLength,
    };
  }

  fill(moment: ResponseMoment, serial: Bytes, nonce: Bytes | null): Bytes {
    // Out of the pool that small buffers share: memory of its own costs more than all that follows.
    const data = Buffer.from(this.#template);
    const at = this.#at;
    data.set(serial, at.serial);
    data.set(timeText(moment.producedMs), at.produced);
    data.set(timeText(moment.thisUpdateMs), at.thisUpdate);
    data.set(timeText(moment.nextUpdateMs), at.nextUpdate);
    if (moment.archiveCutoffMs !== null) data.set(timeText(moment.archiveCutoffMs), at.archive);
    if (nonce) data.set(nonce, at.nonce);
    return data;
  }
}

const archiveCutoffId = objectIdentifier(oid.ocspArchiveCutoff);

const recentTimes = new Map<number, Bytes>();
const recentTimesMax = 16;

/** Content octets of a GeneralizedTime; the same few seconds are asked for again and again. */
function timeText(ms: number): Bytes {
  const second = Math.floor(ms / 1000);
  const known = recentTimes.get(second);
  if (known) return known;
  const text = generalizedTime(ms).subarray(2);
  if (recentTimes.size >= recentTimesMax) recentTimes.clear();
  recentTimes.set(second, text);
  return text;
}

/** OCSPResponse { successful, id-pkix-ocsp-basic, BasicOCSPResponse } with the responder's certificate. */
export class ResponseFrame {
  readonly #algorithm: Bytes;
  readonly #certificates: Bytes;

  constructor(suite: Suite, certificate: Bytes) {
    this.#algorithm = suite.algorithmIdentifier;
    this.#certificates = explicit(0, sequence(certificate));
  }

  /**
   * The response, behind what `prefix` gives for its length. What is kept has memory of its own, for in a pool it would
   * keep its neighbours' too.
   */
  write(
    responseData: Bytes,
    signature: Bytes,
    prefix: (length: number) => Bytes,
    memory: 'own' | 'pooled',
  ): Buffer {
    const [algorithm, certificates] = [this.#algorithm, this.#certificates];
    const bits = signature.length + 1;
    const basic = responseData.length + algorithm.length + headerLength(bits) + bits + certificates.length;
    const octets = headerLength(basic) + basic;
    const typed = basicId.length + headerLength(octets) + octets;
    const bytes = headerLength(typed) + typed;
    const body = successful.length + headerLength(bytes) + bytes;
    const before = prefix(headerLength(body) + body);
    const size = before.length + headerLength(body) + body;
    const out = memory === 'own' ? Buffer.allocUnsafeSlow(size) : Buffer.allocUnsafe(size);
    let at = put(out, 0, before);
    at = writeHeader(out, at, tag.sequence, body);
    at = put(out, at, successful);
    at = writeHeader(out, at, context(0), bytes);
    at = writeHeader(out, at, tag.sequence, typed);
    at = put(out, at, basicId);
    at = writeHeader(out, at, tag.octetString, octets);
    at = writeHeader(out, at, tag.sequence, basic);
    at = put(out, at, responseData);
    at = put(out, at, algorithm);
    at = writeHeader(out, at, tag.bitString, bits);
    out[at] = 0;
    at = put(out, at + 1, signature);
    put(out, at, certificates);
    return out;
  }
}

const successful = enumerated(0);
const basicId = objectIdentifier(oid.ocspBasic);

function put(out: Bytes, at: number, octets: Bytes): number {
  out.set(octets, at);
  return at + octets.length;
}
