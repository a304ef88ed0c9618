import { type HolderKeyType, type Suite, subjectPublicKeyBits } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { sequence, unsignedInteger } from '../../core/asn1/der-writer.ts';
import { distributionPointName, keyIdentifier } from '../../core/asn1/extension.ts';
import { directoryName, encodeName, type NameAttribute, uriName } from '../../core/asn1/name.ts';
import { durationMs } from '../../core/config/duration.ts';
import { SerialCipher } from '../../core/crypto/serial.ts';
import type { Signer } from '../../core/crypto/signer.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import { type CertificateKind, type HolderKind, holderKinds, type Slot } from '../../core/model/kinds.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { invariant, PkiError } from '../../core/runtime/errors.ts';
import type { CertificateStore, Shard } from '../../store/api/certificate-store.ts';
import type { Config } from '../config/config.ts';
import { CertificateTemplate, type IssuerContext } from '../profile/certificate.ts';
import { type Town, townOf } from '../request/towns.ts';
import { PositionAllocator } from './positions.ts';
import { ShardAllocator } from './shards.ts';

/** Names of a CA; its generations share them. */
export function authorityAttributes(scheme: Config['scheme'], slot: Slot): readonly NameAttribute[] {
  const unit = slot === 'signing' ? scheme.signingUnit : scheme.authenticationUnit;
  return [
    ['C', 'JP'],
    ['O', scheme.organization],
    ['OU', unit],
    ['OU', scheme.operator],
  ];
}

export function japaneseName(scheme: Config['scheme'], slot: Slot): Bytes {
  const unit = slot === 'signing' ? scheme.japaneseSigningUnit : scheme.japaneseAuthenticationUnit;
  return encodeName([
    ['C', 'JP'],
    ['O', scheme.japaneseOrganization],
    ['OU', unit],
    ['OU', scheme.japaneseOperator],
  ]);
}

/** One key of one CA, ready to issue. */
export class Authority {
  readonly name: string;
  readonly slot: Slot;
  readonly generation: number;
  readonly certificate: Bytes;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly signer: Signer<'certificate'>;
  /** The same key, behind all other work. */
  readonly massSigner: Signer<'certificate'>;
  readonly #config: Config;
  readonly #positions: PositionAllocator;
  readonly #shards: ShardAllocator;
  readonly #templates = new Map<CertificateKind, CertificateTemplate>();
  readonly #ciphers = new Map<number, SerialCipher>();
  readonly #store: CertificateStore;
  readonly #subject: Bytes;
  readonly #serial: Bytes;

  constructor(options: {
    readonly name: string;
    readonly slot: Slot;
    readonly generation: number;
    readonly certificate: Bytes;
    readonly signer: Signer<'certificate'>;
    readonly massSigner: Signer<'certificate'>;
    readonly store: CertificateStore;
    readonly config: Config;
  }) {
    const parsed = parseCertificate(options.certificate);
    this.name = options.name;
    this.slot = options.slot;
    this.generation = options.generation;
    this.certificate = options.certificate;
    this.notBeforeMs = parsed.notBeforeMs;
    this.notAfterMs = parsed.notAfterMs;
    this.signer = options.signer;
    this.massSigner = options.massSigner;
    this.#config = options.config;
    this.#store = options.store;
    this.#positions = new PositionAllocator(options.store, options.name);
    this.#shards = new ShardAllocator(options.store);
    this.#subject = parsed.subject;
    this.#serial = parsed.serial;
  }

