import type { DerReader } from '../../core/asn1/der-reader.ts';
import { context, explicit, sequence, tag, utf8String } from '../../core/asn1/der-writer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { encodeSignedContent, parseSignedContent } from './signed-content.ts';

/**
 * What a phone asks for and the card signs, the eContent of a CMS SignedData:
 *
 *     PhoneEnrolment ::= SEQUENCE {
 *       version                INTEGER (1),
 *       operation              UTF8String,
 *       cardCertificate        OCTET STRING,   -- SHA-256 of the card's signing certificate
 *       challenge              OCTET STRING,   -- the server's, single use
 *       device                 SEQUENCE { deviceId, platform, model, osVersion, secureElement, patchLevel UTF8String },
 *       replaces               [0] UTF8String OPTIONAL,   -- deviceId of the phone whose place this one takes
 *       signingRequest         [1] CertificationRequest OPTIONAL,
 *       authenticationRequest  [2] CertificationRequest OPTIONAL,
 *       terms                  [3] UTF8String OPTIONAL,   -- version of the terms of use that the holder agreed to
 *       appletVersion          [4] UTF8String OPTIONAL,
 *       appVersion             [5] UTF8String OPTIONAL }
 *
 * `operation` says what is wanted, so that nothing else can be made of the signature:
 *
 * - `issue-to-phone`: a pair; or signing alone, onto a phone whose signing certificate was revoked and whose
 *   authentication certificate lives on
 * - `issue-authentication-to-phone`: no signing certificate is wanted
 * - `change-phone`: a pair, which takes the place of that of the phone that `replaces` names
 * - `renew-phone`: a pair, which takes the place of the one that this phone has
 */
export interface PhoneEnrolment {
  readonly operation: PhoneOperation;
  readonly cardCertificate: Bytes;
  readonly challenge: Bytes;
  readonly device: Device;
  readonly replaces: string | null;
  /** PKCS#10 DER. */
  readonly signingRequest: Bytes | null;
  readonly authenticationRequest: Bytes | null;
  /** Version of the terms of use agreed to. */
  readonly terms: string | null;
  /** Of the applet in the secure element, and of the app. */
  readonly appletVersion?: string | null;
  readonly appVersion?: string | null;
}

export interface Device {
  readonly deviceId: string;
  readonly platform: string;
  readonly model: string;
  readonly osVersion: string;
  readonly secureElement: string;
  /** `YYYY-MM` or `YYYY-MM-DD`; empty where the platform has none. */
  readonly patchLevel: string;
}

const operations = [
  'issue-to-phone',
  'issue-authentication-to-phone',
  'change-phone',
  'renew-phone',
] as const;
export type PhoneOperation = (typeof operations)[number];

const deviceFields = [
  'deviceId',
  'platform',
  'model',
  'osVersion',
  'secureElement',
  'patchLevel',
] as const satisfies readonly (keyof Device)[];

export function encodePhoneEnrolment(enrolment: PhoneEnrolment): Bytes {
  const { operation, cardCertificate, challenge, replaces, signingRequest, authenticationRequest, terms } =
    enrolment;
  const { appletVersion = null, appVersion = null } = enrolment;
  return encodeSignedContent(
    operation,
    { certificate: cardCertificate, challenge },
    sequence(...deviceFields.map((field) => utf8String(enrolment.device[field]))),
    ...(replaces === null ? [] : [explicit(0, utf8String(replaces))]),
    ...(signingRequest ? [explicit(1, signingRequest)] : []),
    ...(authenticationRequest ? [explicit(2, authenticationRequest)] : []),
    ...(terms === null ? [] : [explicit(3, utf8String(terms))]),
    ...(appletVersion === null ? [] : [explicit(4, utf8String(appletVersion))]),
    ...(appVersion === null ? [] : [explicit(5, utf8String(appVersion))]),
  );
}

/** Throws `DerError` where the octets are not a PhoneEnrolment. */
export const parsePhoneEnrolment = (der: Bytes): PhoneEnrolment =>
  parseSignedContent(der, { name: 'PhoneEnrolment', operations }, (body, head) => {
    const { operation, certificate: cardCertificate, challenge } = head;
    const device = deviceIn(body.enter(tag.sequence));
    const replaces = optional(body, 0, (reader) => reader.utf8String());
    const signingRequest = optional(body, 1, (reader) => reader.whole(tag.sequence));
    const authenticationRequest = optional(body, 2, (reader) => reader.whole(tag.sequence));
    const terms = optional(body, 3, (reader) => reader.utf8String());
    const appletVersion = optional(body, 4, (reader) => reader.utf8String());
    const appVersion = optional(body, 5, (reader) => reader.utf8String());
    return {
      operation,
      cardCertificate,
      challenge,
      device,
      replaces,
      signingRequest,
      authenticationRequest,
      terms,
      appletVersion,
      appVersion,
    };
  });

function deviceIn(reader: DerReader): Device {
  const device = Object.fromEntries(deviceFields.map((field) => [field, reader.utf8String()]));
  reader.end();
  return device as Record<keyof Device, string>;
}

function optional<T>(body: DerReader, n: number, read: (reader: DerReader) => T): T | null {
  if (body.peek() !== context(n)) return null;
  const reader = body.enter(context(n));
  const value = read(reader);
  reader.end();
  return value;
}
