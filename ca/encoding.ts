import type { Suite } from '../core/algorithms.ts';
import type { Bytes } from '../core/bytes.ts';
import type { Encoding } from '../core/certificate-store.ts';
import type { CertificateKey } from '../core/feed.ts';
import { sealSigned } from '../core/signed-data.ts';
import type { Sealer } from './sealer.ts';

/** What the to-be-signed bytes of a certificate are sealed for: they cannot take another's place. */
export const encodingContext = ({ authority, epoch, position }: CertificateKey): string =>
  `toBeSigned:${authority}:${epoch}:${position}`;

/** A certificate put together from what the record keeps of it, DER. `not-found` where its year was erased. */
export async function certificateOf(
  sealer: Pick<Sealer, 'open'>,
  key: CertificateKey,
  { toBeSigned, signature }: Encoding,
  suite: Suite,
): Promise<Bytes> {
  return sealSigned(await sealer.open(encodingContext(key), toBeSigned), suite, signature);
}
