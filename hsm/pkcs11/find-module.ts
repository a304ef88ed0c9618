import { existsSync } from 'node:fs';
import { PkiError } from '../../core/runtime/errors.ts';
import softhsmPaths from './softhsm-paths.json' with { type: 'json' };

/** The PKCS#11 module to use: the configured one, the environment's, or SoftHSM where distributions put it. */
export function findModule(configured?: string): string {
  const named = configured ?? process.env.WARIFU_PKCS11_MODULE;
  const path = named ?? softhsmPaths.find((candidate) => existsSync(candidate));
  if (path === undefined || !existsSync(path)) {
    throw new PkiError('token-unavailable', `no PKCS#11 module at ${named ?? softhsmPaths.join(', ')}`);
  }
  return path;
}
