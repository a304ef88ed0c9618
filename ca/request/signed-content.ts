import { DerReader } from '../../core/asn1/der-reader.ts';
import { integer, octetString, sequence, tag, utf8String } from '../../core/asn1/der-writer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';

/**
 * What every content that a holder signs begins with. `operation` says what is wanted, so that nothing else can be made of the
 * signature.
 *
 *     SEQUENCE {
 *       version      INTEGER (1),
 *       operation    UTF8String,
 *       certificate  OCTET STRING,   -- SHA-256 of the certificate whose key signs
 *       challenge    OCTET STRING,   -- the server's, single use
 *       ... }
 */
export interface SignedContent {
  readonly certificate: Bytes;
  readonly challenge: Bytes;
}

/** A kind of content: its name, as refusals say it, and its operations. */
export interface ContentForm<Operation extends string> {
  readonly name: string;
  readonly operations: readonly Operation[];
}

export const encodeSignedContent = (
  operation: string,
  { certificate, challenge }: SignedContent,
  ...fields: readonly Bytes[]
): Bytes =>
  sequence(integer(1), utf8String(operation), octetString(certificate), octetString(challenge), ...fields);

/** `readFields` reads what follows. Throws `DerError` where the octets are no content of that form. */
export function parseSignedContent<Operation extends string, Content>(
  der: Bytes,
  { name, operations }: ContentForm<Operation>,
  readFields: (body: DerReader, head: SignedContent & { readonly operation: Operation }) => Content,
): Content {
  const outer = new DerReader(der);
  const body = outer.enter(tag.sequence);
  outer.end();
  if (body.smallInteger() !== 1) body.fail(`not version 1 of ${name}`);
  const named = body.utf8String();
  const operation = operations.find((known) => known === named);
  if (!operation) return body.fail(`an operation that is not ${operations.join(' or ')}`);
  const certificate = body.content(tag.octetString);
  const challenge = body.content(tag.octetString);
  const content = readFields(body, { operation, certificate, challenge });
  body.end();
  return content;
}
