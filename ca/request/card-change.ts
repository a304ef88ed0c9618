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
 *       event             UTF8String,     -- by which the card's certificates are replaced
 *       cardId            UTF8String,     -- of the card that carries the new ones
 *       requests          OCTET STRING }  -- SHA-256 of the PKCS#10 requests, DER: signing, then authentication
 */
export interface CardChange extends SignedContent {
  readonly municipalityCode: string;
  readonly event: string;
  readonly cardId: string;
  readonly requests: Bytes;
}

const operation = 'change-card';

export const encodeCardChange = ({ municipalityCode, event, cardId, requests, ...head }: CardChange): Bytes =>
  encodeSignedContent(
    operation,
    head,
    ...[municipalityCode, event, cardId].map(utf8String),
    octetString(requests),
  );

/** Throws `DerError` where the octets are no CardChange. */
export const parseCardChange = (der: Bytes): CardChange =>
  parseSignedContent(der, { name: 'CardChange', operations: [operation] }, (body, head) => ({
    certificate: head.certificate,
    challenge: head.challenge,
    municipalityCode: body.utf8String(),
    event: body.utf8String(),
    cardId: body.utf8String(),
    requests: body.content(tag.octetString),
  }));
