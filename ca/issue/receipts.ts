import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { parseReceipt } from '../request/receipt.ts';
import type { CertificateAuthority } from './certificate-authority.ts';
import { type HolderMessage, readSignedByHolder } from './holder-message.ts';

/**
 * The certificate that a verifier shows to have received, whatever has become of it since. Throws `invalid-signed-request` where it was not
 * shown to this one.
 */
export async function receivedBy(
  ca: CertificateAuthority,
  verifierId: string,
  der: Bytes,
): Promise<HolderMessage<unknown>['view']> {
  const form = {
    contentType: ca.config.scheme.receiptContentType,
    name: 'Receipt',
    parse: parseReceipt,
    kinds: ['card-signing', 'card-authentication', 'phone-signing', 'phone-authentication'],
  } as const;
  const { view } = await readSignedByHolder(ca, form, der, ({ verifier }) => {
    if (verifier !== verifierId)
      throw new PkiError('invalid-signed-request', 'verifier: the content names another verifier');
  });
  return view;
}
