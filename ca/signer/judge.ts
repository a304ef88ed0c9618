import { hash } from 'node:crypto';
import { type SuiteName, subjectPublicKeyBits, suiteOfKey, suites } from '../../core/asn1/algorithms.ts';
import { parseCertificate, parseTbsCertificate } from '../../core/asn1/certificate-reader.ts';
import { type ParsedTbsCrl, parseTbsCrl } from '../../core/asn1/crl-reader.ts';
import { DerError, DerReader } from '../../core/asn1/der-reader.ts';
import { context, objectIdentifier, tag, unsignedInteger } from '../../core/asn1/der-writer.ts';
import { authorityKey, keyIdentifier } from '../../core/asn1/extension.ts';
import { oid } from '../../core/asn1/oids.ts';
import { durationMs } from '../../core/config/duration.ts';
import type { SigningPurpose } from '../../core/crypto/signer.ts';
import { holderKinds } from '../../core/model/kinds.ts';
import { type Bytes, digest, equal, hex } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { AskedToSign } from '../../hsm/backend/signer-messages.ts';
import type { Config } from '../config/config.ts';
import { type IssuingAuthority, issuerContextOf } from '../issue/authority.ts';
import { keyLabel } from '../node/layout.ts';
import { operationsContext } from '../node/operations.ts';
import { lint } from '../profile/lints/all.ts';
import type { CrlNumbers } from './crl-numbers.ts';
import type { RecordLookup } from './record-lookup.ts';

// What the signer signs, whatever it is asked:
//
// 1. Each key signs for its own purposes only. Keys of CAs sign certificates and CRLs, and never a digest.
// 2. A certificate is signed if the record, which the signer reads itself, has these very octets reserved, under a serial number whose
//    position is leased; and if they pass every lint of the kind that the record names.
// 3. Certificates of CAs themselves are the operator's: they are signed by commands, in a ceremony, and not here.
// 4. A CRL is signed if it is of the authority and of a shard on record, has the extensions that ours have and no other, holds no longer than
//    is configured, and has a higher number than any other CRL of its kind for the same shard that was signed here, but none of a time to come.
//    What it lists is not compared with the record: see ADR 20.
// 5. Nothing is signed that is not in the signer's log.

/** What is to be signed, as the log names it. */
export interface Judged {
  /** `AUTHORITY/EPOCH/POSITION`, `operations/SERIAL`, `CRL`s by what they are for; `-` for others. */
  readonly subject: string;
}

/** How far a clock may be ahead: after a step back CRLs are numbered from what was published. */
const aheadMs = 3_600_000;

const crlExtensions: ReadonlySet<string> = new Set(
  [
    oid.cRLNumber,
    oid.deltaCRLIndicator,
    oid.issuingDistributionPoint,
    oid.authorityKeyIdentifier,
    oid.freshestCRL,
  ].map((dotted) => hex(objectIdentifier(dotted).subarray(2))),
);

const refuse = (what: string): never => {
  throw new PkiError('forbidden', what);
};

/** Serial numbers have 20 octets at most (RFC 5280 §4.1.2.2): what is longer is not even named. */
function serialOf(toBeSigned: Bytes): Bytes {
  const { serial } = parseTbsCertificate(toBeSigned);
  return serial.length > 20 ? refuse('a serial number of more than 20 octets') : serial;
}

/** Kinds of certificates that an authority's key signs for the service. */
const serviceKinds: ReadonlySet<string> = new Set([...holderKinds, 'ocsp-responder']);
const operationsKinds = ['tls-server', 'tls-client'] as const;

/** An authority as the signer knows it: by the record, and by the key in the token. */
interface KnownAuthority extends IssuingAuthority {
  /** AuthorityKeyIdentifier DER of its CRLs. */
  readonly authorityKey: Bytes;
}

export class Judge {
  readonly #config: Config;
  readonly #record: RecordLookup;
  readonly #numbers: CrlNumbers;
  readonly #clock: Pick<Clock, 'wallMs'>;
  readonly #operationsCa: Bytes;
  readonly #publicKeyOf: (label: string, suite: SuiteName) => Bytes;
  readonly #authorities = new Map<string, KnownAuthority>();

