import { utf8String } from '../../core/asn1/der-writer.ts';
import type { Target } from '../../core/model/plan.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { ChangeCommand } from '../../store/api/certificate-store.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { readHolderMessage } from '../issue/holder-message.ts';
import { encodeSignedContent, parseSignedContent, type SignedContent } from '../request/signed-content.ts';

/**
 * What a phone signs to be given up, the eContent of a CMS SignedData made with either of its keys:
 *
 *     PhoneRevocation ::= SEQUENCE {
 *       version           INTEGER (1),
 *       operation         UTF8String ("revoke-phone"),
 *       phoneCertificate  OCTET STRING,   -- SHA-256 of the certificate whose key signs
 *       challenge         OCTET STRING,   -- the server's, single use
 *       deviceId          UTF8String }
 */
export interface PhoneRevocation extends SignedContent {
  readonly deviceId: string;
}

const operation = 'revoke-phone';
/** What befalls a phone that is given up by itself. */
const event = 'phone-given-up';

export const encodePhoneRevocation = ({ deviceId, ...head }: PhoneRevocation): Bytes =>
  encodeSignedContent(operation, head, utf8String(deviceId));

/** Throws `DerError` where the octets are not a PhoneRevocation. */
export const parsePhoneRevocation = (der: Bytes): PhoneRevocation =>
  parseSignedContent(
    der,
    { name: 'PhoneRevocation', operations: [operation] },
    (body, { certificate, challenge }) => ({ certificate, challenge, deviceId: body.utf8String() }),
  );

/**
 * What a phone's own revocation does, once its signature is verified. A certificate that is held may sign it: it can do no
 * more than end itself. `invalid-signed-request` otherwise.
 */
export async function readPhoneRevocation(
  ca: CertificateAuthority,
  der: Bytes,
  client: string,
): Promise<Pick<ChangeCommand, 'target' | 'plan' | 'challengeHash'>> {
  const form = {
    contentType: ca.config.scheme.revocationContentType,
    name: 'PhoneRevocation',
    parse: parsePhoneRevocation,
    kinds: ['phone-signing', 'phone-authentication'],
    mayBeHeld: true,
  } as const;
  const { content, view, challengeHash } = await readHolderMessage(ca, form, { der, client });
  const mediumId = `phone:${content.deviceId}`;
  if (view.mediumId !== mediumId)
    throw new PkiError(
      'invalid-signed-request',
      'deviceId: not the phone that carries the signer’s certificate',
    );
  const target: Target = { type: 'medium', mediumId };
  return { target, plan: { type: 'event', event, target }, challengeHash };
}
