import { digest, hex } from '../runtime/bytes.ts';

/** Relying parties that the operator knows by name, and how each is known. */
export interface VerifierConfig {
  readonly required: boolean;
  readonly list: readonly {
    readonly name: string;
    readonly tokenSha256?: string;
    readonly certificateSha256?: string;
    readonly port?: number;
  }[];
}

/** How a request came in. */
export interface Arrival {
  /** Port of this responder. */
  readonly port: number;
  readonly path: string;
  /** SHA-256 of the TLS client certificate, hex; null without TLS. */
  readonly certificate: string | null;
}

/** The verifier that asks, and the path without the verifier's token. */
export interface Identified {
  /** null if the verifier is unknown, and need not be known. */
  readonly verifier: string | null;
  readonly path: string;
}

const tokenPath = /^\/v\/([A-Za-z0-9_-]{16,128})(\/.*)?$/;

/**
 * Knows verifiers by a token in the path (`/v/TOKEN`, handed out individually), by a port of their own, or by their TLS
 * certificate. Tokens are configured as hashes, so that a configuration gives none away.
 */
export class Verifiers {
  #required = false;
  #names: ReadonlyMap<string, string> = new Map();

  constructor(config: VerifierConfig) {
    this.replace(config);
  }

  /** From the next request on these are known. */
  replace({ required, list }: VerifierConfig): void {
    const names = new Map<string, string>();
    for (const { name, tokenSha256, certificateSha256, port } of list) {
      if (tokenSha256 !== undefined) names.set(`token ${tokenSha256}`, name);
      if (certificateSha256 !== undefined) names.set(`certificate ${certificateSha256}`, name);
      if (port !== undefined) names.set(`port ${port}`, name);
    }
    this.#required = required;
    this.#names = names;
  }

  /** undefined if the request is refused: its token is unknown, or verifiers must be known and this one is not. */
  identify({ port, path, certificate }: Arrival): Identified | undefined {
    const token = tokenPath.exec(path);
    const byToken = token ? this.#names.get(`token ${hex(digest('sha256', token[1] ?? ''))}`) : undefined;
    if (token && byToken === undefined) return undefined;
    const verifier =
      byToken ?? this.#names.get(`certificate ${certificate}`) ?? this.#names.get(`port ${port}`) ?? null;
    if (verifier === null && this.#required) return undefined;
    return { verifier, path: token ? (token[2] ?? '/') : path };
  }
}
