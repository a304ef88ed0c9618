import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Points SoftHSM at token files in a folder of ours, unless the operator has pointed it elsewhere. Before the
 * module is loaded: it reads SOFTHSM2_CONF once. Other modules ignore this.
 */
export function useSoftHsmFolder(folder: string): void {
  if (process.env.SOFTHSM2_CONF !== undefined) return;
  const tokens = join(folder, 'tokens');
  mkdirSync(tokens, { recursive: true, mode: 0o700 });
  const file = join(folder, 'softhsm2.conf');
  const text = `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\n`;
  // A signer of another user may read it, and not write it.
  if (!existsSync(file) || readFileSync(file, 'utf8') !== text) writeFileSync(file, text, { mode: 0o600 });
  process.env.SOFTHSM2_CONF = file;
}
