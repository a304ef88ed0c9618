import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { DerError, DerReader } from '../../core/asn1/der-reader.ts';
import { context, objectIdentifier, tag } from '../../core/asn1/der-writer.ts';
import { oid } from '../../core/asn1/oids.ts';
import { type Bytes, equal, hex } from '../../core/runtime/bytes.ts';
import { certIdIssuer, encodeOcspRequest } from '../../ocsp/protocol/request.ts';
import type { CheckedRequest } from './checked-load.ts';

// Requests to any server, with what makes an answer right.

const statuses: Readonly<Record<number, string>> = {
  ...{ 1: 'malformedRequest', 2: 'internalError', 3: 'tryLater', 5: 'sigRequired', 6: 'unauthorized' },
};
const nonceId = hex(objectIdentifier(oid.ocspNonce).subarray(2));

/** What is wrong with an OCSP response (RFC 6960 §4.2.1) to a question about a serial number. */
export function ocspWrong(der: Bytes, serial: Bytes, nonce: Bytes | undefined): string | undefined {
  try {
    const response = new DerReader(der).enter(tag.sequence);
    const [status = -1] = response.content(0x0a);
    if (status !== 0) return statuses[status] ?? `the response status ${status}`;
    const bytes = response.enter(context(0)).enter(tag.sequence);
    bytes.objectIdentifier();
    const data = new DerReader(bytes.content(tag.octetString)).enter(tag.sequence).enter(tag.sequence);
    if (data.peek() === context(0)) data.whole(context(0));
    data.whole(data.peek() ?? 0);
    data.time();
    const single = data.enter(tag.sequence).enter(tag.sequence);
    const certId = single.enter(tag.sequence);
    certId.whole(tag.sequence);
    certId.whole(tag.octetString);
    certId.whole(tag.octetString);
    if (!equal(certId.unsigned(), serial)) return 'another certificate';
    if (nonce === undefined) return undefined;
    return data.peek() === context(1) &&
      hex(data.whole(context(1))).includes(`${nonceId}`) &&
      hex(der).includes(hex(nonce))
      ? undefined
      : 'without the nonce';
  } catch (error) {
    if (error instanceof DerError) return 'no OCSP response';
    throw error;
  }
}

/** Questions about certificates of one issuer, one after the other. */
export function ocspRequests(of: {
  /** Certificate of the issuer, DER. */
  readonly issuer: Bytes;
  /** Octets of serial numbers. */
  readonly serials: readonly Bytes[];
  readonly path: string;
  readonly method: 'GET' | 'POST';
  readonly nonce: boolean;
}): () => CheckedRequest {
  const issuer = certIdIssuer(of.issuer, 'sha1');
  let at = -1;
  return () => {
    at = (at + 1) % of.serials.length;
    const serial = of.serials[at] ?? new Uint8Array();
    const nonce = of.nonce ? randomBytes(32) : undefined;
    const der = Buffer.from(encodeOcspRequest(issuer, serial, nonce));
    const base = of.path.replace(/\/$/, '');
    const isGet = of.method === 'GET';
    return {
      method: of.method,
      path: isGet ? `${base}/${encodeURIComponent(der.toString('base64'))}` : base === '' ? '/' : base,
      headers: isGet ? {} : { 'Content-Type': 'application/ocsp-request' },
      body: isGet ? null : der,
      wrong: (status, body) => (status === 200 ? ocspWrong(body, serial, nonce) : `HTTP ${status}`),
    };
  };
}

/** Whether octets are a CertificateList, whole and nothing behind it (RFC 5280 §5.1): by its shape, for the extensions are anyone’s. */
function isWhole(der: Bytes): boolean {
  try {
    const reader = new DerReader(der);
    const list = reader.enter(tag.sequence);
    reader.end();
    const tbs = list.enter(tag.sequence);
    if (tbs.peek() === tag.integer) tbs.smallInteger();
    tbs.whole(tag.sequence);
    tbs.whole(tag.sequence);
    tbs.time();
    list.whole(tag.sequence);
    list.content(tag.bitString);
    return list.atEnd;
  } catch (error) {
    if (error instanceof DerError) return false;
    throw error;
  }
}

/** Files, one after the other: each whole, and the same each time but where it was replaced, which is seldom. */
export function crlRequests(paths: readonly string[]): () => CheckedRequest {
  const versions = new Map<string, Set<string>>();
  let at = -1;
  return () => {
    at = (at + 1) % paths.length;
    const path = paths[at] ?? '/';
    return {
      ...{ method: 'GET', path, headers: {}, body: null },
      wrong: (status, body) => {
        if (status !== 200) return `HTTP ${status}`;
        const name = createHash('sha256').update(body).digest('base64');
        const known = versions.get(path) ?? new Set<string>();
        versions.set(path, known);
        // What has been seen before needs no second look.
        if (known.has(name)) return undefined;
        if (!isWhole(body)) return 'no CRL, or half of one';
        known.add(name);
        return undefined;
      },
    };
  };
}

/** A request of a file of them. */
export interface ApiLine {
  readonly method?: 'GET' | 'POST';
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/** Requests to a CA API, or any that answers in JSON, one after the other; each write under a key of its own. */
export function apiRequests(lines: readonly ApiLine[]): () => CheckedRequest {
  let at = -1;
  return () => {
    at = (at + 1) % lines.length;
    const { method = 'GET', path, headers = {}, body } = lines[at] ?? { path: '/' };
    const isWrite = method === 'POST';
    return {
      ...{ method, path },
      headers: {
        ...(isWrite ? { 'Content-Type': 'application/json', 'Idempotency-Key': randomUUID() } : {}),
        ...headers,
      },
      body: body === undefined ? null : Buffer.from(JSON.stringify(body)),
      wrong: (status, answer) => {
        if (status >= 200 && status < 300) return undefined;
        const title = /"title":"([a-z-]+)"/.exec(answer.toString('utf8', 0, 1000))?.[1];
        return `HTTP ${status}${title === undefined ? '' : ` ${title}`}`;
      },
    };
  };
}
