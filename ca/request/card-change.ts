import { octetString, tag, utf8String } from '../../core/asn1/der-writer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { encodeSignedContent, parseSignedContent, type SignedContent } from './signed-content.ts';

/**
 * What a card signs for new certificates that take the place of its own, the eContent of a CMS SignedData made with its signing key:
 *
 *     CardChange ::= SEQUENCE {
 *       version           INTEGER (1),
 *       operation         UTF8String ("change-card"),
 *       cardCertificate   OCTET STRING,   -- SHA-256 of the certificate whose key signs
 *       challenge         OCTET STRING,   -- the server's, single use
 *       municipalityCode  UTF8String,     -- that issues, five digits
 *       requests          OCTET STRING }  -- SHA-256 of the PKCS#10 requests, DER: signing, then authentication
 */
export interface CardChange extends SignedContent {
  readonly municipalityCode: string;
  readonly requests: Bytes;
}

const operation = 'change-card';

export const encodeCardChange = ({ municipalityCode, requests, ...head }: CardChange): Bytes =>
  encodeSignedContent(operation, head, utf8String(municipalityCode), octetString(requests));

/** Throws `DerError` where the octets are no CardChange. */
export const parseCardChange = (der: Bytes): CardChange =>
  parseSignedContent(der, { name: 'CardChange', operations: [operation] }, (body, head) => ({
    certificate: head.certificate,
    challenge: head.challenge,
    municipalityCode: body.utf8String(),
    requests: body.content(tag.octetString),
  }));
