import { createHash, randomBytes } from 'node:crypto';
import { subjectPublicKeyBits } from '../asn1/algorithms.ts';
import { DerReader } from '../asn1/der-reader.ts';
import { context, explicit, objectIdentifier, octetString, sequence, tag, tlv } from '../asn1/der-writer.ts';
import { type IssuedCertificate, isResponderOf, isSignedBy } from './certificate.ts';
import { reasonNames, type SourceOutcome, undetermined } from './outcome.ts';
import { fetchOctets, keep, type Reach, type Source } from './source.ts';

// OCSP (RFC 6960): one certificate a request.

export interface OcspOptions extends Reach {
  /** Address of the responder, of this verifier where it has one: `https://ocsp.example/v/TOKEN`. */
  readonly url: string;
  /** How long an answer is kept, milliseconds, at most until its nextUpdate; 0: not at all. Default 60,000. */
  readonly keepMs?: number;
  /** Has every answer made for this request alone (RFC 9654), so that none is older than the question. Default false. */
  readonly nonce?: boolean;
}

const nonceId = '1.3.6.1.5.5.7.48.1.2';
const basicId = '2b0601050507300101';
const keptMax = 10_000;
/** Of a response: one of this CA has less than 4,000. */
const maxOctets = 100_000;

/** Why a responder does not answer (RFC 6960 §4.2.1). */
const refusals: Readonly<Record<number, SourceOutcome>> = {
  1: undetermined('not-trusted', 'the responder calls the request malformed'),
  2: undetermined('try-later', 'the responder has an internal error'),
  3: undetermined('try-later', 'the responder says: try later'),
  5: undetermined('not-allowed', 'the responder wants the request signed'),
  6: undetermined('not-allowed', 'the responder does not answer this verifier about this certificate'),
};

interface Answer {
  readonly outcome: SourceOutcome;
  readonly untilMs: number;
}

export class OcspSource implements Source {
  readonly name = 'ocsp';
  readonly #options: OcspOptions;
  /** Answers that may be given again, by CertID. */
  readonly #kept = new Map<string, Answer>();
  /** The newest thisUpdate of each certificate: nothing older is believed after it. */
  readonly #newest = new Map<string, number>();

  constructor(options: OcspOptions) {
    this.#options = options;
  }

