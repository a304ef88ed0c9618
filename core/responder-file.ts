import { existsSync, readFileSync } from 'node:fs';
import type { SuiteName } from './algorithms.ts';

/** What a responder needs of its delegation: a key in its token, and the certificate for it. */
export interface ResponderFile {
  readonly authority: string;
  readonly keyLabel: string;
  readonly suite: SuiteName;
  /** Certificate DER, base64. */
  readonly certificate: string;
}

/** One for each authority; none where there is no file. */
export function readResponders(file: string): ResponderFile[] {
  if (!existsSync(file)) return [];
  return JSON.parse(readFileSync(file, 'utf8')) as ResponderFile[];
}
