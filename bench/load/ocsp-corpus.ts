// Requests with every extension a stranger can send, well-formed or not: what fuzzing starts from.
import { randomBytes } from 'node:crypto';
import {
  context,
  explicit,
  integer,
  nullValue,
  objectIdentifier,
  octetString,
  sequence,
  tlv,
} from '../../core/asn1/der-writer.ts';
import { extension } from '../../core/asn1/extension.ts';
import { directoryName, encodeName } from '../../core/asn1/name.ts';
import { oid } from '../../core/asn1/oids.ts';
import { certIdIssuer } from '../../ocsp/protocol/request.ts';

type Bytes = Uint8Array;

const rsaWithSha256 = sequence(objectIdentifier('1.2.840.113549.1.1.11'), nullValue);
const ecdsaWithSha256 = sequence(objectIdentifier('1.2.840.10045.4.3.2'));
const preferred = (...entries: Bytes[]): Bytes =>
  extension(oid.ocspPreferredAlgorithms, sequence(...entries.map((entry) => sequence(entry))));

/** Values of requestExtensions, by what is special about each. */
export const requestExtensions: Readonly<Record<string, Bytes>> = {
  nonce: extension(oid.ocspNonce, octetString(randomBytes(16))),
  'nonce that is not wrapped': extension(oid.ocspNonce, randomBytes(16)),
  'preferred algorithm': preferred(rsaWithSha256),
  'preferred algorithm and key': preferred(
    Buffer.concat([
      ecdsaWithSha256,
      sequence(objectIdentifier('1.2.840.10045.2.1'), objectIdentifier('1.2.840.10045.3.1.7')),
    ]),
  ),
  'preferred key without an algorithm': preferred(Buffer.concat([rsaWithSha256, sequence()])),
  'preferred key that is null': preferred(Buffer.concat([ecdsaWithSha256, sequence(nullValue)])),
  'preferred nothing': preferred(),
  'acceptable responses': extension(
    oid.ocspAcceptableResponses,
    sequence(objectIdentifier(oid.ocspBasic)),
    'critical',
  ),
  'unknown and critical': extension('1.2.3.4', octetString(randomBytes(4)), 'critical'),
  'unknown and not critical': extension('1.2.3.4', octetString(randomBytes(4))),
};

export interface RequestParts {
  /** One element for each certificate asked about: everything of the CertID but the serial number, and that. */
  readonly certIds: readonly {
    readonly issuer: Bytes;
    readonly serial: Bytes;
    readonly extensions?: Bytes;
  }[];
  readonly extensions?: readonly Bytes[];
  readonly requestor?: Bytes;
}

export function requestOf({ certIds, extensions = [], requestor }: RequestParts): Bytes {
  const list = certIds.map(({ issuer, serial, extensions: single }) =>
    sequence(sequence(issuer, integerOf(serial)), ...(single ? [explicit(0, sequence(single))] : [])),
  );
  return sequence(
    sequence(
      ...(requestor ? [explicit(1, requestor)] : []),
      sequence(...list),
      ...(extensions.length > 0 ? [tlv(context(2), sequence(...extensions))] : []),
    ),
  );
}

const integerOf = (serial: Bytes): Bytes => tlv(0x02, serial);

/** Requests about one certificate of an authority, one for each extension and a few more shapes. */
export function requestCorpus(authority: Bytes, serial: Bytes): Bytes[] {
  const [issuer, modern] = [certIdIssuer(authority, 'sha1'), certIdIssuer(authority, 'sha256')];
  const all = Object.values(requestExtensions);
  return [
    requestOf({ certIds: [{ issuer, serial }] }),
    requestOf({ certIds: [{ issuer: modern, serial }] }),
    ...all.map((each) => requestOf({ certIds: [{ issuer, serial }], extensions: [each] })),
    ...all.map((each) => requestOf({ certIds: [{ issuer, serial, extensions: each }] })),
    requestOf({ certIds: Array.from({ length: 16 }, () => ({ issuer, serial })) }),
    requestOf({
      certIds: [
        { issuer, serial },
        { issuer: modern, serial: integer(5).subarray(2) },
      ],
    }),
    requestOf({ certIds: [{ issuer, serial }], requestor: directoryName(encodeName([['CN', 'somebody']])) }),
  ];
}
