import type { IssuedCertificate } from './certificate.ts';
import type { SourceName, SourceOutcome } from './outcome.ts';

/** What knows whether certificates are revoked. What goes wrong is an outcome; one that throws counts as `unreachable`. */
export interface Source {
  readonly name: SourceName;
  /** `nowMs`: wall-clock milliseconds. */
  check(certificate: IssuedCertificate, nowMs: number): Promise<SourceOutcome>;
}

/** How a source reaches its servers. */
export interface Reach {
  /** In the place of the global one: with a client certificate, a proxy, or for tests. */
  readonly fetch?: typeof fetch;
  /** How long an answer may take, milliseconds; default 5,000. */
  readonly timeoutMs?: number;
  /** How far clocks may differ, milliseconds; default 60,000. */
  readonly skewMs?: number;
}

const nothing = { status: 0, octets: Buffer.alloc(0) };

/** Fetches octets, `maxOctets` at most. Resolves with an HTTP status of a refusal, or with 0 where the server cannot be reached or sends more. */
export async function fetchOctets(
  url: string,
  {
    maxOctets,
    ...init
  }: {
    readonly method?: string;
    readonly body?: Uint8Array<ArrayBuffer>;
    readonly headers?: Record<string, string>;
    readonly maxOctets: number;
  },
  { fetch: get = fetch, timeoutMs = 5000 }: Reach,
): Promise<{ readonly status: number; readonly octets: Buffer }> {
  try {
    const response = await get(url, { ...init, redirect: 'error', signal: AbortSignal.timeout(timeoutMs) });
    const chunks: Uint8Array[] = [];
    let length = 0;
    for await (const chunk of response.body ?? []) {
      length += chunk.length;
      if (length > maxOctets) return nothing;
      chunks.push(chunk);
    }
    return { status: response.status, octets: Buffer.concat(chunks) };
  } catch {
    return nothing;
  }
}

/** Keeps something under a name, among so many: the oldest makes room, and no other is forgotten. */
export function keep<T>(kept: Map<string, T>, name: string, value: T, max: number): void {
  kept.delete(name);
  const [oldest] = kept.keys();
  if (oldest !== undefined && kept.size >= max) kept.delete(oldest);
  kept.set(name, value);
}
