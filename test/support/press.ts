import {
  constants,
  createPublicKey,
  hash,
  type KeyObject,
  privateEncrypt,
  randomBytes,
  verify,
} from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import * as asn1js from 'asn1js';
import * as pkijs from 'pkijs';
import { parseConfig } from '../../ca/config/config.ts';
import { authorityAltName, authorityAttributes, authorityShard } from '../../ca/issue/authority.ts';
import { PreparedCertificate } from '../../ca/issue/prepared.ts';
import { CertificateTemplate } from '../../ca/profile/certificate.ts';
import { suites } from '../../core/asn1/algorithms.ts';
import { distributionPointName } from '../../core/asn1/extension.ts';
import { directoryName, encodeName, uriName } from '../../core/asn1/name.ts';
import { oid } from '../../core/asn1/oids.ts';
import { SerialCipher } from '../../core/crypto/serial.ts';
import type { DigestSigner } from '../../core/crypto/signer.ts';
import type { FeedEvent, StatusEvent } from '../../core/feed/feed.ts';
import type { RestrictionFacts } from '../../core/model/restriction.ts';
import { type RevocationReason, statusIn } from '../../core/model/revocation.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { deltaPath } from '../../crl/encode/names.ts';
import { EntryReader, EntryStore, type Shard } from '../../crl/entries/entry-store.ts';
import { CrlFollower } from '../../crl/entries/follower.ts';
import { PublishedFolder, type PublishedShard } from '../../crl/folder/published.ts';
import type { BuildOrder, Trigger } from '../../crl/issue/build-order.ts';
import { type BuildResult, build } from '../../crl/list.ts';
import { Schedule } from '../../crl/publish/schedule.ts';
import { softwareSigner } from '../../hsm/pool/software-signer.ts';
import { exact } from './actors.ts';
import { fixtureKey } from './harness.ts';

// A publisher without a CA, tokens and threads, for histories by the hundred; and a relying party that knows nothing of it.

const config = parseConfig({});
export const hourMs = 3_600_000;
export const dayMs = 24 * hourMs;
const startMs = Date.UTC(2026, 10, 21);
const authorityKey = fixtureKey('authority');

/** Signs digests with a key in memory. */
export function digestSigner(privateKey: KeyObject = authorityKey): DigestSigner<'crl'> {
  const suite = suites['rsa2048-sha256'];
  return {
    ...softwareSigner({ purpose: 'crl', suite, privateKey }),
    form: 'digest',
    signDigest: async (digest) => {
      const padding = constants.RSA_PKCS1_PADDING;
      return privateEncrypt({ key: privateKey, padding }, suite.pkcs11.input(digest));
    },
  };
}

/** A CA certificate over the fixture's key, as the ceremony makes it. */
export function authorityCertificate(generation: number): Promise<Bytes> {
  const suite = suites['rsa2048-sha256'];
  const signer = softwareSigner({ purpose: 'certificate', suite, privateKey: authorityKey });
  const subject = encodeName(authorityAttributes(config.scheme, 'signing'));
  const shard = authorityShard(config, 'signing', generation, `signing-${generation}`);
  const issuer = { suite, issuer: subject, reference: null, issuerAltName: null, policy: null };
  const fields = {
    serial: Uint8Array.of(1, 0xca, generation),
    notBeforeMs: startMs - dayMs,
    notAfterMs: startMs + 3650 * dayMs,
    subject,
    publicKey: signer.publicKey,
    subjectAltName: authorityAltName(config, 'signing'),
    distributionPointName: shard.distributionPointName,
  };
  return PreparedCertificate.prepare(
    new CertificateTemplate('authority', { ...issuer, ocspUri: null, caIssuersUri: null }),
    fields,
  ).certify(signer);
}

/** A certificate, as far as revocation knows it. */
export interface Certificate {
  readonly authority: string;
  readonly position: number;
  readonly serial: Bytes;
  /** What stands in its cRLDistributionPoints: DistributionPointName DER. */
  readonly point: Bytes;
  readonly shard: string;
  readonly notAfterMs: number;
  /** Of its phone; undefined of a card. */
  readonly model: string | undefined;
  version: number;
  state: StatusEvent['state'];
  reason: RevocationReason | null;
  revokedMs: number | null;
}

