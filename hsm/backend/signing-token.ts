import { join } from 'node:path';
import { type Suite, suites } from '../../core/asn1/algorithms.ts';
import { durationMs } from '../../core/config/duration.ts';
import type { DigestSigner, Gate, KeySpec, SigningPurpose } from '../../core/crypto/signer.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import type { Pkcs11Options } from '../config/options.ts';
import { findModule } from '../pkcs11/find-module.ts';
import { guardLogins } from '../pkcs11/login-guard.ts';
import { healTokens, loadModule } from '../pkcs11/module.ts';
import { ModuleLock } from '../pkcs11/module-lock.ts';
import { pinSource, readPin } from '../pkcs11/pin.ts';
import { useSoftHsmFolder } from '../pkcs11/softhsm.ts';
import { Token } from '../pkcs11/token.ts';
import { SigningPool } from '../pool/signing-pool.ts';
import { ThreadBackend } from './thread-backend.ts';

/** One token and the threads that sign with it: all that an OCSP or CRL node has of an HSM. */
export interface SigningToken {
  /** What signs outside the pool's threads takes part in this. */
  readonly gate: Gate;
  /** What a thread of its own needs to sign with a key. */
  keySpec(keyLabel: string, suite: Suite['name']): KeySpec;
  generateKeyPair(keyLabel: string, suite: Suite['name']): void;
  signer<Purpose extends SigningPurpose>(
    purpose: Purpose,
    keyLabel: string,
    suite: Suite['name'],
  ): DigestSigner<Purpose>;
  close(): Promise<void>;
}

/** Logs in to a token of a node's data folder. Throws `token-unavailable`. */
export function openSigningToken(options: {
  readonly folder: string;
  readonly pkcs11: Pkcs11Options;
  readonly token: Pkcs11Options['caToken'];
  readonly clock: Clock;
}): SigningToken {
  const { folder, pkcs11, clock } = options;
  const { label } = options.token;
  useSoftHsmFolder(join(folder, 'softhsm'));
  guardLogins(join(folder, 'logins'));
  const path = findModule(pkcs11.module);
  const module = loadModule(path);
  const token = Token.open(module, label, readPin(pinSource(options.token, folder)));
  const gate = new ModuleLock((depth) => healTokens(module, [[token]], depth), clock);
  const copyKeys = pkcs11.copyKeys ?? null;
  const callTimeoutMs = durationMs(pkcs11.callTimeout);
  const home = new ThreadBackend({ threads: pkcs11.signingThreads, gate, callTimeoutMs });
  const pool = new SigningPool({ home, clock, module: path, copyKeys });
  return {
    gate,
    keySpec: (keyLabel, name) => pool.keySpec(label, keyLabel, suites[name]),
    generateKeyPair: (keyLabel, name) => {
      token.generateKeyPair(keyLabel, suites[name], token.useOf(copyKeys));
    },
    signer: (purpose, keyLabel, name) => {
      const suite = suites[name];
      return pool.signer({ purpose, suite, tokenLabel: label, key: token.findKeyPair(keyLabel, suite) });
    },
    close: async () => {
      await pool.close();
      token.close();
    },
  };
}
