import { sequence, tag, utf8String } from '../../core/asn1/der-writer.ts';
import { type ConsentItem, consentItems } from '../../core/model/consent.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { encodeSignedContent, parseSignedContent, type SignedContent } from './signed-content.ts';

/**
 * A holder's consent to the latest basic four, the eContent of a CMS SignedData made with the signing key of card or phone:
 *
 *     Consent ::= SEQUENCE {
 *       version      INTEGER (1),
 *       operation    UTF8String ("consent"),
 *       certificate  OCTET STRING,             -- SHA-256 of the certificate whose key signs
 *       challenge    OCTET STRING,             -- the server's, single use
 *       verifier     UTF8String,               -- who asks, as the register has it
 *       service      UTF8String,               -- for whose service: the verifier itself, or a provider behind it
 *       items        SEQUENCE OF UTF8String,   -- name, address, birthDate, sex
 *       purpose      UTF8String,
 *       text         UTF8String }              -- as it was shown to the holder
 */
export interface SignedConsent extends SignedContent {
  readonly verifier: string;
  readonly service: string;
  readonly items: readonly ConsentItem[];
  readonly purpose: string;
  readonly text: string;
}

const operation = 'consent';
const lengths = { purpose: 200, text: 4000 } as const;

export const encodeConsent = ({ verifier, service, items, purpose, text, ...head }: SignedConsent): Bytes =>
  encodeSignedContent(
    operation,
    head,
    utf8String(verifier),
    utf8String(service),
    sequence(...items.map(utf8String)),
    utf8String(purpose),
    utf8String(text),
  );

/** Throws `DerError` where the octets are no Consent. */
export const parseConsent = (der: Bytes): SignedConsent =>
  parseSignedContent(
    der,
    { name: 'Consent', operations: [operation] },
    (body, { certificate, challenge }) => {
      const [verifier, service] = [body.utf8String(), body.utf8String()];
      const list = body.enter(tag.sequence);
      const items = new Set<ConsentItem>();
      while (!list.atEnd) {
        const named = list.utf8String();
        const item = consentItems.find((known) => known === named);
        if (!item || items.has(item))
          return list.fail(`an item that is none of ${consentItems.join(', ')}, or is named twice`);
        items.add(item);
      }
      if (items.size === 0) return body.fail('no item');
      const [purpose, text] = [body.utf8String(), body.utf8String()];
      for (const [name, value] of Object.entries({ purpose, text })) {
        const max = lengths[name as keyof typeof lengths];
        if (value.trim() === '' || value.length > max) return body.fail(`${name}: of 1 to ${max} characters`);
      }
      return { certificate, challenge, verifier, service, items: [...items], purpose, text };
    },
  );

/**
 * That a consent is withdrawn, signed with any key of card or phone, also one that is held:
 *
 *     ConsentWithdrawal ::= SEQUENCE {
 *       version      INTEGER (1),
 *       operation    UTF8String ("withdraw-consent"),
 *       certificate  OCTET STRING,
 *       challenge    OCTET STRING,
 *       consentId    UTF8String }
 */
export interface ConsentWithdrawal extends SignedContent {
  readonly consentId: string;
}

const withdrawal = 'withdraw-consent';

export const encodeConsentWithdrawal = ({ consentId, ...head }: ConsentWithdrawal): Bytes =>
  encodeSignedContent(withdrawal, head, utf8String(consentId));

/** Throws `DerError` where the octets are no ConsentWithdrawal. */
export const parseConsentWithdrawal = (der: Bytes): ConsentWithdrawal =>
  parseSignedContent(
    der,
    { name: 'ConsentWithdrawal', operations: [withdrawal] },
    (body, { certificate, challenge }) => ({ certificate, challenge, consentId: body.utf8String() }),
  );