  constructor(options: {
    readonly config: Config;
    readonly record: RecordLookup;
    readonly numbers: CrlNumbers;
    readonly clock: Pick<Clock, 'wallMs'>;
    /** Certificate of the operations CA, DER. */
    readonly operationsCa: Bytes;
    /** SubjectPublicKeyInfo of a key in the token. */
    readonly publicKeyOf: (label: string, suite: SuiteName) => Bytes;
  }) {
    this.#config = options.config;
    this.#record = options.record;
    this.#numbers = options.numbers;
    this.#clock = options.clock;
    this.#operationsCa = options.operationsCa;
    this.#publicKeyOf = options.publicKeyOf;
  }

  /** Checks everything that is asked for, and says what it is; `forbidden` where one of it is not to be signed. */
  async judge(asked: AskedToSign, octets: readonly Bytes[]): Promise<Judged[]> {
    const { purpose, form, key, suite } = asked;
    if (!this.#purposesOf(key).includes(purpose)) refuse(`key ${key} does not sign for ${purpose}`);
    if (suiteOfKey(this.#publicKeyOf(key, suite))?.name !== suite)
      refuse(`key ${key} is of another suite than ${suite}`);
    if (
      form === 'digest' &&
      octets.some(({ length }) => length !== hash(suites[suite].hash, '', 'buffer').length)
    )
      refuse(`a digest by ${suites[suite].hash} has another length`);
    if (purpose !== 'certificate' && purpose !== 'crl') return octets.map(() => ({ subject: '-' }));
    if (form !== 'message') refuse(`key ${key} signs no digests`);
    try {
      if (key === keyLabel.operations)
        return await Promise.all(octets.map((each) => this.#operations(suite, each)));
      const authority = await this.#authority(key, suite);
      if (purpose === 'crl') return await Promise.all(octets.map((each) => this.#crl(authority, each)));
      return await Promise.all(octets.map((each) => this.#certificate(authority, each)));
    } catch (error) {
      if (error instanceof DerError) refuse(`what is to be signed is malformed: ${error.message}`);
      throw error;
    }
  }

  /** What a key may be used for. */
  #purposesOf(label: string): readonly SigningPurpose[] {
    if (label === keyLabel.operations) return ['certificate'];
    if (label === keyLabel.audit) return ['audit'];
    if (label === keyLabel.outbox) return ['message'];
    return label === keyLabel.wrapping ? [] : ['certificate', 'crl'];
  }

  async #certificate(authority: KnownAuthority, toBeSigned: Bytes): Promise<Judged> {
    const serial = serialOf(toBeSigned);
    const key =
      (await this.#record.leasedPosition(authority.name, serial)) ??
      refuse(`serial number ${hex(serial)} of ${authority.name} is of no position that is leased`);
    const name = `${key.authority}/${key.epoch}/${key.position}`;
    const reserved = (await this.#record.reserved(key)) ?? refuse(`nothing is reserved at ${name}`);
    if (!equal(reserved.toBeSigned, toBeSigned)) refuse(`other octets are reserved at ${name}`);
    const { kind } = reserved;
    if (!serviceKinds.has(kind))
      refuse(`a certificate of kind ${kind} is signed by a command of the operator`);
    const findings = lint(toBeSigned, kind, issuerContextOf(this.#config, kind, authority));
    if (findings.length > 0) refuse(`the certificate at ${name} fails lint: ${findings.join('; ')}`);
    return { subject: name };
  }

  async #operations(suite: SuiteName, toBeSigned: Bytes): Promise<Judged> {
    const serialNumber = hex(serialOf(toBeSigned));
    const subject = `operations/${serialNumber}`;
    const reserved =
      (await this.#record.reservedOperations(serialNumber)) ?? refuse(`nothing is reserved at ${subject}`);
    if (!equal(reserved.toBeSigned, toBeSigned)) refuse(`other octets are reserved at ${subject}`);
    const kind = operationsKinds.find((each) => each === reserved.kind);
    if (!kind) return refuse(`a certificate of kind ${reserved.kind} is signed by a command of the operator`);
    const publicKey = this.#publicKeyOf(keyLabel.operations, suite);
    const certificate = this.#operationsCa;
    if (!equal(parseCertificate(certificate).publicKey, publicKey))
      return refuse('the certificate of the operations CA is of another key than that of the token');
    const findings = lint(
      toBeSigned,
      kind,
      operationsContext({ suite: suites[suite], publicKey }, certificate),
    );
    if (findings.length > 0) refuse(`the certificate ${subject} fails lint: ${findings.join('; ')}`);
    return { subject };
  }

  async #crl(authority: KnownAuthority, toBeSigned: Bytes): Promise<Judged> {
    const crl = parseTbsCrl(toBeSigned);
    const isOfAuthority =
      equal(crl.signatureField, authority.suite.algorithmIdentifier) &&
      equal(crl.issuer, authority.subject) &&
      equal(crl.authorityKey, authority.authorityKey);
    if (!isOfAuthority) refuse(`a CRL of another issuer, key or algorithm than ${authority.name}`);
    if (crl.extensionIds.some((id) => !crlExtensions.has(id)))
      refuse('a CRL with an extension that ours do not have');
    const path = await this.#shardOf(authority.name, crl.distributionPoint);
    this.#refuseTimes(crl);
    const kind = crl.baseNumber === null ? 'complete' : 'delta';
    const subject = `${path}/${kind}/${crl.number}`;
    const point = Buffer.from(path);
    const number = { number: crl.number, digest: digest('sha256', toBeSigned) };
    if (!this.#numbers.take({ point, kind, ...number })) refuse(`${subject}: its number does not go up`);
    return { subject };
  }

  /** The path of the shard that an IssuingDistributionPoint names, whole: a name, and of whose certificates (RFC 5280 §5.2.5). */
  async #shardOf(authority: string, distributionPoint: Bytes): Promise<string> {
    const inner = new DerReader(distributionPoint).enter(tag.sequence);
    const name = inner.whole(context(0));
    const scope = inner.peek();
    const isAll = equal(inner.content(scope ?? 0), Uint8Array.of(0xff));
    inner.end();
    const path =
      (await this.#record.shardPath(authority, name)) ??
      refuse(`${authority} has no shard of that distribution point`);
    const wanted = context(path.startsWith('crl/authority/') ? 2 : 1, 'primitive');
    if (!isAll || scope !== wanted) refuse(`a CRL of other certificates than those of ${path}`);
    return path;
  }

  #refuseTimes({ number, baseNumber, thisUpdateMs, nextUpdateMs }: ParsedTbsCrl): void {
    const { validity, deltaValidity, backdate } = this.#config.crl;
    const latestMs = this.#clock.wallMs() + aheadMs;
    if (thisUpdateMs > latestMs || number > latestMs) refuse('a CRL of a time to come');
    const longestMs =
      durationMs(baseNumber === null ? validity : deltaValidity) + durationMs(backdate) + aheadMs;
    if (nextUpdateMs - thisUpdateMs > longestMs) refuse('a CRL that holds for longer than is configured');
    if (baseNumber !== null && baseNumber > number) refuse('a delta CRL of a later base');
  }

  /** `forbidden` where the record names none, or the token has another key. */
  async #authority(name: string, suite: SuiteName): Promise<KnownAuthority> {
    const known = this.#authorities.get(name);
    if (known) return known;
    const row = (await this.#record.authority(name)) ?? refuse(`there is no authority ${name} on record`);
    const { subject, serial, publicKey } = parseCertificate(row.certificate);
    if (!equal(publicKey, this.#publicKeyOf(name, suite)))
      refuse(`the record’s certificate of ${name} is of another key than that of the token`);
    const reference = {
      subject,
      serialNumber: unsignedInteger(serial),
      subjectKeyIdentifier: keyIdentifier(subjectPublicKeyBits(publicKey)),
    };
    const authority = {
      ...{ name, slot: row.slot, suite: suites[suite], subject, serial, publicKey },
      authorityKey: authorityKey(reference),
    };
    this.#authorities.set(name, authority);
    return authority;
  }
}
