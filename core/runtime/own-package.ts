import { readFileSync } from 'node:fs';

/** The package.json of what runs here. */
export interface OwnPackage {
  readonly version: string;
  readonly dependencies: Readonly<Record<string, string>>;
}

export const ownPackage = (): OwnPackage =>
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as OwnPackage;
