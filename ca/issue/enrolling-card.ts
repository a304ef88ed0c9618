import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { namesIn } from '../../core/asn1/name.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import { closedError, noFacts } from '../../core/model/holder-life.ts';
import { byIssue } from '../../core/model/issue-order.ts';
import { type Bytes, digest, equal } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateView } from '../../store/api/certificate-store.ts';
import type { PhoneEnrolment } from '../request/enrolment.ts';
import { subjectAltNameId } from '../request/identity.ts';
import type { MessageSigner, SignedMessage } from '../request/signed-message.ts';
import { findTown, type Town } from '../request/towns.ts';
import type { CertificateAuthority } from './certificate-authority.ts';

// The card that signed for a phone: whose it is, that it is good, and that its keys said what is asked for.

/** One of ours that is said to have signed, and its certificate. */
interface Signer {
  readonly signer: MessageSigner;
  readonly view: CertificateView & { readonly holderId: string; readonly mediumId: string };
}

/**
 * Finds the card that signed a message by the serial number of the signing certificate, and verifies the signature. A
 * second signature must be by the same card's authentication key; `issuing.enrolmentWithBothKeys` requires it for pairs.
 * One signature can be forged: an attacker has the holder sign a document whose octets are the signed attributes of an
 * enrolment (RFC 5652 §5.4). The same works for an authentication, but not with both keys over one content.
 */
export async function cardOf(
  ca: CertificateAuthority,
  message: SignedMessage,
  enrolment: PhoneEnrolment,
  hasCode: boolean,
) {
  const { view, certificate, others } = await mainSigner(ca, message, hasCode);
  if (!equal(enrolment.cardCertificate, digest('sha256', certificate))) {
    throw new PkiError('invalid-signed-request', 'cardCertificate: not the hash of the signer’s certificate');
  }
  const { certificates = [], facts = noFacts, standing } = (await ca.store.holder(view.holderId)) ?? {};
  if (standing?.closedBy != null) throw closedError(standing);
  const nowMs = ca.clock.wallMs();
  const on = certificates.filter((candidate) => candidate.mediumId === view.mediumId);
  const authentication = youngestGood(on, 'card-authentication');
  checkGood(view, nowMs);
  if (!authentication) {
    throw new PkiError('card-certificate-not-good', 'the card has no good authentication certificate');
  }
  checkGood(authentication, nowMs);
  await checkSecondSigner(ca, view, others, enrolment);
  checkCode(view, on, enrolment, hasCode);
  const isSigning = view.kind === 'card-signing';
  return {
    holderId: view.holderId,
    mediumId: view.mediumId,
    town: townOfCard(ca, view, certificate),
    identity: isSigning ? identityIn(certificate) : null,
    certificates,
    facts,
    signer: view,
    // Where there is none, only authentication was asked for.
    signing: view,
    authentication,
  };
}

/** The card's signing key, or with a code its authentication key, whose signature is verified; and who else signed. */
async function mainSigner(ca: CertificateAuthority, { signers }: SignedMessage, hasCode: boolean) {
  const found = (await Promise.all(signers.map((signer) => signerOf(ca, signer)))).filter(
    (one) => one !== undefined,
  );
  const main =
    found.find(({ view }) => view.kind === 'card-signing') ??
    (hasCode ? found.find(({ view }) => view.kind === 'card-authentication') : undefined);
  if (!main || found.length < signers.length) {
    throw new PkiError('invalid-signed-request', 'the signer is not a card’s signing certificate of this CA');
  }
  const certificate = await openCertificate(ca, main.view);
  if (!certificate) throw notOnRecord(main.view);
  main.signer.verify(certificate);
  return { view: main.view, certificate, others: found.filter((one) => one !== main) };
}

async function signerOf(ca: CertificateAuthority, signer: MessageSigner): Promise<Signer | undefined> {
  const key = findSigner(ca, signer);
  const view = key && (await ca.store.certificate(key));
  if (!view || view.holderId === null || view.mediumId === null) return undefined;
  return { signer, view: { ...view, holderId: view.holderId, mediumId: view.mediumId } };
}

/** Refuses a second signature that is not the same card's, by its authentication key; and its absence where it is wanted. */
async function checkSecondSigner(
  ca: CertificateAuthority,
  { mediumId }: CertificateView,
  others: readonly Signer[],
  { signingRequest }: PhoneEnrolment,
): Promise<void> {
  if (others.length === 0) {
    if (signingRequest && needsBothKeys(ca))
      throw new PkiError(
        'invalid-signed-request',
        'signerInfos: the card’s authentication key has to sign as well as its signing key, for a pair',
      );
    return;
  }
  for (const { signer, view } of others) {
    if (view.kind !== 'card-authentication' || view.mediumId !== mediumId)
      throw new PkiError(
        'invalid-signed-request',
        'signerInfos: the second signer is not the same card’s authentication certificate',
      );
    checkGood(view, ca.clock.wallMs());
    const certificate = await openCertificate(ca, view);
    if (!certificate) throw notOnRecord(view);
    signer.verify(certificate);
  }
}

