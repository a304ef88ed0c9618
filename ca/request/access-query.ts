import { utf8String } from '../../core/asn1/der-writer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { encodeSignedContent, parseSignedContent, type SignedContent } from './signed-content.ts';

/**
 * A holder's question who looked the holder up, the eContent of a CMS SignedData made with any key of card or phone:
 *
 *     AccessQuery ::= SEQUENCE {
 *       version      INTEGER (1),
 *       operation    UTF8String ("list-accesses"),
 *       certificate  OCTET STRING,   -- SHA-256 of the certificate whose key signs
 *       challenge    OCTET STRING,   -- the server's, single use
 *       holderId     UTF8String }    -- the holder's own
 */
export interface AccessQuery extends SignedContent {
  readonly holderId: string;
}

const operation = 'list-accesses';

export const encodeAccessQuery = ({ holderId, ...head }: AccessQuery): Bytes =>
  encodeSignedContent(operation, head, utf8String(holderId));

/** Throws `DerError` where the octets are no AccessQuery. */
export const parseAccessQuery = (der: Bytes): AccessQuery =>
  parseSignedContent(
    der,
    { name: 'AccessQuery', operations: [operation] },
    (body, { certificate, challenge }) => ({ certificate, challenge, holderId: body.utf8String() }),
  );
