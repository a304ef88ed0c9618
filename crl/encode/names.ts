import { DerReader } from '../../core/asn1/der-reader.ts';
import { context } from '../../core/asn1/der-writer.ts';
import { distributionPointName } from '../../core/asn1/extension.ts';
import { uriName } from '../../core/asn1/name.ts';
import { type Slot, slots } from '../../core/model/kinds.ts';
import { type Bytes, view } from '../../core/runtime/bytes.ts';

/**
 * DistributionPointName of a shard's delta CRLs: the address that certificates have for the shard, with the delta's file
 * in it. null for a name without an address.
 */
export function deltaPointName(name: Bytes): Bytes | null {
  const names = new DerReader(name).enter(context(0)).enter(context(0));
  while (!names.atEnd) {
    const general = names.whole();
    if (general[0] !== context(6, 'primitive')) continue;
    const uri = view(new DerReader(general).content(context(6, 'primitive'))).toString('latin1');
    return distributionPointName(uriName(deltaPath(uri)));
  }
  return null;
}

/** Names of a shard's files, from its path: `….crl`. */
export const deltaPath = (path: string): string => path.replace(/\.crl$/, '-delta.crl');
export const basePath = (path: string): string => path.replace(/\.crl$/, '.base');

/** Paths of CRLs below the publisher's address; that of the CRL of a municipality: kind, generation, code, number. */
export function isCrlPath(path: string): boolean {
  return /^crl(\/[A-Za-z0-9-]{1,64}){1,4}\.crl$/.test(path);
}

/** Of which certificates a CRL or a filter is, by its path; undefined of those that are of no holder's. */
export const slotOfPath = (path: string): Slot | undefined =>
  slots.find((slot) => new RegExp(`^(crl/[a-z]+-${slot}/|filter/${slot}(-delta)?\\.)`).test(path));

/** Paths of CA certificates: they hold no personal data. */
const isAuthorityPath = (path: string): boolean => /^ca\/[a-z0-9-]{1,64}\.cer$/.test(path);

/** The public page about CA certificates, which is at `/ca/`, too. */
const pagePath = 'ca/index.html';

/** Paths that are open to everyone: CA certificates, which every check of a chain needs, and the page about them. */
export const isOpenPath = (path: string): boolean => isAuthorityPath(path) || path === pagePath;

/** Paths of revocation filters: for verifiers of the register alone. */
export const isFilterPath = (path: string): boolean =>
  /^filter\/(signing|authentication)(-delta)?\.filter$/.test(path);

/** The published file that a request asks for; undefined for whatever is none: nothing else reaches the file system. */
export function fileName(url: string): string | undefined {
  const path = (url.split('?')[0] ?? '').slice(1);
  if (path === 'ca/') return pagePath;
  const isKnown = isCrlPath(path) || isOpenPath(path) || isFilterPath(path) || path === 'crl/index.json';
  return isKnown ? path : undefined;
}
