import { utf8String } from '../../core/asn1/der-writer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { encodeSignedContent, parseSignedContent, type SignedContent } from './signed-content.ts';

/**
 * That a holder has shown a certificate to a verifier, signed with that certificate's key. It names the verifier, so that no signature
 * under a public document, or for another verifier, is one:
 *
 *     Receipt ::= SEQUENCE {
 *       version      INTEGER (1),
 *       operation    UTF8String ("shown-to-verifier"),
 *       certificate  OCTET STRING,   -- SHA-256 of the certificate whose key signs
 *       challenge    OCTET STRING,   -- the verifier's own
 *       verifier     UTF8String }    -- as the register has it
 */
export interface Receipt extends SignedContent {
  readonly verifier: string;
}

const operation = 'shown-to-verifier';

export const encodeReceipt = ({ verifier, ...head }: Receipt): Bytes =>
  encodeSignedContent(operation, head, utf8String(verifier));

/** Throws `DerError` where the octets are no Receipt. */
export const parseReceipt = (der: Bytes): Receipt =>
  parseSignedContent(
    der,
    { name: 'Receipt', operations: [operation] },
    (body, { certificate, challenge }) => ({ certificate, challenge, verifier: body.utf8String() }),
  );
