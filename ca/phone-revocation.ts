import { type Bytes, digest, equal } from '../core/bytes.ts';
import type { ChangeCommand } from '../core/certificate-store.ts';
import { DerError, DerReader } from '../core/der-reader.ts';
import { integer, octetString, sequence, tag, utf8String } from '../core/der-writer.ts';
import { PkiError } from '../core/errors.ts';
import type { Target } from '../core/plan.ts';
import { findSigner, openCertificate } from './enrolling-card.ts';
import type { CertificateAuthority } from './issue.ts';
import { planEvent } from './policy.ts';
import { readSignedMessage } from './signed-message.ts';

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
export interface PhoneRevocation {
  readonly phoneCertificate: Bytes;
  readonly challenge: Bytes;
  readonly deviceId: string;
}

const operation = 'revoke-phone';
/** What befalls a phone that is given up by itself. */
const event = 'phone-given-up';

export function encodePhoneRevocation({ phoneCertificate, challenge, deviceId }: PhoneRevocation): Bytes {
  return sequence(
    integer(1),
    utf8String(operation),
    octetString(phoneCertificate),
    octetString(challenge),
    utf8String(deviceId),
  );
}

/** Throws `DerError` where the octets are not a PhoneRevocation. */
export function parsePhoneRevocation(der: Bytes): PhoneRevocation {
  const outer = new DerReader(der);
  const body = outer.enter(tag.sequence);
  outer.end();
  if (body.smallInteger() !== 1) body.fail('not version 1 of a PhoneRevocation');
  if (body.utf8String() !== operation) body.fail(`an operation that is not ${operation}`);
  const phoneCertificate = body.content(tag.octetString);
  const challenge = body.content(tag.octetString);
  const deviceId = body.utf8String();
  body.end();
  return { phoneCertificate, challenge, deviceId };
}

/**
 * What a phone's own revocation does, once its signature is verified. A certificate that is held may sign it: it can do no
 * more than end itself. `invalid-signed-request` otherwise.
 */
export async function readPhoneRevocation(
  ca: CertificateAuthority,
  der: Bytes,
  client: string,
): Promise<Pick<ChangeCommand, 'target' | 'plan' | 'challengeHash'>> {
  const message = readSignedMessage(der, ca.config.scheme.revocationContentType);
  const revocation = parse(message.content);
  const challengeHash = digest('sha256', revocation.challenge);
  await ca.store.checkChallenge(challengeHash, client);
  const [signer] = message.signers;
  const key = findSigner(ca, signer);
  const view = key && (await ca.store.certificate(key));
  if (!key || (view?.kind !== 'phone-signing' && view?.kind !== 'phone-authentication'))
    refuse('the signer is not a phone’s signing certificate of this CA, nor one for authentication');
  const certificate = await openCertificate(ca, key);
  if (!certificate) refuse('the phone’s certificate is not issued yet');
  signer.verify(certificate);
  if (!equal(revocation.phoneCertificate, digest('sha256', certificate)))
    refuse('phoneCertificate: not the hash of the signer’s certificate');
  const mediumId = `phone:${revocation.deviceId}`;
  if (view.mediumId !== mediumId) refuse('deviceId: not the phone that carries the signer’s certificate');
  const nowMs = ca.clock.wallMs();
  if (view.state !== 'good' && view.state !== 'held') refuse(`the phone’s certificate is ${view.state}`);
  if (view.notAfterMs <= nowMs) refuse('the phone’s certificate has expired');
  const target: Target = { type: 'medium', mediumId };
  const plan = planEvent(ca.config.policy, event, target, nowMs);
  return { target, plan, challengeHash };
}

function parse(content: Bytes): PhoneRevocation {
  try {
    return parsePhoneRevocation(content);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    return refuse(`the content is no PhoneRevocation: ${error.message}`, error);
  }
}

function refuse(what: string, cause?: unknown): never {
  throw new PkiError('invalid-signed-request', what, { cause });
}