/** Of a certificate whose octets are not on record. */
const notOnRecord = ({ kind, state }: CertificateView): PkiError =>
  new PkiError(
    'card-certificate-not-good',
    state === 'reserved'
      ? `the ${kind} certificate is not issued yet`
      : `the ${kind} certificate was adopted by a restore, and is not bound to its holder yet`,
  );

const needsBothKeys = ({ config: { mode, issuing } }: CertificateAuthority): boolean =>
  issuing.enrolmentWithBothKeys === 'always' ||
  (issuing.enrolmentWithBothKeys === 'in-production' && mode === 'production');

/** A desk's code stands for a card that has no signing certificate, and for authentication alone. */
function checkCode(
  signer: CertificateView,
  onCard: readonly CertificateView[],
  enrolment: PhoneEnrolment,
  hasCode: boolean,
): void {
  if (!hasCode) return;
  const refuse = (what: string): never => {
    throw new PkiError('invalid-signed-request', `enrolmentCode: ${what}`);
  };
  if (signer.kind !== 'card-authentication') refuse('the card’s signing key needs none');
  if (onCard.some(({ kind, state }) => kind === 'card-signing' && (state === 'good' || state === 'held')))
    refuse('the card has a signing certificate, whose key signs for a phone');
  if (enrolment.signingRequest)
    refuse(
      'allows a certificate for authentication alone: issue-authentication-to-phone, or change-phone with that request',
    );
}

/** While a renewed pair overlaps with its successor there are two: the younger is the one that will stay. */
function youngestGood(views: readonly CertificateView[], kind: string): CertificateView | undefined {
  return views
    .filter((candidate) => candidate.kind === kind && candidate.state === 'good')
    .sort((a, b) => byIssue(b, a))[0];
}

/** The certificate of ours that has this issuer and serial number. */
export function findSigner(
  ca: CertificateAuthority,
  signer: Pick<MessageSigner, 'issuer' | 'serial'>,
): CertificateId | undefined {
  for (const authority of ca.authorities.all) {
    if (!equal(parseCertificate(authority.certificate).subject, signer.issuer)) continue;
    const key = authority.positionOf(signer.serial);
    if (key) return key;
  }
  return undefined;
}

function checkGood(view: CertificateView, nowMs: number): void {
  if (view.state !== 'good') {
    throw new PkiError('card-certificate-not-good', `the ${view.kind} certificate is ${view.state}`);
  }
  if (view.notAfterMs <= nowMs)
    throw new PkiError('card-certificate-not-good', `the ${view.kind} certificate has expired`);
}

/** The certificate on record, DER; undefined while it is only reserved. `not-found` where its year was erased. */
export async function openCertificate(
  ca: CertificateAuthority,
  key: CertificateId,
): Promise<Bytes | undefined> {
  const sealed = await ca.store.encoding(key);
  const { suite } = ca.authorities.byName(key.authority).signer;
  return sealed && ca.encodings.certificate(key, sealed, suite);
}

/**
 * The town that a card's certificate was issued for, as it is now. One that is configured no more stays known by what the
 * certificate says.
 */
function townOfCard(ca: CertificateAuthority, { shard }: CertificateView, certificate: Bytes): Town {
  const [prefecture = '', municipality = ''] = namesIn(parseCertificate(certificate).subject)
    .filter(({ type }) => type === 'L')
    .map(({ value }) => value);
  const named = ca.config.municipalities.find(
    (one) => one.prefecture === prefecture && one.municipality === municipality,
  );
  const inShard = /^[a-z-]+\/\d+\/(\d{5})\//.exec(shard ?? '')?.[1];
  const code = inShard ?? named?.code;
  const town = code === undefined ? undefined : findTown(ca.config, code);
  if (town) return town;
  if (code !== undefined && prefecture !== '') return { code, prefecture, municipality };
  // CRLs that are not divided by towns: a certificate that names none may be issued for any.
  const [any] = ca.config.municipalities;
  if (!any) throw new PkiError('bad-request', 'the card’s municipality is not configured any more');
  return any;
}

/** The basic four as the card's certificate has them, octet for octet. */
function identityIn(certificate: Bytes): Bytes {
  const extension = parseCertificate(certificate).extensions.find(({ id }) => id === subjectAltNameId);
  if (!extension) throw new PkiError('internal', 'a card signing certificate without subjectAltName');
  return extension.value;
}
