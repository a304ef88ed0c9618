import type { Bytes } from '../runtime/bytes.ts';
import type { Suite } from './algorithms.ts';
import { DerReader } from './der-reader.ts';
import { bitString, context, integer, sequence, tag, tlv } from './der-writer.ts';
import { encodeName } from './name.ts';

/**
 * Certificate, CertificateList, CertificationRequest and (but for its certificates) BasicOCSPResponse share one
 * shape (RFC 5280 §4.1, §5.1; RFC 2986 §4.2; RFC 6960 §4.2.1):
 *
 *     SEQUENCE { toBeSigned, signatureAlgorithm AlgorithmIdentifier, signature BIT STRING }
 */
export function sealSigned(toBeSigned: Bytes, suite: Suite, signature: Bytes): Bytes {
  return sequence(toBeSigned, suite.algorithmIdentifier, bitString(signature));
}

export interface SignedData {
  readonly toBeSigned: Bytes;
  readonly algorithmIdentifier: Bytes;
  readonly signature: Bytes;
}

/** Throws `DerError` where the octets do not have that shape, whole. */
export function openSigned(der: Bytes): SignedData {
  const outer = new DerReader(der);
  const body = outer.enter(tag.sequence);
  outer.end();
  const toBeSigned = body.whole(tag.sequence);
  const algorithmIdentifier = body.whole(tag.sequence);
  const signature = body.bitString();
  body.end();
  return { toBeSigned, algorithmIdentifier, signature };
}

/**
 * A PKCS#10 request with an empty subject (RFC 2986 §4): a CA takes only the key from it.
 *
 *     CertificationRequestInfo ::= SEQUENCE { version INTEGER (0), subject Name, subjectPKInfo, attributes [0] }
 */
export async function certificationRequest(
  { publicKey, suite }: { readonly publicKey: Bytes; readonly suite: Suite },
  sign: (info: Bytes) => Bytes | Promise<Bytes>,
): Promise<Bytes> {
  const info = sequence(integer(0), encodeName([]), publicKey, tlv(context(0)));
  return sealSigned(info, suite, await sign(info));
}
