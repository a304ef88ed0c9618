import type graphene from 'graphene-pk11';
import type { Suite } from '../../core/asn1/algorithms.ts';
import type { KeyWrapper, TokenMemory } from '../../core/crypto/signer.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { readPin } from '../pkcs11/pin.ts';
import { Token, type TokenKey } from '../pkcs11/token.ts';
import type { TokenPlace } from './process-messages.ts';

/** A token as a service uses it: in this process, or in one that is supervised. Everything rejects with `token-unavailable`. */
export interface TokenPort {
  readonly label: string;
  findKeyPair(label: string, suite: Suite): Promise<TokenKey>;
  keyWrapper(label: string): KeyWrapper;
  memory(): TokenMemory;
}

/** A token of this process as such. */
export const portOf = (token: Token): TokenPort => ({
  label: token.label,
  findKeyPair: async (label, suite) => token.findKeyPair(label, suite),
  keyWrapper: (label) => token.keyWrapper(label),
  memory: () => token.memory(),
});

/** Logs in to a token; undefined where it cannot be had, so that a copy of it may stand in. */
export function openTokenOf(module: graphene.Module, { label, pin }: TokenPlace): Token | undefined {
  try {
    return Token.open(module, label, readPin(pin));
  } catch (error) {
    if (error instanceof PkiError && error.code === 'token-unavailable') return undefined;
    throw error;
  }
}
