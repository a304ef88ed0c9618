import {
  type HolderKeyType,
  isSignatureAlgorithm,
  type KeyType,
  suiteOf,
  suites,
  verifySignature,
} from '../../core/asn1/algorithms.ts';
import { DerError, DerReader } from '../../core/asn1/der-reader.ts';
import { context, tag } from '../../core/asn1/der-writer.ts';
import { openSigned } from '../../core/asn1/signed-data.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { type CheckedKey, checkPublicKey, holderKeyTypes } from './key.ts';
import type { KeyCheck } from './key-checks/material.ts';

/** A public key with proof that its private half signed for it: what `parseCertificationRequest` makes, here or in a thread. */
export type ProvenKey<Type extends KeyType = HolderKeyType> = CheckedKey<Type>;

/**
 * Takes the public key from a PKCS#10 request (RFC 2986 §4) and checks it and its proof of possession. Nothing
 * else of the request counts: every other field of a certificate comes from its profile.
 *
 *     CertificationRequestInfo ::= SEQUENCE { version INTEGER (0), subject Name,
 *                                             subjectPKInfo, attributes [0] }
 *
 * Throws `bad-request`, `invalid-key` or `invalid-proof-of-possession`; `where` names the field in the detail;
 * `allowed` says which keys are: holders' unless said otherwise; `checks` what they are tried for.
 */
export function parseCertificationRequest<Type extends KeyType = HolderKeyType>(
  der: Bytes,
  where: string,
  allowed: readonly Type[] = holderKeyTypes as readonly Type[],
  checks?: readonly KeyCheck[],
): ProvenKey<Type> {
  try {
    const { toBeSigned, algorithmIdentifier, signature } = openSigned(der);
    const info = new DerReader(toBeSigned).enter(tag.sequence);
    if (info.smallInteger() !== 0) info.fail('not version 1 of a request');
    info.whole(tag.sequence);
    const publicKey = info.whole(tag.sequence);
    // Attributes are mandatory (§4.1), and left out by some devices; nothing of them is used.
    if (!info.atEnd) info.whole(context(0));
    info.end();
    const key = checkPublicKey(publicKey, allowed, checks);
    const suite = suites[suiteOf[key.type]];
    if (!isSignatureAlgorithm(suite, algorithmIdentifier)) {
      throw new PkiError(
        'invalid-proof-of-possession',
        `${where}: the request is not signed with ${suite.name}`,
      );
    }
    if (!proves(() => verifySignature(suite, key.publicKey, toBeSigned, signature))) {
      throw new PkiError(
        'invalid-proof-of-possession',
        `${where}: the signature of the request does not verify`,
      );
    }
    return key;
  } catch (error) {
    if (error instanceof DerError) {
      throw new PkiError('bad-request', `${where}: not a PKCS#10 request: ${error.message}`, {
        cause: error,
      });
    }
    if (error instanceof PkiError && error.code === 'invalid-key') {
      throw new PkiError('invalid-key', `${where}: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

/** OpenSSL throws on keys it cannot use, such as a point off its curve: no proof either. */
function proves(verify: () => boolean): boolean {
  try {
    return verify();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code?.startsWith('ERR_')) return false;
    throw error;
  }
}
