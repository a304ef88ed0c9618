import type { DerReader } from '../../core/asn1/der-reader.ts';
import { context, explicit, sequence, tag, utf8String } from '../../core/asn1/der-writer.ts';
import { type Bytes, equal } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { type NoticeOccasion, noticeOccasions } from '../../store/api/outbox-store.ts';
import { type Language, languages, type NoticePreferences } from '../../store/api/preference-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { type HolderMessage, readHolderMessage } from '../issue/holder-message.ts';
import { encodeSignedContent, parseSignedContent, type SignedContent } from '../request/signed-content.ts';

/**
 * A holder's notice preferences, the eContent of a CMS SignedData made with the signing key of card or phone:
 *
 *     NoticeWishes ::= SEQUENCE {
 *       version      INTEGER (1),
 *       operation    UTF8String ("notice-wishes"),
 *       certificate  OCTET STRING,             -- SHA-256 of the certificate whose key signs
 *       challenge    OCTET STRING,             -- the server's, single use
 *       occasions    SEQUENCE OF UTF8String,   -- issued, revoked, held, released, used
 *       language     UTF8String,               -- ja or en
 *       mailAddress  [0] UTF8String OPTIONAL } -- one address; without it: through the portal
 */
export interface NoticeWishes extends SignedContent {
  readonly occasions: readonly NoticeOccasion[];
  readonly language: Language;
  readonly mailAddress: string | null;
}

const operation = 'notice-wishes';
/**
 * One address, never a list: nothing that parts addresses, quotes them, or cannot be seen; labels of a host's name behind it;
 * of at most 254 octets (RFC 5321 §4.5.3.1).
 */
const oneAddress =
  /^[^\s@<>,;:"()[\]\\\p{C}]{1,64}@[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/u;
const addressMax = 254;

export function encodeNoticeWishes({ occasions, language, mailAddress, ...head }: NoticeWishes): Bytes {
  return encodeSignedContent(
    operation,
    head,
    sequence(...occasions.map(utf8String)),
    utf8String(language),
    ...(mailAddress === null ? [] : [explicit(0, utf8String(mailAddress))]),
  );
}

/** Throws `DerError` where the octets are not NoticeWishes. */
export const parseNoticeWishes = (der: Bytes): NoticeWishes =>
  parseSignedContent(
    der,
    { name: 'NoticeWishes', operations: [operation] },
    (body, { certificate, challenge }) => {
      const occasions = occasionsIn(body.enter(tag.sequence));
      const named = body.utf8String();
      const language = languages.find((known) => known === named);
      if (!language) return body.fail(`a language that is none of ${languages.join(', ')}`);
      const mailAddress = body.peek() === context(0) ? addressIn(body.enter(context(0))) : null;
      return { certificate, challenge, occasions, language, mailAddress };
    },
  );

function occasionsIn(list: DerReader): NoticeOccasion[] {
  const occasions = new Set<NoticeOccasion>();
  while (!list.atEnd) {
    const named = list.utf8String();
    const occasion = noticeOccasions.find((known) => known === named);
    if (!occasion || occasions.has(occasion))
      return list.fail(`an occasion that is none of ${noticeOccasions.join(', ')}, or is named twice`);
    occasions.add(occasion);
  }
  return [...occasions];
}

function addressIn(reader: DerReader): string {
  const address = reader.utf8String();
  reader.end();
  if (Buffer.byteLength(address) > addressMax || !oneAddress.test(address))
    return reader.fail('a mail address that is not one address');
  return address;
}

/** What a holder signed. `not-found` where the path names another holder than signed. */
export async function readNoticeWishes(
  ca: CertificateAuthority,
  der: Bytes,
  { holderId, client }: { readonly holderId: string; readonly client: string },
): Promise<HolderMessage<NoticeWishes>> {
  const form = {
    contentType: ca.config.scheme.noticeWishesContentType,
    name: 'NoticeWishes',
    parse: parseNoticeWishes,
    kinds: ['card-signing', 'phone-signing'],
    mayBeHeld: false,
  } as const;
  const message = await readHolderMessage(ca, form, { der, client });
  if (message.view.holderId !== holderId) throw new PkiError('not-found', 'the signer is another holder');
  if (message.content.mailAddress !== null && ca.config.notices.mail === undefined)
    throw new PkiError('bad-request', 'mailAddress: no mail is sent here (notices.mail)');
  return message;
}

/** Where a holder's mail address is sealed: under which data key, and for which use. */
export const addressKey = 'addresses';
export const addressContext = (holderId: string): string => `mail:${holderId}`;

/** Whether preferences have that address, confirmed. */
export async function isAddressOf(
  { sealer }: Pick<CertificateAuthority, 'sealer'>,
  preferences: NoticePreferences | undefined,
  address: string,
): Promise<boolean> {
  if (!preferences?.mailAddress) return false;
  return equal(
    await sealer.open(addressContext(preferences.holderId), preferences.mailAddress),
    Buffer.from(address),
  );
}

/** Crockford's base 32: no letters that are read for digits, or for others. */
const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
export const spelled = (octets: Bytes, length: number): string =>
  Array.from(octets.subarray(0, length), (octet) => alphabet[octet & 31]).join('');

/** The code by which an address is confirmed, 40 bits: made of the message that carries it, so that no record holds it. */
export async function addressCodeOf(
  { sealer }: Pick<CertificateAuthority, 'sealer'>,
  messageId: string,
): Promise<string> {
  return spelled(await sealer.keyedHash(Buffer.from(`address-code:${messageId}`)), 8);
}
