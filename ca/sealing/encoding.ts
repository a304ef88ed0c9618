import type { Suite } from '../../core/asn1/algorithms.ts';
import { sealSigned } from '../../core/asn1/signed-data.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Encoding } from '../../store/api/certificate-store.ts';
import type { Sealer } from './sealer.ts';

/** What the to-be-signed bytes of a certificate are sealed for: they cannot take another's place. */
export const encodingContext = ({ authority, epoch, position }: CertificateId): string =>
  `toBeSigned:${authority}:${epoch}:${position}`;

/** A certificate put together from what the record keeps of it, DER. `not-found` where its year was erased. */
export async function certificateOf(
  sealer: Pick<Sealer, 'open'>,
  key: CertificateId,
  { toBeSigned, signature }: Encoding,
  suite: Suite,
): Promise<Bytes> {
  return sealSigned(await sealer.open(encodingContext(key), toBeSigned), suite, signature);
}
