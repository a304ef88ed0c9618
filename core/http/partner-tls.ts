import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { readSecret } from '../runtime/secret-file.ts';

/** What a connection to a partner is made with; files are relative to the data folder. */
export interface PartnerTls {
  /** CAs that are believed instead of Node's, PEM. */
  readonly ca?: string | undefined;
  /** What we show for ourselves: key and certificate, PEM. */
  readonly clientKey?: string | undefined;
  readonly clientCert?: string | undefined;
}

/** The same as TLS takes it. Throws where a file cannot be read, or others can read the key. */
export function partnerTls(
  folder: string,
  { ca, clientKey, clientCert }: PartnerTls,
): { ca?: string; key?: string; cert?: string } {
  const read = (file: string): string => readFileSync(resolve(folder, file), 'utf8');
  return {
    ...(ca === undefined ? {} : { ca: read(ca) }),
    ...(clientKey === undefined ? {} : { key: readSecret(resolve(folder, clientKey)) }),
    ...(clientCert === undefined ? {} : { cert: read(clientCert) }),
  };
}
