import { DerReader } from '../asn1/der-reader.ts';
import { context, tag } from '../asn1/der-writer.ts';
import { type Authority, distributionPointsOf, type IssuedCertificate, isSignedBy } from './certificate.ts';
import { reasonNames, type SourceOutcome, undetermined } from './outcome.ts';
import { fetchOctets, keep, type Reach, type Source } from './source.ts';

// CRLs and their deltas (RFC 5280 §5, §6.3). A certificate names its own CRL, and no other counts.

export interface CrlOptions extends Reach {
  /** The address to fetch, from the one that stands in a certificate: where this verifier has one of its own. Default: as it stands. */
  readonly addressOf?: (url: string) => string;
  /** How long a CRL and its delta are used before both are fetched again, milliseconds. Default 300,000. */
  readonly keepMs?: number;
}

/** Content octets of OIDs, hex. */
const id = {
  number: '551d14',
  deltaIndicator: '551d1b',
  distributionPoint: '551d1c',
  freshest: '551d2e',
  authorityKey: '551d23',
  reason: '551d15',
} as const;
const removeFromCrl = 8;
const keptMax = 2000;
/** Of a CRL. */
const maxOctets = 64 * 1024 * 1024;

interface Entry {
  readonly revokedMs: number;
  readonly reason: number | null;
}

interface Crl {
  readonly number: bigint;
  /** BaseCRLNumber of a delta. */
  readonly base: bigint | null;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  readonly names: readonly Uint8Array[];
  readonly freshest: string | null;
  /** By serial number, hex. */
  readonly entries: ReadonlyMap<string, Entry>;
}

interface Kept {
  readonly crl: Crl;
  readonly delta: Crl | null;
  readonly fetchedMs: number;
}

/** A complete CRL and its deltas are numbered together (RFC 5280 §5.2.3). */
const newestOf = ({ crl, delta }: Kept): Crl => delta ?? crl;

const isBelievable = (kept: Kept, nowMs: number): boolean => newestOf(kept).nextUpdateMs >= nowMs;

const shareName = (some: readonly Uint8Array[], others: readonly Uint8Array[]): boolean =>
  some.some((name) => others.some((other) => Buffer.compare(name, other) === 0));

export class CrlSource implements Source {
  readonly name = 'crl';
  readonly #options: CrlOptions;
  readonly #kept = new Map<string, Kept>();
  /** Fetches under way, by address: those who wait share one. */
  readonly #fetching = new Map<string, Promise<Kept | SourceOutcome>>();

  constructor(options: CrlOptions = {}) {
    this.#options = options;
  }

  async check(certificate: IssuedCertificate, nowMs: number): Promise<SourceOutcome> {
    const { names, urls } = distributionPointsOf(certificate);
    const [url] = urls;
    if (url === undefined) return undetermined('not-covered', 'the certificate names no address of a CRL');
    const { skewMs = 60_000 } = this.#options;
    const found = await this.#had(url, certificate.issuer, nowMs);
    if ('status' in found) return found;
    const { crl, delta } = found;
    if (!shareName(crl.names, names))
      return undetermined('not-trusted', 'the CRL is not the one that the certificate names');
    const last = newestOf(found);
    if (last.thisUpdateMs > nowMs + skewMs) return undetermined('stale', 'the CRL is from the future');
    if (last.nextUpdateMs < nowMs - skewMs) return undetermined('stale', 'the CRL is too old');
    const serial = Buffer.from(certificate.parsed.serial).toString('hex');
    const entry = delta?.entries.get(serial) ?? crl.entries.get(serial);
    if (entry === undefined || entry.reason === removeFromCrl)
      return {
        ...{ status: 'good', source: 'crl', knownAt: new Date(last.thisUpdateMs) },
        believeUntil: new Date(last.nextUpdateMs),
      };
    return {
      ...{ status: 'revoked', source: 'crl', isHeld: entry.reason === 6 },
      reason: entry.reason === null ? null : (reasonNames[entry.reason] ?? String(entry.reason)),
      revokedAt: new Date(entry.revokedMs),
    };
  }

