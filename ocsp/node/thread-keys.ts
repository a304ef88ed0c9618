import { configuredResponders } from '../../core/node/responder-file.ts';
import type { SigningToken } from '../../hsm/backend/signing-token.ts';
import type { OcspOptions } from '../config/options.ts';
import type { ThreadKey } from './thread-messages.ts';

/** Delegations on disk, with what threads need to use them. */
export function threadKeys(file: string, config: OcspOptions, token: SigningToken): ThreadKey[] {
  return configuredResponders(file, config.responderSuites).map(
    ({ authority, keyLabel, suite, certificate }) => ({
      authority,
      certificate: Buffer.from(certificate, 'base64'),
      key: token.keySpec(keyLabel, suite),
      publicKey: token.signer('ocsp', keyLabel, suite).publicKey,
    }),
  );
}
