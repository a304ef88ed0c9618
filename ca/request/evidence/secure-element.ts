import { parseCertificate } from '../../../core/asn1/certificate-reader.ts';
import { DerError, DerReader } from '../../../core/asn1/der-reader.ts';
import { integer, octetString, sequence, tag, utf8String } from '../../../core/asn1/der-writer.ts';
import { type Bytes, digest, equal } from '../../../core/runtime/bytes.ts';
import { PkiError } from '../../../core/runtime/errors.ts';
import type { Device } from '../enrolment.ts';
import { readSignedMessage } from '../signed-message.ts';

/**
 * By which the SP-TSM vouches that keys were made in a secure element, the eContent of a CMS SignedData of its own:
 *
 *     SecureElementStatement ::= SEQUENCE {
 *       version        INTEGER (1),
 *       statement      UTF8String ("keys-in-secure-element"),
 *       challenge      OCTET STRING,             -- the server's, of the enrolment
 *       deviceId       UTF8String,
 *       platform       UTF8String,
 *       model          UTF8String,
 *       secureElement  UTF8String,
 *       keys           SEQUENCE OF OCTET STRING  -- SHA-256 of the SubjectPublicKeyInfo of each request, in their order
 *     }
 */
export interface SecureElementStatement {
  readonly challenge: Bytes;
  readonly deviceId: string;
  readonly platform: string;
  readonly model: string;
  readonly secureElement: string;
  readonly keys: readonly Bytes[];
}

const statement = 'keys-in-secure-element';

export function encodeSecureElementStatement(of: SecureElementStatement): Bytes {
  return sequence(
    integer(1),
    utf8String(statement),
    octetString(of.challenge),
    utf8String(of.deviceId),
    utf8String(of.platform),
    utf8String(of.model),
    utf8String(of.secureElement),
    sequence(...of.keys.map(octetString)),
  );
}

/** Throws `DerError` where the octets are not a SecureElementStatement. */
export function parseSecureElementStatement(der: Bytes): SecureElementStatement {
  const outer = new DerReader(der);
  const body = outer.enter(tag.sequence);
  outer.end();
  if (body.smallInteger() !== 1) body.fail('not version 1 of a SecureElementStatement');
  if (body.utf8String() !== statement) body.fail(`a statement that is not ${statement}`);
  const challenge = body.content(tag.octetString);
  const deviceId = body.utf8String();
  const platform = body.utf8String();
  const model = body.utf8String();
  const secureElement = body.utf8String();
  const list = body.enter(tag.sequence);
  const keys: Bytes[] = [];
  while (!list.atEnd) keys.push(list.content(tag.octetString));
  body.end();
  return { challenge, deviceId, platform, model, secureElement, keys };
}

function refuse(what: string, cause?: unknown): never {
  throw new PkiError('invalid-device-evidence', `secureElementStatement: ${what}`, { cause });
}

/** Checks that one of the configured signers says it of this enrolment's device, challenge and keys. */
export function checkSecureElementStatement(
  der: Bytes,
  expected: {
    readonly contentType: string;
    readonly challenge: Bytes;
    readonly device: Device;
    /** SubjectPublicKeyInfo DER of each request. */
    readonly publicKeys: readonly Bytes[];
  },
  rules: { readonly signers: readonly Bytes[]; readonly nowMs: number },
): void {
  const content = verified(der, expected.contentType, rules);
  const said = parse(content);
  if (!equal(said.challenge, expected.challenge)) refuse('challenge: not that of the enrolment');
  for (const fact of ['deviceId', 'platform', 'model', 'secureElement'] as const) {
    if (said[fact] !== expected.device[fact]) refuse(`${fact}: not that of the enrolment`);
  }
  const keys = expected.publicKeys.map((key) => digest('sha256', key));
  if (
    keys.length !== said.keys.length ||
    keys.some((key, i) => !equal(key, said.keys[i] ?? new Uint8Array()))
  )
    refuse('keys: not those of the requests');
}

function verified(
  der: Bytes,
  contentType: string,
  { signers, nowMs }: { readonly signers: readonly Bytes[]; readonly nowMs: number },
): Bytes {
  try {
    const message = readSignedMessage(der, contentType);
    const [said] = message.signers;
    const signer = signers.find((certificate) => {
      const { issuer, serial } = parseCertificate(certificate);
      return equal(issuer, said.issuer) && equal(serial, said.serial);
    });
    if (!signer) return refuse('its signer is not configured');
    const { notBeforeMs, notAfterMs } = parseCertificate(signer);
    if (nowMs < notBeforeMs || nowMs > notAfterMs) return refuse('its signer’s certificate is not valid now');
    said.verify(signer);
    return message.content;
  } catch (error) {
    if (!(error instanceof PkiError) || error.code === 'invalid-device-evidence') throw error;
    return refuse(error.message, error);
  }
}

function parse(content: Bytes): SecureElementStatement {
  try {
    return parseSecureElementStatement(content);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    return refuse(error.message, error);
  }
}
