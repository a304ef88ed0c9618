import { createHash } from 'node:crypto';
import { type Slot, slotOfAuthority } from '../model/kinds.ts';
import { isInForce, type Term, type VerifierFacts, whyInactive } from '../model/verifier.ts';
import { digest, hex } from '../runtime/bytes.ts';
import type { Clock } from '../runtime/clock.ts';

/** How a request came in. */
export interface Arrival {
  /** Port of this node. */
  readonly port: number;
  readonly path: string;
  /** SHA-256 of the TLS client certificate, hex; null without. */
  readonly certificate: string | null;
  /** Whether it came over TLS. */
  readonly isProtected: boolean;
}

/** A verifier that asks. */
export interface Asker {
  readonly verifierId: string;
  /** Of which certificates it may ask; null: of all. */
  readonly only: Slot | null;
}

/** Whether a verifier may ask about certificates of an authority, which is called `signing-1`. */
export const mayAsk = ({ only }: Asker, authority: string): boolean =>
  only === null || slotOfAuthority(authority) === only;

/** The verifier that asks, and the path without the verifier's token. */
export interface Identified {
  /** null if the verifier is unknown, and need not be known. */
  readonly verifier: Asker | null;
  readonly path: string;
  /** By which credential, and in which state of the register: see `admits`. */
  readonly by: Found | null;
  readonly generation: number;
}

/** A credential, with the verifier that it is of. */
interface Found {
  readonly known: Known;
  readonly term: Term;
}

export interface VerifierRules {
  /** Refuses those that are not known. */
  readonly required: boolean;
  /** Over what a token may come: `any` and `proxy` are the same here. */
  readonly tokensOver: 'any' | 'tls' | 'proxy';
}

/** A verifier by one of its credentials, or by several. */
interface Known {
  readonly facts: VerifierFacts;
  readonly asker: Asker;
  /** Requests that it may send at once, and when that was reckoned, monotonic milliseconds. */
  allowance: number;
  reckonedMs: number;
}

const tokenPath = /^\/v\/([A-Za-z0-9_-]{16,128})(\/.*)?$/;

/**
 * Verifiers, as the feed describes them: known by a token in the path (`/v/TOKEN`, handed out individually), by their TLS certificate,
 * or by a port of their own. Each request is decided on what is known then: a suspension counts from the next one on, whatever
 * connection it comes on. One for each thread.
 */
export class VerifierRegister {
  readonly #clock: Clock;
  /** Among so many threads a quota is divided. */
  readonly #threads: number;
  #rules: VerifierRules;
  readonly #verifiers = new Map<string, Known>();
  readonly #byCredential = new Map<string, Found>();
  readonly #ports = new Set<number>();
  /** Grows with each change. */
  #generation = 0;

  constructor(options: { readonly rules: VerifierRules; readonly clock: Clock; readonly threads?: number }) {
    this.#rules = options.rules;
    this.#clock = options.clock;
    this.#threads = options.threads ?? 1;
  }

  /** From the next request on. */
  setRules(rules: VerifierRules): void {
    this.#rules = rules;
    this.#generation += 1;
  }