  /** Loads the keys of its serial numbers; before anything else. */
  async load(): Promise<this> {
    for (const epoch of await this.#store.epochs(this.name)) await this.#loadEpoch(epoch);
    return this;
  }

  /** notBefore of what it issues now: a while ago, for relying parties whose clocks lag, and not before its own. */
  notBeforeAt(nowMs: number): number {
    return Math.max(backdated(nowMs, this.#config), this.notBeforeMs);
  }

  /** A position of its own for the next certificate, with the serial number that encrypts it. */
  async allocate(): Promise<{ key: CertificateId; serial: Bytes }> {
    const key = await this.#positions.next();
    if (!this.#ciphers.has(key.epoch)) await this.#loadEpoch(key.epoch);
    return { key, serial: this.serialOf(key) };
  }

  serialOf({ epoch, position }: Pick<CertificateId, 'epoch' | 'position'>): Bytes {
    const cipher = this.#ciphers.get(epoch);
    invariant(cipher, `epoch ${epoch} of ${this.name} is loaded`);
    return cipher.encrypt(position);
  }

  /** The position a serial number encrypts; undefined where this authority never made it. */
  positionOf(serial: Bytes): CertificateId | undefined {
    const epoch = serial[0] ?? 0;
    const position = this.#ciphers.get(epoch)?.decrypt(serial);
    return position === undefined ? undefined : { authority: this.name, epoch, position };
  }

  /** What all of its certificates of a kind have in common, encoded. */
  template(kind: CertificateKind): CertificateTemplate {
    const template = this.#templates.get(kind) ?? new CertificateTemplate(kind, this.issuerContext(kind));
    this.#templates.set(kind, template);
    return template;
  }

  /** The same, as it is encoded from. */
  issuerContext(kind: CertificateKind): IssuerContext {
    return issuerContextOf(this.#config, kind, {
      ...{ name: this.name, slot: this.slot, suite: this.signer.suite },
      ...{ subject: this.#subject, serial: this.#serial, publicKey: this.signer.publicKey },
    });
  }

  /** The CRL shard that the next certificate of a kind and town, or code of a town, is to name. */
  async shardFor(kind: HolderKind, of: Town | string): Promise<Shard> {
    const town = typeof of === 'string' ? townOf(this.#config, of) : of;
    const { partition } = this.#config.crl;
    const series = `${kind}/${this.generation}/${partition === 'none' ? 'all' : town.code}`;
    // A shard keeps the name it was opened with, whatever the configuration says later: its CRL does too.
    const open = (number: number): Shard => {
      const attributes = pointAttributes(this.#config, this.slot, {
        ...{ kind, generation: this.generation, number, town },
      });
      const path = `crl/${series}/${number}.crl`;
      return {
        shard: `${series}/${number}`,
        series,
        number,
        authority: this.name,
        distributionPointName: distributionPointName(...pointNames(this.#config, path, attributes)),
        path,
      };
    };
    return this.#shards.next({ series, capacity: shardCapacity(this.#config), open });
  }

  async #loadEpoch(epoch: number): Promise<void> {
    this.#ciphers.set(epoch, new SerialCipher(epoch, await this.#store.feed.epochKey(this.name, epoch)));
  }
}

/** An authority as the certificates that it issues name it. */
export interface IssuingAuthority {
  readonly name: string;
  readonly slot: Slot;
  readonly suite: Suite;
  /** Name, DER. */
  readonly subject: Bytes;
  /** Octets of the serial number of its own certificate. */
  readonly serial: Bytes;
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Bytes;
}

/** What certificates of a kind from an authority have in common. */
export function issuerContextOf(
  { scheme, ocsp, crl }: Config,
  kind: CertificateKind,
  of: IssuingAuthority,
): IssuerContext {
  const isHolders = holderKinds.some((each) => each === kind);
  return {
    suite: of.suite,
    issuer: of.subject,
    reference: {
      subject: of.subject,
      serialNumber: unsignedInteger(of.serial),
      subjectKeyIdentifier: keyIdentifier(subjectPublicKeyBits(of.publicKey)),
    },
    issuerAltName: japaneseName(scheme, of.slot),
    policy: isHolders ? { oid: scheme.policies[kind as HolderKind], cpsUri: scheme.cpsUri } : null,
    ocspUri: ocsp.publicUrl,
    caIssuersUri: `${crl.publicUrl}/ca/${of.name}.cer`,
  };
}

/**
 * The name of a shard's distribution point. Our deviation from the scheme's certificates: kind, generation and number stand in it, because
 * a relying party accepts a CRL as soon as one name matches (RFC 5280 §6.3.3).
 */
export function pointAttributes(
  { scheme, crl }: Config,
  slot: Slot,
  of: {
    readonly kind: HolderKind;
    readonly generation: number | string;
    readonly number: number | string;
    readonly town: Pick<Town, 'prefecture' | 'municipality'>;
  },
): readonly NameAttribute[] {
  const { kind, generation, number, town } = of;
  const isWhole = crl.partition === 'none';
  return [
    ...authorityAttributes(scheme, slot).slice(0, 3),
    ['OU', 'CRL Distribution Points'],
    ...(isWhole ? [] : [['OU', town.prefecture] as const]),
    ['CN', `${isWhole ? 'All' : town.municipality} CRLDP ${kind} G${generation} S${number}`],
  ];
}

/**
 * Names of a distribution point. The address comes first: parsers that want an address stop at the first name (Go).
 */
function pointNames({ crl }: Config, path: string, attributes: readonly NameAttribute[]): Bytes[] {
  const directory = directoryName(encodeName(attributes));
  return crl.distributionPoint === 'address' ? [uriName(`${crl.publicUrl}/${path}`), directory] : [directory];
}

/** notBefore of a certificate that is made now: a whole second. */
export function backdated(nowMs: number, { issuing }: Pick<Config, 'issuing'>): number {
  return Math.floor((nowMs - durationMs(issuing.backdate)) / 1000) * 1000;
}

/** Certificates that may name one CRL. */
const shardCapacity = ({ crl }: Config): number =>
  crl.partition === 'none' ? Number.MAX_SAFE_INTEGER : crl.shardCapacity;

/** The shard of a CA certificate itself: named after the CA, its key and nothing else. */
export function authorityShard(config: Config, slot: Slot, generation: number, name: string): Shard {
  const path = `crl/authority/${name}.crl`;
  return {
    shard: `authority/${name}`,
    series: `authority/${name}`,
    number: 0,
    authority: name,
    distributionPointName: distributionPointName(
      ...pointNames(config, path, [
        ...authorityAttributes(config.scheme, slot),
        ['CN', `CRLDP G${generation}`],
      ]),
    ),
    path,
  };
}

/** GeneralNames with the Japanese name: subjectAltName of a CA certificate. */
export function authorityAltName(config: Config, slot: Slot): Bytes {
  return sequence(directoryName(japaneseName(config.scheme, slot)));
}

/** The authorities this CA issues from: for each suite the newest generation issues, older ones still answer for theirs. */
export class Authorities {
  #all: readonly Authority[];

  constructor(all: readonly Authority[]) {
    this.#all = all;
  }

  get all(): readonly Authority[] {
    return this.#all;
  }

  /** One more, from the next request on. */
  add(authority: Authority): void {
    this.#all = [...this.#all, authority];
  }

  /** The authority that certifies keys of that type now; `invalid-key` where none does. */
  issuing(slot: Slot, keyType: HolderKeyType): Authority {
    const fitting = this.all.filter(
      ({ slot: its, signer }) => its === slot && signer.suite.holderKey === keyType,
    );
    const [newest] = fitting.sort((a, b) => b.generation - a.generation);
    if (!newest) throw new PkiError('invalid-key', `no ${slot} CA certifies ${keyType} keys here`);
    return newest;
  }

  byName(name: string): Authority {
    const authority = this.all.find((candidate) => candidate.name === name);
    if (!authority) throw new PkiError('not-found', `no authority ${name}`);
    return authority;
  }
}
