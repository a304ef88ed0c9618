// A thread that checks PKCS#10 requests: a P-384 proof takes as long as a signature. Errors go back as data, because
// structured clone would drop their class and code.
import { workerData } from 'node:worker_threads';
import type { HolderKeyType } from '../../core/asn1/algorithms.ts';
import { type ErrorCode, PkiError } from '../../core/runtime/errors.ts';
import { type Packed, pack, unpack } from '../../core/workers/pack.ts';
import { parseCertificationRequest } from './certification-request.ts';
import { holderKeyTypes } from './key.ts';
import { type KeyCheckOptions, keyChecks } from './key-checks/all.ts';

export type CheckStart = KeyCheckOptions;

export interface CheckTask {
  /** PKCS#10 DER of each. */
  readonly requests: Packed;
  /** What each is called in errors. */
  readonly names: readonly string[];
}

export type Verdict =
  | { readonly type: HolderKeyType }
  | { readonly code: ErrorCode; readonly detail: string };

export interface CheckResult {
  readonly verdicts: readonly Verdict[];
  /** For each verdict of a key its hash and its SubjectPublicKeyInfo. */
  readonly keys: Packed;
}

const checks = keyChecks(workerData as CheckStart);

export default function check({ requests, names }: CheckTask): CheckResult {
  const keys: Uint8Array[] = [];
  const verdicts = unpack(requests).map((der, i): Verdict => {
    try {
      const { type, keyHash, publicKey } = parseCertificationRequest(
        der,
        names[i] ?? '',
        holderKeyTypes,
        checks,
      );
      keys.push(keyHash, publicKey);
      return { type };
    } catch (error) {
      if (error instanceof PkiError) return { code: error.code, detail: error.message };
      throw error;
    }
  });
  return { verdicts, keys: pack(keys) };
}
