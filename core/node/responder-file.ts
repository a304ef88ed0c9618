import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { SuiteName } from '../asn1/algorithms.ts';
import { replaceDurably } from '../runtime/durable-file.ts';

/** What a responder needs of its delegation: a key in its token, and the certificate for it. */
export interface ResponderFile {
  readonly authority: string;
  readonly keyLabel: string;
  readonly suite: SuiteName;
  /** Of the authority's own key. */
  readonly issuerSuite: SuiteName;
  /** Certificate DER, base64. */
  readonly certificate: string;
}

/** One for each authority and suite; none where there is no file. */
export function readResponders(file: string): ResponderFile[] {
  if (!existsSync(file)) return [];
  return JSON.parse(readFileSync(file, 'utf8')) as ResponderFile[];
}

/** The delegations that a configuration has use for, the default of each authority first. */
export function configuredResponders(
  file: string,
  configured: readonly (SuiteName | 'issuer')[],
): ResponderFile[] {
  const place = ({ suite, issuerSuite }: ResponderFile): number =>
    configured.findIndex((name) => name === suite || (name === 'issuer' && suite === issuerSuite));
  return readResponders(file)
    .filter((row) => place(row) >= 0)
    .sort((a, b) => place(a) - place(b));
}

/** Puts a delegation in the place of the one before it, in one step; one of another suite behind those there are. */
export function writeResponder(file: string, responder: ResponderFile): void {
  const rows = readResponders(file);
  const before = rows.findIndex(
    ({ authority, suite }) => authority === responder.authority && suite === responder.suite,
  );
  const next = before < 0 ? [...rows, responder] : rows.with(before, responder);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  replaceDurably(file, `${JSON.stringify(next, null, 2)}\n`);
}