  async check(certificate: IssuedCertificate, nowMs: number): Promise<SourceOutcome> {
    const certId = certIdOf(certificate);
    const name = Buffer.from(certId).toString('base64');
    const kept = this.#kept.get(name);
    if (kept && nowMs < kept.untilMs && !this.#options.nonce) return kept.outcome;
    const nonce = this.#options.nonce ? randomBytes(32) : null;
    const request = requestOf(certId, nonce);
    const init = {
      maxOctets,
      method: 'POST',
      body: Uint8Array.from(request),
      headers: { 'content-type': 'application/ocsp-request' },
    };
    const { status, octets } = await fetchOctets(this.#options.url, init, this.#options);
    if (status === 0) return undetermined('unreachable', 'the responder cannot be reached');
    if (status === 403 || status === 401)
      return undetermined('not-allowed', `the responder answers ${status}`);
    if (status !== 200) return undetermined('try-later', `the responder answers ${status}`);
    try {
      return this.#read(octets, { certificate, certId, name, nonce, nowMs });
    } catch (error) {
      return undetermined('not-trusted', `the answer is no OCSP response: ${(error as Error).message}`);
    }
  }

  #read(
    octets: Uint8Array,
    asked: {
      readonly certificate: IssuedCertificate;
      readonly certId: Uint8Array;
      readonly name: string;
      readonly nonce: Uint8Array | null;
      readonly nowMs: number;
    },
  ): SourceOutcome {
    const { certificate, certId, name, nonce, nowMs } = asked;
    const { skewMs = 60_000, keepMs = 60_000 } = this.#options;
    const outer = new DerReader(octets).enter(tag.sequence);
    const status = outer.content(tag.enumerated)[0] ?? 2;
    if (status !== 0) return refusals[status] ?? undetermined('try-later', `the responder answers ${status}`);
    const basic = basicIn(outer);
    if (!isTrusted(basic, certificate, nowMs))
      return undetermined('not-trusted', 'the answer is not signed by the CA’s responder');
    const said = singleIn(basic.responseData, certId);
    if (!said) return undetermined('not-trusted', 'the answer is about another certificate');
    if (nonce && !said.nonce?.equals(nonce))
      return undetermined('stale', 'the answer was not made for this request');
    const { thisUpdateMs, nextUpdateMs } = said;
    if (thisUpdateMs > nowMs + skewMs) return undetermined('stale', 'the answer is from the future');
    if (nextUpdateMs === null || nextUpdateMs < nowMs - skewMs)
      return undetermined('stale', 'the answer is too old');
    if (thisUpdateMs < (this.#newest.get(name) ?? 0))
      return undetermined('stale', 'a newer answer was had before');
    const outcome = outcomeOf(said);
    this.#keep(name, { outcome, untilMs: Math.min(nextUpdateMs, nowMs + keepMs) }, thisUpdateMs);
    return outcome;
  }

  #keep(name: string, answer: Answer, thisUpdateMs: number): void {
    keep(this.#newest, name, thisUpdateMs, keptMax);
    if (answer.outcome.status !== 'undetermined') keep(this.#kept, name, answer, keptMax);
  }
}

const sha1Algorithm = sequence(objectIdentifier('1.3.14.3.2.26'), tlv(0x05));

/** CertID (RFC 6960 §4.1.1), with SHA-1, which every responder knows. */
function certIdOf({ parsed, issuer }: IssuedCertificate): Uint8Array {
  const sha1 = (octets: Uint8Array): Uint8Array => createHash('sha1').update(octets).digest();
  return sequence(
    sha1Algorithm,
    octetString(sha1(issuer.parsed.subject)),
    octetString(sha1(subjectPublicKeyBits(issuer.parsed.publicKey))),
    tlv(tag.integer, ...((parsed.serial[0] ?? 0) >= 0x80 ? [Buffer.of(0)] : []), parsed.serial),
  );
}

function requestOf(certId: Uint8Array, nonce: Uint8Array | null): Uint8Array {
  const extension = nonce && sequence(objectIdentifier(nonceId), octetString(octetString(nonce)));
  const extensions = extension ? [explicit(2, sequence(extension))] : [];
  return sequence(sequence(sequence(sequence(certId)), ...extensions));
}

interface Basic {
  readonly responseData: Uint8Array;
  readonly algorithm: Uint8Array;
  readonly signature: Uint8Array;
  readonly certificates: readonly Uint8Array[];
}

function basicIn(outer: DerReader): Basic {
  const bytes = outer.enter(context(0)).enter(tag.sequence);
  if (bytes.objectIdentifier() !== basicId) bytes.fail('another type of response');
  const basic = new DerReader(bytes.content(tag.octetString)).enter(tag.sequence);
  const [responseData, algorithm] = [basic.whole(tag.sequence), basic.whole(tag.sequence)];
  const signature = basic.bitString();
  const certificates: Uint8Array[] = [];
  if (!basic.atEnd) {
    const list = basic.enter(context(0)).enter(tag.sequence);
    while (!list.atEnd) certificates.push(list.whole());
  }
  return { responseData, algorithm, signature, certificates };
}

/** Signed by a responder that the authority has delegated, or by the authority itself. */
function isTrusted(
  { responseData, algorithm, signature, certificates }: Basic,
  { issuer }: IssuedCertificate,
  nowMs: number,
): boolean {
  const responders = certificates.flatMap((der) => isResponderOf(der, issuer, nowMs) ?? []);
  return [...responders, issuer.x509].some((signer) =>
    isSignedBy(responseData, algorithm, signature, signer),
  );
}

interface Single {
  readonly status: 'good' | 'unknown' | { readonly revokedMs: number; readonly reason: number | null };
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number | null;
  readonly nonce: Buffer | undefined;
}

/** What is said of one certificate; undefined where nothing is. */
function singleIn(responseData: Uint8Array, certId: Uint8Array): Single | undefined {
  const data = new DerReader(responseData).enter(tag.sequence);
  if (data.peek() === context(0)) data.whole();
  data.whole();
  data.time();
  const responses = data.enter(tag.sequence);
  let found: Omit<Single, 'nonce'> | undefined;
  while (!responses.atEnd) {
    const single = responses.enter(tag.sequence);
    const isIt = Buffer.compare(single.whole(tag.sequence), certId) === 0;
    const status = statusIn(single);
    const thisUpdateMs = single.time();
    const nextUpdateMs = single.peek() === context(0) ? single.enter(context(0)).time() : null;
    if (isIt) found = { status, thisUpdateMs, nextUpdateMs };
  }
  return found && { ...found, nonce: nonceIn(data) };
}

function statusIn(single: DerReader): Single['status'] {
  const kind = single.peek();
  if (kind === context(1)) {
    const info = single.enter(context(1));
    const revokedMs = info.time();
    const reason = info.atEnd ? null : (info.enter(context(0)).content(tag.enumerated)[0] ?? null);
    return { revokedMs, reason };
  }
  single.whole();
  return kind === context(0, 'primitive') ? 'good' : 'unknown';
}

function nonceIn(data: DerReader): Buffer | undefined {
  if (data.peek() !== context(1)) return undefined;
  const list = data.enter(context(1)).enter(tag.sequence);
  const wanted = Buffer.from(objectIdentifier(nonceId).subarray(2)).toString('hex');
  while (!list.atEnd) {
    const extension = list.enter(tag.sequence);
    if (extension.objectIdentifier() !== wanted) continue;
    if (extension.peek() === tag.boolean) extension.boolean();
    return Buffer.from(new DerReader(extension.content(tag.octetString)).content(tag.octetString));
  }
  return undefined;
}

function outcomeOf({ status, thisUpdateMs, nextUpdateMs }: Single): SourceOutcome {
  if (status === 'unknown') return undetermined('unknown', 'the responder does not know the certificate');
  if (status === 'good')
    return {
      ...{ status, source: 'ocsp', knownAt: new Date(thisUpdateMs) },
      believeUntil: new Date(nextUpdateMs ?? thisUpdateMs),
    };
  return {
    ...{ status: 'revoked', source: 'ocsp', isHeld: status.reason === 6 },
    reason: status.reason === null ? null : (reasonNames[status.reason] ?? String(status.reason)),
    revokedAt: new Date(status.revokedMs),
  };
}