export interface PressOptions {
  readonly folder: string;
  readonly capacity?: number;
  readonly deltas?: boolean;
  readonly onEvent?: 'event' | 'event-delta';
  readonly sign?: (digest: Bytes) => Promise<Bytes>;
}

const epochKey = randomBytes(16);
const cipher = new SerialCipher(1, epochKey);
const silent = { learnt: () => undefined, changed: () => undefined, received: () => undefined };

/** The parts of one publisher, on a folder of its own or shared with another. */
export class Press {
  readonly published: string;
  readonly certificates: Certificate[] = [];
  restrictions: readonly RestrictionFacts[] = [];
  readonly capacity: number;
  readonly onEvent: 'event' | 'event-delta';
  nowMs = startMs;
  /** Results of the last builds. */
  results: BuildResult[] = [];
  readonly #options: PressOptions;
  readonly #sizes = new Map<string, number>();
  readonly #certificates = new Map<string, Bytes>();
  readonly #schedule = new Schedule({
    clock: { wallMs: () => this.nowMs, monotonicMs: () => this.nowMs },
    refreshMs: 24 * hourMs,
    deltaEveryMs: hourMs / 2,
  });
  #position = 0;
  #feedPosition = 0;
  #store!: EntryStore;
  #reader!: EntryReader;
  #folder!: PublishedFolder;
  #follower!: CrlFollower;
  readonly #file: string;

  constructor(options: PressOptions, published = join(options.folder, 'published')) {
    this.#options = options;
    this.published = published;
    this.capacity = options.capacity ?? 4;
    this.onEvent = options.onEvent ?? 'event';
    this.#file = join(options.folder, 'entries.db');
    this.#open();
  }

  #open(): void {
    this.#store = new EntryStore(this.#file);
    this.#folder = new PublishedFolder({
      folder: this.published,
      owner: crypto.randomUUID(),
      leaseMs: 10_000,
    });
    this.#follower = new CrlFollower({
      feed: { epochKey: async () => epochKey },
      store: this.#store,
      listener: silent,
    });
    this.#reader = new EntryReader(this.#file);
  }

  /** Ends and begins again, on what is on disk. */
  restart(): void {
    this.close();
    this.#open();
  }

  /** Loses what it remembers of certificates, but not how far it has received: as a database that was damaged. */
  lose(): void {
    this.#database((database) => database.exec('DELETE FROM bucket'), this.#file);
  }

  /** Publishes, and then has the state, and with `delta` the delta too, be as before: it died between the renames and the commit. */
  async publishAndCrash(what: 'state' | 'state and delta'): Promise<void> {
    const rows = this.#rows();
    const deltas = new Map(
      [...this.#folder.all()].map(({ path }) => [path, this.fetch(`http://x/${deltaPath(path)}`)]),
    );
    await this.publish();
    this.#database(
      (database) => {
        const put = database.prepare('UPDATE shard SET published = ? WHERE path = ?');
        for (const path of this.#rows().keys()) put.run(rows.get(path) ?? null, path);
      },
      join(this.published, '.state.db'),
    );
    if (what === 'state and delta') {
      for (const [path, octets] of deltas) {
        const file = join(this.published, deltaPath(path));
        rmSync(file, { force: true });
        if (octets) writeFileSync(file, octets);
      }
    }
    this.restart();
  }

  #rows(): Map<string, string | null> {
    return this.#database(
      (database) => {
        const rows = database.prepare('SELECT path, published FROM shard').all();
        return new Map(
          rows.map(({ path, published }) => [String(path), published === null ? null : String(published)]),
        );
      },
      join(this.published, '.state.db'),
    );
  }

  #database<R>(act: (database: DatabaseSync) => R, file: string): R {
    const database = new DatabaseSync(file);
    try {
      return act(database);
    } finally {
      database.close();
    }
  }

  close(): void {
    this.#reader.close();
    this.#folder.close();
    this.#store.close();
  }

  get folder(): PublishedFolder {
    return this.#folder;
  }

  get store(): EntryStore {
    return this.#store;
  }

  async apply(events: readonly FeedEvent[], feedPosition = this.#feedPosition + 1): Promise<void> {
    this.#feedPosition = feedPosition;
    const cursor = { incarnation: 'one', positions: { n1: feedPosition } };
    await this.#follower.apply({ events, cursor, watermarkMs: this.nowMs });
  }

  async openGeneration(generation: number): Promise<FeedEvent[]> {
    const certificate = await authorityCertificate(generation);
    const authority = `signing-${generation}`;
    this.#certificates.set(authority, certificate);
    const encoded = Buffer.from(certificate).toString('base64');
    const events: FeedEvent[] = [{ type: 'authority', authority, certificate: encoded }];
    await this.apply(events);
    return events;
  }

  /** Issues a certificate into the newest shard of its kind, or the next where that is full. */
  async issue(generation: number, kind: string, lifeMs: number): Promise<Certificate> {
    const series = `${kind}/${generation}/13113`;
    const issued = this.#sizes.get(series) ?? 0;
    const shard = `${series}/${Math.floor(issued / this.capacity)}`;
    this.#sizes.set(series, issued + 1);
    const authority = `signing-${generation}`;
    const point = pointOf(shard);
    const events: FeedEvent[] = [];
    if (issued % this.capacity === 0) events.push(shardEvent(shard, authority));
    this.#position += 1;
    const position = this.#position;
    const certificate: Certificate = {
      authority,
      position,
      serial: cipher.encrypt(position),
      point,
      shard,
      notAfterMs: this.nowMs + lifeMs,
      model: kind.startsWith('phone-') ? `M${position % 2}` : undefined,
      version: 1,
      state: 'good',
      reason: null,
      revokedMs: null,
    };
    this.certificates.push(certificate);
    await this.apply([...events, ...deviceEvents(certificate), statusOf(certificate)]);
    return certificate;
  }

  /** What becomes of all phones of a model, if it can. */
  async restrict(model: string, action: 'hold' | 'end' | 'revoke'): Promise<void> {
    const before = this.restrictions.findLast((each) => each.match.models?.[0] === model);
    const isHeld = before?.endedMs === null && before.revokedMs === null;
    if (action === 'hold' ? isHeld || (before?.revokedMs ?? null) !== null : !isHeld) return;
    const none = { endedMs: null, revokedMs: null, reason: null, lastCohort: null };
    const match = { ...anyPhone, models: [model] };
    const number = this.restrictions.length;
    const held = { restrictionId: `r${number}`, version: 1, match, heldMs: this.nowMs, ...none };
    const after: RestrictionFacts =
      !before || action === 'hold' ? held : { ...before, version: before.version + 1 };
    if (action === 'end') Object.assign(after, { endedMs: this.nowMs });
    if (action === 'revoke') Object.assign(after, { revokedMs: this.nowMs, reason: 'affiliationChanged' });
    this.restrictions = [
      ...this.restrictions.filter((each) => each.restrictionId !== after.restrictionId),
      after,
    ];
    await this.apply([{ type: 'restriction', ...after }]);
  }

  /** What becomes of a certificate, if its status allows it. Returns the event. */
  async change(
    certificate: Certificate,
    to: 'revoked' | 'held' | 'good',
    reason: RevocationReason = 'superseded',
  ): Promise<StatusEvent | undefined> {
    const { state } = certificate;
    const allowed = { revoked: ['good', 'held'], held: ['good'], good: ['held'] }[to];
    if (!allowed.includes(state)) return undefined;
    certificate.version += 1;
    certificate.state = to;
    certificate.revokedMs = to === 'good' ? null : (certificate.revokedMs ?? this.nowMs);
    certificate.reason = to === 'good' ? null : to === 'held' ? 'certificateHold' : reason;
    const event = statusOf(certificate);
    await this.apply([event]);
    return event;
  }

  shard(name: string): Shard {
    const found = this.#store.shards.find(({ shard }) => shard === name);
    if (!found) throw new Error(`no shard ${name}`);
    return found;
  }

  async build(shard: Shard, trigger: Trigger, with_: Partial<BuildOrder> = {}): Promise<BuildResult> {
    const { authority, distributionPointName: name, path, id } = shard;
    const certificate =
      this.#certificates.get(authority) ?? (await authorityCertificate(Number(authority.slice(8))));
    const order: BuildOrder = {
      seenNumber: Number.MAX_SAFE_INTEGER,
      keys: this.#store.epochsOf(authority).map((epoch) => ({ epoch, key: epochKey })),
      shard: { id, path, distributionPointName: name, scope: 'onlyContainsUserCerts', certificate },
      trigger,
      nowMs: this.nowMs,
      watermarkMs: this.nowMs,
      validityMs: 48 * hourMs,
      deltaValidityMs: this.#options.deltas === false ? null : hourMs,
      deltaIsNamed: true,
      backdateMs: 0,
      ...with_,
    };
    const sign = this.#options.sign ?? digestSigner().signDigest;
    const context = {
      entries: this.#reader,
      folder: this.#folder,
      sign: (toBeSigned: Bytes, algorithm: 'sha256' | 'sha384') =>
        sign(hash(algorithm, toBeSigned, 'buffer')),
      handOver: async () => true,
    };
    const result = await build(context, order);
    if (result.type === 'published' || result.type === 'unchanged') {
      this.#store.published(id, result.batch);
      if (result.ended.length > 0) this.#store.end(id, result.ended, this.nowMs - 180 * dayMs);
    }
    return result;
  }

  /** Issues what has changed, and what is due by schedule. */
  async publish(): Promise<void> {
    const changed = new Set(this.#store.changed);
    const state = new Map([...this.#folder.all()].map((each) => [each.path, each]));
    this.results = [];
    for (const shard of this.#store.shards) {
      const due = this.#schedule.due(state.get(shard.path), this.nowMs);
      const trigger = changed.has(shard.id) && due !== 'schedule' ? this.onEvent : due;
      if (trigger) this.results.push(await this.build(shard, trigger));
    }
  }

  /** What is published at a distribution point's address; undefined where nothing is. */
  fetch(uri: string): Bytes | undefined {
    const file = join(this.published, new URL(uri).pathname);
    return existsSync(file) ? readFileSync(file) : undefined;
  }

  stateOf(shard: string): PublishedShard | undefined {
    return [...this.#folder.all()].find(({ path }) => path === `crl/${shard}.crl`);
  }
}

export const pointOf = (shard: string): Bytes =>
  distributionPointName(
    directoryName(
      encodeName([
        ['C', 'JP'],
        ['CN', `CRLDP ${shard}`],
      ]),
    ),
    uriName(`http://crl.example/crl/${shard}.crl`),
  );

export const shardEvent = (shard: string, authority: string): FeedEvent => ({
  type: 'shard',
  shard,
  authority,
  distributionPointName: Buffer.from(pointOf(shard)).toString('base64'),
  path: `crl/${shard}.crl`,
});

const anyPhone = {
  ...{ platform: 'android', models: null, secureElements: null },
  ...{ osVersionFrom: null, osVersionTo: null, patchLevelBefore: null },
};

/** Of which class a certificate's phone is. */
function deviceEvents({ authority, position, model, notAfterMs, shard }: Certificate): FeedEvent[] {
  if (model === undefined) return [];
  const facts = {
    ...{ platform: 'android', model, isModelUnknown: false, osVersion: '16' },
    ...{
      secureElement: null,
      patchLevel: null,
      appletVersion: null,
      appVersion: null,
      sinceMs: null,
      cohort: 0,
    },
  };
  return [
    { type: 'device-class', deviceClass: model, facts },
    { type: 'device', authority, epoch: 1, position, deviceClass: model, version: 1, notAfterMs, shard },
  ];
}

export const statusOf = (certificate: Certificate): StatusEvent => {
  const { authority, position, shard, version, state, reason, revokedMs, notAfterMs } = certificate;
  const change =
    state === 'good' ? (version > 1 ? 'released' : 'issued') : state === 'held' ? 'held' : 'revoked';
  const key = { authority, epoch: 1, position };
  return {
    type: 'status',
    ...key,
    shard,
    change,
    version,
    ...statusIn({ state, reason, revokedMs, invalidityMs: null }),
    notAfterMs,
  };
};

export interface ReadCrl {
  readonly der: Bytes;
  readonly number: bigint;
  readonly baseNumber: bigint | null;
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  /** By serial number, hex: reason, 0 where there is none. */
  readonly entries: Map<string, number>;
  /** Of the entries, milliseconds since 1970. */
  readonly revocationDates: readonly number[];
  /** IssuingDistributionPoint DER. */
  readonly idp: Buffer;
  readonly extensions: Map<string, Buffer>;
}

/** A CRL as pkijs reads it; its signature verified. */
export function readCrl(der: Bytes): ReadCrl {
  const crl = pkijs.CertificateRevocationList.fromBER(exact(der));
  const publicKey = createPublicKey(authorityKey);
  if (
    !verify(
      'sha256',
      Buffer.from(crl.tbsView),
      publicKey,
      Buffer.from(crl.signatureValue.valueBlock.valueHexView),
    )
  ) {
    throw new Error('the signature does not verify');
  }
  const extensions = new Map(
    (crl.crlExtensions?.extensions ?? []).map(({ extnID, extnValue }) => [
      extnID,
      Buffer.from(extnValue.valueBlock.valueHexView),
    ]),
  );
  const integer = (id: string): bigint | null => {
    const value = extensions.get(id);
    return value ? (asn1js.fromBER(exact(value)).result as asn1js.Integer).toBigInt() : null;
  };
  const entries = new Map(
    (crl.revokedCertificates ?? []).map(({ userCertificate, crlEntryExtensions }) => {
      const reason = crlEntryExtensions?.extensions.find(
        ({ extnID }) => extnID === oid.cRLReasons,
      )?.parsedValue;
      const serial = Buffer.from(userCertificate.valueBlock.valueHexView).toString('hex');
      return [serial, reason instanceof asn1js.Enumerated ? reason.valueBlock.valueDec : 0];
    }),
  );
  return {
    der,
    number: integer(oid.cRLNumber) ?? -1n,
    baseNumber: integer('2.5.29.27'),
    thisUpdateMs: crl.thisUpdate.value.getTime(),
    nextUpdateMs: crl.nextUpdate?.value.getTime() ?? 0,
    entries,
    revocationDates: (crl.revokedCertificates ?? []).map(({ revocationDate }) =>
      revocationDate.value.getTime(),
    ),
    idp: extensions.get(oid.issuingDistributionPoint) ?? Buffer.alloc(0),
    extensions,
  };
}

/** Complete list and delta put together (RFC 5280 §6.3.3 (g) to (i)): reasons by serial number. */
export function combined(complete: ReadCrl, delta: ReadCrl | undefined): Map<string, number> {
  const entries = new Map(complete.entries);
  for (const [serial, reason] of delta?.entries ?? []) {
    if (reason === 8) entries.delete(serial);
    else entries.set(serial, reason);
  }
  return entries;
}

/**
 * A relying party that has nothing but a certificate, its issuer and a clock (RFC 5280 §6.3.3): the reason it is revoked for;
 * null where it is not. Throws where it cannot tell.
 */
export function relyOn(
  { point, serial }: Pick<Certificate, 'point' | 'serial'>,
  fetch: (uri: string) => Bytes | undefined,
  nowMs: number,
): number | null {
  const octets = fetch(addressIn(Buffer.from(point)));
  if (!octets) throw new Error('nothing is published');
  const complete = readCrl(octets);
  if (complete.nextUpdateMs <= nowMs) throw new Error('the CRL has expired');
  if (complete.baseNumber !== null) throw new Error('a delta in the place of a complete CRL');
  // (b)(2): one name at least is the certificate's; for us, all of them.
  if (!complete.idp.includes(Buffer.from(point))) throw new Error('a CRL of another distribution point');
  const freshest = complete.extensions.get('2.5.29.46');
  const delta = freshest && usableDelta(complete, fetch(addressIn(freshest)), nowMs);
  return combined(complete, delta).get(Buffer.from(serial).toString('hex')) ?? null;
}

/** (c): of the same issuer, key, scope; to a base not later than the complete CRL; of a greater number. */
function usableDelta(complete: ReadCrl, octets: Bytes | undefined, nowMs: number): ReadCrl | undefined {
  if (!octets) return undefined;
  const delta = readCrl(octets);
  const isOurs =
    delta.idp.equals(complete.idp) &&
    delta.extensions
      .get(oid.authorityKeyIdentifier)
      ?.equals(complete.extensions.get(oid.authorityKeyIdentifier) ?? Buffer.alloc(0));
  if (!isOurs) throw new Error('the delta is of another scope');
  if (delta.baseNumber === null || delta.nextUpdateMs <= nowMs) return undefined;
  return complete.number >= delta.baseNumber && complete.number < delta.number ? delta : undefined;
}

/** The first http address in some DER. */
function addressIn(der: Buffer): string {
  return /http:\/\/[!-~]+?\.crl/.exec(der.toString('latin1'))?.[0] ?? '';
}
