import { utf8String } from '../../core/asn1/der-writer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { encodeSignedContent, parseSignedContent, type SignedContent } from './signed-content.ts';

/**
 * What a card signs for a move to another municipality, the eContent of a CMS SignedData made with its signing key:
 *
 *     HolderMove ::= SEQUENCE {
 *       version           INTEGER (1),
 *       operation         UTF8String ("move-holder"),
 *       cardCertificate   OCTET STRING,   -- SHA-256 of the certificate whose key signs
 *       challenge         OCTET STRING,   -- the server's, single use
 *       municipalityCode  UTF8String }    -- where to, five digits
 */
export interface HolderMove extends SignedContent {
  readonly municipalityCode: string;
}

const operation = 'move-holder';

export const encodeHolderMove = ({ municipalityCode, ...head }: HolderMove): Bytes =>
  encodeSignedContent(operation, head, utf8String(municipalityCode));

/** Throws `DerError` where the octets are no HolderMove. */
export const parseHolderMove = (der: Bytes): HolderMove =>
  parseSignedContent(der, { name: 'HolderMove', operations: [operation] }, (body, head) => ({
    certificate: head.certificate,
    challenge: head.challenge,
    municipalityCode: body.utf8String(),
  }));
