import { readFileSync } from 'node:fs';
import { digest, hex } from '../../../core/runtime/bytes.ts';
import { PkiError } from '../../../core/runtime/errors.ts';
import type { KeyCheck } from './material.ts';

/**
 * Keys that Debian's OpenSSL could make while its generator knew nothing but the process number (CVE-2008-0166, DSA
 * 1571), as lists in the form of Debian's package openssl-blacklist: 20 hex digits a line, the last 80 bits of the
 * SHA-1 of `Modulus=…`, as `openssl rsa -modulus` prints it. Lines that begin with # are left out.
 * Throws `bad-request` for a file that is none.
 */
export function debianWeak(files: readonly string[]): KeyCheck {
  const weak = new Set(files.flatMap(readList));
  return (key) => {
    if (key.family !== 'rsa' || weak.size === 0) return undefined;
    const text = `Modulus=${hex(key.modulus).toUpperCase()}\n`;
    return weak.has(hex(digest('sha1', text)).slice(20))
      ? 'the RSA key is on a list of keys that Debian made (CVE-2008-0166)'
      : undefined;
  };
}

function readList(file: string): string[] {
  const lines = readFileSync(file, 'latin1')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
  const wrong = lines.findIndex((line) => !/^[0-9a-f]{20}$/.test(line));
  if (wrong >= 0) throw new PkiError('bad-request', `${file}: line ${wrong + 1} is not 20 hex digits`);
  return lines;
}