  async #had(url: string, issuer: Authority, nowMs: number): Promise<Kept | SourceOutcome> {
    const { keepMs = 300_000, skewMs = 60_000 } = this.#options;
    // An address alone is whatever a certificate says.
    const name = `${issuer.keyId} ${url}`;
    const kept = this.#kept.get(name);
    if (kept && nowMs < kept.fetchedMs + keepMs) return kept;
    const underWay = this.#fetching.get(name) ?? this.#fetchBoth(url, issuer, nowMs);
    this.#fetching.set(name, underWay);
    const found = await underWay.finally(() => this.#fetching.delete(name));
    if ('crl' in found) {
      // No older one takes the place of what was had.
      if (kept && newestOf(found).number < newestOf(kept).number)
        return isBelievable(kept, nowMs - skewMs)
          ? kept
          : undetermined('stale', 'a newer CRL was had before');
      keep(this.#kept, name, found, keptMax);
      return found;
    }
    // What was had is used as long as it may be believed.
    return kept && isBelievable(kept, nowMs - skewMs) ? kept : found;
  }

  async #fetchBoth(url: string, issuer: Authority, nowMs: number): Promise<Kept | SourceOutcome> {
    const crl = await this.#fetch(url, issuer);
    if ('status' in crl) return crl;
    if (crl.base !== null) return undetermined('not-trusted', 'a delta stands where a complete CRL should');
    if (crl.freshest === null) return { crl, delta: null, fetchedMs: nowMs };
    // Where there are deltas, who keeps one away would have a CRL of days ago count.
    const delta = await this.#fetch(crl.freshest, issuer);
    if ('status' in delta) return delta;
    const fits =
      delta.base !== null &&
      delta.base <= crl.number &&
      delta.number >= crl.number &&
      shareName(delta.names, crl.names);
    if (!fits) return undetermined('stale', 'the delta is not one of that CRL: fetch both again');
    if (delta.nextUpdateMs < nowMs - (this.#options.skewMs ?? 60_000))
      return undetermined('stale', 'the delta is too old');
    return { crl, delta, fetchedMs: nowMs };
  }

  async #fetch(url: string, issuer: Authority): Promise<Crl | SourceOutcome> {
    const { addressOf = (address: string) => address } = this.#options;
    const { status, octets } = await fetchOctets(addressOf(url), { maxOctets }, this.#options);
    if (status === 0) return undetermined('unreachable', 'the CRL cannot be reached');
    if (status === 401 || status === 403)
      return undetermined('not-allowed', `the CRL’s server answers ${status}`);
    if (status !== 200) return undetermined('unreachable', `the CRL’s server answers ${status}`);
    try {
      const crl = readCrl(octets, issuer);
      return crl ?? undetermined('not-trusted', 'the CRL is not signed by the CA of the certificate');
    } catch (error) {
      return undetermined('not-trusted', `the file is no CRL: ${(error as Error).message}`);
    }
  }
}

/** A CRL; undefined where the authority has not signed it. */
function readCrl(octets: Uint8Array, issuer: Authority): Crl | undefined {
  const outer = new DerReader(octets);
  const list = outer.enter(tag.sequence);
  outer.end();
  const [signed, algorithm] = [list.whole(tag.sequence), list.whole(tag.sequence)];
  if (!isSignedBy(signed, algorithm, list.bitString(), issuer.x509)) return undefined;
  const body = new DerReader(signed).enter(tag.sequence);
  if (body.smallInteger() !== 1) body.fail('not version 2');
  body.whole(tag.sequence);
  if (Buffer.compare(body.whole(tag.sequence), issuer.parsed.subject) !== 0) return undefined;
  const thisUpdateMs = body.time();
  const nextUpdateMs = body.time();
  const entries =
    body.peek() === tag.sequence ? entriesIn(body.enter(tag.sequence)) : new Map<string, Entry>();
  const found = extensionsIn(body.enter(context(0)).enter(tag.sequence));
  const numberIn = (name: string): bigint | null => {
    const value = found.get(name);
    return value ? BigInt(`0x${Buffer.from(new DerReader(value).unsigned()).toString('hex')}`) : null;
  };
  return {
    ...{ number: numberIn(id.number) ?? body.fail('no number'), base: numberIn(id.deltaIndicator) },
    ...{ thisUpdateMs, nextUpdateMs, entries },
    names: pointNames(found.get(id.distributionPoint), 'issuing'),
    freshest: uriIn(pointNames(found.get(id.freshest), 'freshest')),
  };
}

function entriesIn(list: DerReader): Map<string, Entry> {
  const entries = new Map<string, Entry>();
  while (!list.atEnd) {
    const entry = list.enter(tag.sequence);
    const serial = Buffer.from(entry.unsigned()).toString('hex');
    const revokedMs = entry.time();
    const value = entry.atEnd ? undefined : extensionsIn(entry.enter(tag.sequence)).get(id.reason);
    entries.set(serial, {
      revokedMs,
      reason: value ? (new DerReader(value).content(tag.enumerated)[0] ?? null) : null,
    });
  }
  return entries;
}

const understood: readonly string[] = Object.values(id);

/** Values by OID. Fails for a critical one that is not known here. */
function extensionsIn(list: DerReader): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  while (!list.atEnd) {
    const extension = list.enter(tag.sequence);
    const name = extension.objectIdentifier();
    const isCritical = extension.peek() === tag.boolean && extension.boolean();
    if (isCritical && !understood.includes(name))
      extension.fail('a critical extension that is not known here');
    found.set(name, extension.content(tag.octetString));
  }
  return found;
}

/** GeneralNames of an IssuingDistributionPoint, or of the first DistributionPoint of a FreshestCRL. */
function pointNames(value: Uint8Array | undefined, of: 'issuing' | 'freshest'): Uint8Array[] {
  if (!value) return [];
  const outer = new DerReader(value).enter(tag.sequence);
  const point = of === 'issuing' ? outer : outer.enter(tag.sequence);
  if (point.peek() !== context(0)) return [];
  const names: Uint8Array[] = [];
  const general = point.enter(context(0)).enter(context(0));
  while (!general.atEnd) names.push(general.whole());
  // What is asked about is no CA's certificate; a CRL for some reasons, or of others' certificates, says nothing of it.
  if (of === 'issuing') {
    if (point.peek() === context(1, 'primitive')) point.whole();
    if (!point.atEnd) point.fail('a CRL for some certificates or reasons alone');
  }
  return names;
}

function uriIn(names: readonly Uint8Array[]): string | null {
  const uri = names.find((name) => name[0] === context(6, 'primitive'));
  return uri ? Buffer.from(new DerReader(uri).content(context(6, 'primitive'))).toString('latin1') : null;
}
