import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { DerError } from '../../core/asn1/der-reader.ts';
import { readX509 } from '../../core/asn1/x509.ts';
import type { ConsentItem } from '../../core/model/consent.ts';
import { endOfConsent } from '../../core/model/consent.ts';
import { type Bytes, equal } from '../../core/runtime/bytes.ts';
import { must, PkiError } from '../../core/runtime/errors.ts';
import { uuidAt } from '../../core/runtime/uuid.ts';
import type { CertificateView } from '../../store/api/certificate-store.ts';
import type { Consent, Question } from '../../store/api/consent-store.ts';
import type { OperatorCommand } from '../../store/api/outcome.ts';
import { parseConsent, parseConsentWithdrawal } from '../request/consent.ts';
import { subjectAltNameId } from '../request/identity.ts';
import { publicKeyHash } from '../request/key.ts';
import { Sealer } from '../sealing/sealer.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { findSigner, openCertificate } from './enrolling-card.ts';
import { readHolderMessage } from './holder-message.ts';
import { factOf } from './same-person.ts';

// Consents to the latest basic four: how one is given and withdrawn, and what is given by it.

/** Records what a holder has signed for this verifier. Throws as `readHolderMessage` and `ConsentStore.record`. */
export async function giveConsent(
  ca: CertificateAuthority,
  command: OperatorCommand,
  { der, verifierId }: { readonly der: Bytes; readonly verifierId: string },
): Promise<Consent> {
  const { scheme, verifiers } = ca.config;
  const form = {
    contentType: scheme.consentContentType,
    name: 'Consent',
    parse: parseConsent,
    kinds: verifiers.consentSignedBy,
    mayBeHeld: false,
  } as const;
  const { client } = command.scope;
  const { content, view, challengeHash } = await readHolderMessage(ca, form, { der, client });
  if (content.verifier !== verifierId)
    throw new PkiError('invalid-signed-request', 'verifier: the content names another verifier');
  const signer = must(await openCertificate(ca, view), 'certificate that signed');
  const givenMs = ca.clock.wallMs();
  const consentId = uuidAt(givenMs);
  const endsMs = endOfConsent(givenMs, verifiers.consentYears);
  const evidence = await ca.sealer.seal(Sealer.keyFor(endsMs), `evidence:${consentId}`, der);
  const { service: serviceId, items, purpose } = content;
  return ca.consents.record({
    ...{ ...command, challengeHash, evidence, keyHash: publicKeyHash(parseCertificate(signer).publicKey) },
    consent: {
      ...{ consentId, holderId: view.holderId, verifierId, serviceId, items, purpose, givenMs, endsMs },
      signedWith: view,
    },
  });
}

/** Withdraws what the holder has signed for, with any key that is good or held. */
export async function withdrawByHolder(
  ca: CertificateAuthority,
  command: OperatorCommand,
  { der, consentId }: { readonly der: Bytes; readonly consentId: string },
): Promise<Consent> {
  const form = {
    contentType: ca.config.scheme.withdrawalContentType,
    name: 'ConsentWithdrawal',
    parse: parseConsentWithdrawal,
    kinds: ['card-signing', 'card-authentication', 'phone-signing', 'phone-authentication'],
    mayBeHeld: true,
  } as const;
  const { client } = command.scope;
  const { content, view, challengeHash } = await readHolderMessage(ca, form, { der, client });
  if (content.consentId !== consentId)
    throw new PkiError('invalid-signed-request', 'consentId: the content names another consent');
  const by = { type: 'holder', holderId: view.holderId, challengeHash } as const;
  return ca.consents.withdraw({ ...command, consentId, by });
}

/** What was consented to, as it is now. */
export type LatestIdentity = Partial<Record<ConsentItem, string>>;

/** Numbers of the otherNames that the items stand in, with the flags of substituted characters. */
const fields = { name: 1, birthDate: 4, sex: 3, address: 5 } as const;

/**
 * What is given to a verifier that shows the certificate that it has received; undefined: nothing, for whatever reason. One certificate is
 * opened in any case, and the record is asked again behind it: what was withdrawn meanwhile is not given.
 */
export async function latestIdentity(
  ca: CertificateAuthority,
  received: CertificateView | undefined,
  asked: Omit<Question, 'holderId'>,
): Promise<LatestIdentity | undefined> {
  const question = { ...asked, holderId: received?.holderId ?? '' };
  const provision = await ca.consents.provision(question);
  const opened = provision?.certificate ?? received;
  const certificate = opened && (await openCertificate(ca, opened).catch(refusedAsErased));
  const names =
    certificate && parseCertificate(certificate).extensions.find(({ id }) => id === subjectAltNameId)?.value;
  const now = await ca.consents.provision(question);
  if (!provision || !now || !names || !sameCertificate(provision.certificate, now.certificate))
    return undefined;
  const items = now.items.filter((item) => provision.items.includes(item));
  return Object.fromEntries(items.map((item) => [item, textOf(names, item)]));
}

const sameCertificate = (a: object, b: object): boolean => JSON.stringify(a) === JSON.stringify(b);

const textOf = (names: Bytes, item: ConsentItem): string => {
  const text = must(factOf(names, fields[item]), `${item} of a signing certificate`);
  if (item === 'birthDate') return `${text.slice(0, 4)}-${text.slice(4, 6)}-${text.slice(6)}`;
  return item === 'sex' ? ({ '1': 'male', '2': 'female' }[text] ?? 'other') : text;
};

function refusedAsErased(error: unknown): undefined {
  if (error instanceof PkiError && error.code === 'not-found') return undefined;
  throw error;
}

/**
 * The signing certificate on record that someone has received, who shows all of it; undefined where it is none of ours, or not octet for
 * octet.
 * Throws `bad-request` for what is no certificate.
 */
export async function receivedCertificate(
  ca: CertificateAuthority,
  der: Bytes,
): Promise<CertificateView | undefined> {
  const key = findSigner(ca, namesOf(der));
  const view = key && (await ca.store.certificate(key));
  const certificate = view && (await openCertificate(ca, view).catch(refusedAsErased));
  const isSigning = view?.kind === 'card-signing' || view?.kind === 'phone-signing';
  return certificate && isSigning && equal(certificate, der) ? view : undefined;
}

function namesOf(der: Bytes): { readonly issuer: Bytes; readonly serial: Bytes } {
  try {
    readX509(der);
    return parseCertificate(der);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    throw new PkiError('bad-request', 'certificate: is no X.509 certificate, DER in base64', {
      cause: error,
    });
  }
}
