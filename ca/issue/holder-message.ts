import { DerError } from '../../core/asn1/der-reader.ts';
import type { HolderKind } from '../../core/model/kinds.ts';
import { type Bytes, digest, equal } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { CertificateView } from '../../store/api/certificate-store.ts';
import type { SignedContent } from '../request/signed-content.ts';
import { readSignedMessage } from '../request/signed-message.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { findSigner, openCertificate } from './enrolling-card.ts';

/** How a kind of message is read. */
export interface HolderMessageForm<Content extends SignedContent> {
  readonly contentType: string;
  /** Its name, as refusals say it. */
  readonly name: string;
  /** Throws `DerError`. */
  readonly parse: (der: Bytes) => Content;
  /** Whose keys may sign it. */
  readonly kinds: readonly HolderKind[];
  /** Whether one that is held may still sign: what does no more than end something. */
  readonly mayBeHeld: boolean;
}

/** What was signed, and with which certificate. */
export interface HolderMessage<Content> {
  readonly content: Content;
  readonly view: CertificateView & { readonly holderId: string; readonly mediumId: string };
  readonly challengeHash: Bytes;
}

/** A message of one of a holder's keys, whatever has become of its certificate. */
interface Signed<Content> {
  readonly content: Content;
  readonly view: HolderMessage<Content>['view'];
}

/** Verifies what one of a holder's keys signed. Throws `invalid-signed-request`. */
export async function readSignedByHolder<Content extends SignedContent>(
  ca: CertificateAuthority,
  form: Omit<HolderMessageForm<Content>, 'mayBeHeld'>,
  der: Bytes,
  checkContent: (content: Content) => void | Promise<void>,
): Promise<Signed<Content>> {
  const message = readSignedMessage(der, form.contentType);
  const content = contentOf(form, message.content);
  await checkContent(content);
  const [signer] = message.signers;
  const key = findSigner(ca, signer);
  const view = key && (await ca.store.certificate(key));
  if (!view || !form.kinds.some((kind) => kind === view.kind))
    refuse(`the signer’s certificate is none of this CA of the kinds ${form.kinds.join(', ')}`);
  const { holderId, mediumId } = view;
  const certificate = await openCertificate(ca, key);
  if (!certificate || holderId === null || mediumId === null)
    return refuse(
      'the signer’s certificate is not issued yet, or was adopted by a restore and is not bound yet',
    );
  signer.verify(certificate);
  if (!equal(content.certificate, digest('sha256', certificate)))
    refuse('the certificate that the content names is not the signer’s');
  return { content, view: { ...view, holderId, mediumId } };
}

/**
 * Reads what one of a holder's keys signed: the challenge is one that this client may use, the certificate is ours, of a kind
 * that may sign this, and in force, and the signature is its. Throws `challenge-not-usable` or `invalid-signed-request`.
 */
export async function readHolderMessage<Content extends SignedContent>(
  ca: CertificateAuthority,
  form: HolderMessageForm<Content>,
  { der, client }: { readonly der: Bytes; readonly client: string },
): Promise<HolderMessage<Content>> {
  const { content, view } = await readSignedByHolder(ca, form, der, ({ challenge }) =>
    ca.store.checkChallenge(digest('sha256', challenge), client),
  );
  const { state, notAfterMs } = view;
  if (state !== 'good' && !(form.mayBeHeld && state === 'held'))
    refuse(`the signer’s certificate is ${state}`);
  if (notAfterMs <= ca.clock.wallMs()) refuse('the signer’s certificate has expired');
  return { content, view, challengeHash: digest('sha256', content.challenge) };
}

function contentOf<Content extends SignedContent>(
  form: Pick<HolderMessageForm<Content>, 'name' | 'parse'>,
  der: Bytes,
): Content {
  try {
    return form.parse(der);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    return refuse(`the content is no ${form.name}: ${error.message}`, error);
  }
}

function refuse(what: string, cause?: unknown): never {
  throw new PkiError('invalid-signed-request', what, { cause });
}