  /** From the next request on it is known as this; nothing is taken back by what is older. */
  update(facts: VerifierFacts): void {
    const before = this.#verifiers.get(facts.verifierId);
    if (before && before.facts.version > facts.version) return;
    this.#generation += 1;
    for (const { type, value } of before?.facts.credentials ?? []) {
      const name = `${type} ${value}`;
      if (this.#byCredential.get(name)?.known !== before) continue;
      this.#byCredential.delete(name);
      if (type === 'port') this.#ports.delete(Number(value));
    }
    const [only = null, second] = facts.kinds;
    const known: Known = {
      facts,
      asker: { verifierId: facts.verifierId, only: second === undefined ? only : null },
      allowance: Math.min(before?.allowance ?? Number.POSITIVE_INFINITY, this.#shareOf(facts) ?? 0),
      reckonedMs: this.#clock.monotonicMs(),
    };
    this.#verifiers.set(facts.verifierId, known);
    for (const { type, value, ...term } of facts.credentials) {
      this.#byCredential.set(`${type} ${value}`, { known, term });
      if (type === 'port') this.#ports.add(Number(value));
    }
  }

  /** Ports of verifiers that have one of their own. */
  get ports(): ReadonlySet<number> {
    return this.#ports;
  }

  /**
   * Who asks; 403 if the request is refused: its token is unknown, the verifier is suspended or not notified any more, or verifiers must
   * be known and this one is not. 429: it has asked more than it may. Counts as one of its requests.
   */
  identify(arrival: Arrival): Identified | 403 | 429 {
    const found = this.recognize(arrival);
    return typeof found === 'number' || this.#spend(found) ? found : 429;
  }

  /** The same, and it does not count. */
  recognize({ port, path, certificate, isProtected }: Arrival): Identified | 403 {
    const token = tokenPath.exec(path);
    // What looks like one and is none is no way to be known otherwise.
    if (!token && path.startsWith('/v/')) return 403;
    const nowMs = this.#clock.wallMs();
    const isReadable = isProtected || this.#rules.tokensOver !== 'tls';
    const by = (name: string): Found | null => {
      const found = this.#byCredential.get(name);
      return found && isInForce(found.term, nowMs) ? found : null;
    };
    const found = token
      ? isReadable
        ? by(`token ${hex(digest('sha256', token[1] ?? ''))}`)
        : null
      : (by(`certificate ${certificate}`) ?? by(`port ${port}`));
    const generation = this.#generation;
    if (found === null)
      return token || this.#rules.required || this.#isOfVerifier(certificate, port)
        ? 403
        : { verifier: null, path, by: null, generation };
    if (whyInactive(found.known.facts, nowMs) !== undefined) return 403;
    return { verifier: found.known.asker, path: token ? (token[2] ?? '/') : path, by: found, generation };
  }

  /** Whether what was recognized before is still so, and one more request may be answered; it counts. */
  admits(found: Identified): boolean {
    const { by, generation } = found;
    if (generation !== this.#generation) return false;
    if (by === null) return true;
    const nowMs = this.#clock.wallMs();
    const isActive = isInForce(by.term, nowMs) && whyInactive(by.known.facts, nowMs) === undefined;
    return isActive && this.#spend(found);
  }

  /** Whether what a request shows belongs to a verifier, in force or not: that is not taken for a stranger's. */
  #isOfVerifier(certificate: string | null, port: number): boolean {
    return (
      (certificate !== null && this.#byCredential.has(`certificate ${certificate}`)) ||
      this.#byCredential.has(`port ${port}`)
    );
  }

  #shareOf({ requestsPerSecond }: VerifierFacts): number | null {
    return requestsPerSecond === null ? null : Math.max(1, requestsPerSecond / this.#threads);
  }

  #spend({ by }: Identified): boolean {
    if (by === null) return true;
    const { known } = by;
    const share = this.#shareOf(known.facts);
    if (share === null) return true;
    const nowMs = this.#clock.monotonicMs();
    // A second's requests at once, and no more.
    known.allowance = Math.min(share, known.allowance + ((nowMs - known.reckonedMs) / 1000) * share);
    known.reckonedMs = nowMs;
    if (known.allowance < 1) return false;
    known.allowance -= 1;
    return true;
  }
}

/** Where a server in front of this one asks whether a request may be answered (nginx: `auth_request`). */
export const authorizePath = '/authorize';

/** What a server in front says of requests besides their address, as the configuration has it: all else is what clients sent. */
export const frontSays = ['certificate', 'port'] as const;
export type FrontSays = (typeof frontSays)[number];

/** The request that a server in front asks about, by the headers that it sets. */
export function arrivalInFront(
  headers: Readonly<Record<string, unknown>>,
  says: readonly FrontSays[],
): Arrival | undefined {
  const text = (name: string): string => String(headers[name] ?? '');
  const path = text('x-original-uri');
  if (!path.startsWith('/')) return undefined;
  const isVerified = says.includes('certificate') && text('x-client-verify') === 'SUCCESS';
  const escaped = isVerified ? text('x-client-certificate') : '';
  const octets = octetsOfPem(escaped);
  return {
    port: says.includes('port') ? Number(text('x-original-port')) : 0,
    path,
    certificate: octets === null ? null : createHash('sha256').update(octets).digest('hex'),
    isProtected: text('x-forwarded-proto') === 'https',
  };
}

/** DER of a certificate in PEM that was escaped as in URLs; null where it is none. */
function octetsOfPem(escaped: string): Buffer | null {
  try {
    const body = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END/.exec(decodeURIComponent(escaped));
    return body ? Buffer.from(body[1] ?? '', 'base64') : null;
  } catch {
    return null;
  }
}
