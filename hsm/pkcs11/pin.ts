import { readSecretLine, type SecretSource, secretSource } from '../../core/runtime/secret-source.ts';

export type PinSource = SecretSource;

/** What a token's configuration says of its PIN. */
export interface PinConfig {
  readonly pinFile: string;
  readonly pinEnvironment?: string | undefined;
  readonly pinCredential?: string | undefined;
}

export const pinSource = ({ pinFile, pinEnvironment, pinCredential }: PinConfig, folder: string): PinSource =>
  secretSource({ file: pinFile, environment: pinEnvironment, credential: pinCredential }, folder);

/** Reads a PIN: one line, nothing else. Throws `token-unavailable`, naming the place and never the PIN. */
export const readPin = (source: PinSource): string =>
  readSecretLine(source, { what: 'PIN', code: 'token-unavailable' });
