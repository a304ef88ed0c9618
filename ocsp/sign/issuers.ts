import { type Suite, subjectPublicKeyBits } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { DerReader } from '../../core/asn1/der-reader.ts';
import { tag } from '../../core/asn1/der-writer.ts';
import { type Bytes, digest, hex } from '../../core/runtime/bytes.ts';
import type { CertId, CertIdHash, PreferredAlgorithm } from '../protocol/request.ts';
import type { ResponseSigner } from './response-signer.ts';

/** A delegated responder for one authority (RFC 6960 §4.2.2.2). */
export interface ResponderKey {
  readonly authority: string;
  readonly signer: ResponseSigner;
  /** Certificate DER. */
  readonly certificate: Bytes;
  readonly notAfterMs: number;
}

const hashNames = ['sha1', 'sha256', 'sha384', 'sha512'] as const;

/** Finds authorities by the hashes of their name and key, whichever of the four a CertID uses. */
export class Issuers {
  readonly #names = new Map<string, string>();

  constructor(authorities: ReadonlyMap<string, Bytes>) {
    for (const [name, certificate] of authorities) {
      const { subject, publicKey } = parseCertificate(certificate);
      const key = subjectPublicKeyBits(publicKey);
      for (const hash of hashNames)
        this.#names.set(issuerId(hash, digest(hash, subject), digest(hash, key)), name);
    }
  }

  /** The authority a CertID names; undefined for a hash or an issuer that is not known here. */
  find({ hash, issuerNameHash, issuerKeyHash }: CertId): string | undefined {
    return hash && this.#names.get(issuerId(hash, issuerNameHash, issuerKeyHash));
  }
}

const issuerId = (hash: CertIdHash, name: Bytes, key: Bytes): string => `${hash}/${hex(name)}/${hex(key)}`;

/**
 * The key to answer with (RFC 6960 §4.4.7.2): the first that the asker prefers and we have, else the first we have,
 * which is the default.
 */
export function chooseKey<Key extends ResponderKey>(
  keys: readonly Key[],
  preferred: readonly PreferredAlgorithm[],
): Key | undefined {
  for (const wanted of preferred) {
    const found = keys.find(({ signer }) => isPreferred(signer.suite, signer.publicKey, wanted));
    if (found) return found;
  }
  return keys[0];
}

function isPreferred(suite: Suite, publicKey: Bytes, { signature, key }: PreferredAlgorithm): boolean {
  if (new DerReader(suite.algorithmIdentifier).enter(tag.sequence).objectIdentifier() !== signature)
    return false;
  if (key === null) return true;
  // As the key has it; or its algorithm alone, for parameters of a capability may be left out (RFC 8551 §2.5.2).
  const own = new DerReader(publicKey).enter(tag.sequence).enter(tag.sequence);
  if (own.objectIdentifier() !== key.algorithm) return false;
  return key.parameters === null || (!own.atEnd && hex(own.whole()) === key.parameters);
}
