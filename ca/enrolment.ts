import type { Bytes } from '../core/bytes.ts';
import { DerReader } from '../core/der-reader.ts';
import { integer, octetString, sequence, tag, utf8String } from '../core/der-writer.ts';

/**
 * What a phone asks for and the card signs, the eContent of a CMS SignedData:
 *
 *     PhoneEnrolment ::= SEQUENCE {
 *       version                INTEGER (1),
 *       operation              UTF8String ("issue-to-phone"),
 *       cardCertificate        OCTET STRING,   -- SHA-256 of the card's signing certificate
 *       challenge              OCTET STRING,   -- the server's, single use
 *       device                 SEQUENCE { deviceId, platform, model, osVersion, secureElement UTF8String },
 *       signingRequest         CertificationRequest,
 *       authenticationRequest  CertificationRequest OPTIONAL }
 *
 * Without the second, signing alone: onto a phone whose signing certificate was revoked and whose authentication
 * certificate lives on.
 */
export interface PhoneEnrolment {
  readonly cardCertificate: Bytes;
  readonly challenge: Bytes;
  readonly device: Device;
  /** PKCS#10 DER. */
  readonly signingRequest: Bytes;
  readonly authenticationRequest: Bytes | null;
}

export interface Device {
  readonly deviceId: string;
  readonly platform: string;
  readonly model: string;
  readonly osVersion: string;
  readonly secureElement: string;
}

const operation = 'issue-to-phone';
const deviceFields = ['deviceId', 'platform', 'model', 'osVersion', 'secureElement'] as const;

export function encodePhoneEnrolment(enrolment: PhoneEnrolment): Bytes {
  return sequence(
    integer(1),
    utf8String(operation),
    octetString(enrolment.cardCertificate),
    octetString(enrolment.challenge),
    sequence(...deviceFields.map((field) => utf8String(enrolment.device[field]))),
    enrolment.signingRequest,
    ...(enrolment.authenticationRequest ? [enrolment.authenticationRequest] : []),
  );
}

/** Throws `DerError` where the octets are not a PhoneEnrolment. */
export function parsePhoneEnrolment(der: Bytes): PhoneEnrolment {
  const outer = new DerReader(der);
  const body = outer.enter(tag.sequence);
  outer.end();
  if (body.smallInteger() !== 1) body.fail('not version 1 of a PhoneEnrolment');
  if (body.utf8String() !== operation) body.fail(`an operation that is not ${operation}`);
  const cardCertificate = body.content(tag.octetString);
  const challenge = body.content(tag.octetString);
  const facts = body.enter(tag.sequence);
  const [deviceId = '', platform = '', model = '', osVersion = '', secureElement = ''] = deviceFields.map(
    () => facts.utf8String(),
  );
  facts.end();
  const signingRequest = body.whole(tag.sequence);
  const authenticationRequest = body.atEnd ? null : body.whole(tag.sequence);
  body.end();
  const device = { deviceId, platform, model, osVersion, secureElement };
  return { cardCertificate, challenge, device, signingRequest, authenticationRequest };
}
