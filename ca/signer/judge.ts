import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type Suite, type SuiteName, subjectPublicKeyBits, suites } from '../../core/asn1/algorithms.ts';
import { parseCertificate, parseTbsCertificate } from '../../core/asn1/certificate-reader.ts';
import { parseTbsCrl } from '../../core/asn1/crl-reader.ts';
import { DerError } from '../../core/asn1/der-reader.ts';
import { unsignedInteger } from '../../core/asn1/der-writer.ts';
import { authorityKey, keyIdentifier } from '../../core/asn1/extension.ts';
import type { SigningPurpose } from '../../core/crypto/signer.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import { holderKinds, type Slot } from '../../core/model/kinds.ts';
import { type Bytes, digest, equal, hex } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import type { AskedToSign } from '../../hsm/backend/signer-messages.ts';
import type { Config } from '../config/config.ts';
import { issuerContextOf } from '../issue/authority.ts';
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
// 4. A CRL is signed if it is of the authority, and its number is higher than that of any other CRL of its kind for the same
//    distribution point that was signed here.
// 5. Nothing is signed that is not in the signer's log.

/** What is to be signed, as the log names it. */
export interface Judged {
  /** `AUTHORITY/EPOCH/POSITION`, `operations/SERIAL`, `CRL`s by what they are for; `-` for others. */
  readonly subject: string;
  readonly key: CertificateId | null;
}

const refuse = (what: string): never => {
  throw new PkiError('forbidden', what);
};

/** Kinds of certificates that an authority's key signs for the service. */
const serviceKinds: ReadonlySet<string> = new Set([...holderKinds, 'ocsp-responder']);
const operationsKinds = { 'tls-server': 'tls-server', 'tls-client': 'tls-client' } as const;

/** An authority as the signer knows it: by the record, and by the key in the token. */
interface KnownAuthority {
  readonly name: string;
  readonly slot: Slot;
  readonly suite: Suite;
  readonly subject: Bytes;
  readonly serial: Bytes;
  readonly publicKey: Bytes;
  /** AuthorityKeyIdentifier DER of its CRLs. */
  readonly authorityKey: Bytes;
}

export class Judge {
  readonly #config: Config;
  readonly #record: RecordLookup;
  readonly #numbers: CrlNumbers;
  readonly #operationsCa: string;
  readonly #publicKeyOf: (label: string, suite: SuiteName) => Bytes;
  readonly #authorities = new Map<string, KnownAuthority>();

  constructor(options: {
    readonly config: Config;
    readonly record: RecordLookup;
    readonly numbers: CrlNumbers;
    /** File with the certificate of the operations CA, PEM. */
    readonly operationsCa: string;
    /** SubjectPublicKeyInfo of a key in the token. */
    readonly publicKeyOf: (label: string, suite: SuiteName) => Bytes;
  }) {
    this.#config = options.config;
    this.#record = options.record;
    this.#numbers = options.numbers;
    this.#operationsCa = options.operationsCa;
    this.#publicKeyOf = options.publicKeyOf;
  }

  /** Checks everything that is asked for, and says what it is; `forbidden` where one of it is not to be signed. */
  async judge(asked: AskedToSign, octets: readonly Bytes[]): Promise<Judged[]> {
    const { purpose, form, key, suite } = asked;
    if (!this.#purposesOf(key).includes(purpose)) refuse(`key ${key} does not sign for ${purpose}`);
    if (purpose !== 'certificate' && purpose !== 'crl')
      return octets.map(() => ({ subject: '-', key: null }));
    if (form !== 'message') refuse(`key ${key} signs no digests`);
    try {
      if (key === keyLabel.operations)
        return await Promise.all(octets.map((each) => this.#operations(suite, each)));
      const authority = await this.#authority(key, suite);
      if (purpose === 'crl') return octets.map((each) => this.#crl(authority, each));
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
    const { serial } = parseTbsCertificate(toBeSigned);
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
    return { subject: name, key };
  }

  async #operations(suite: SuiteName, toBeSigned: Bytes): Promise<Judged> {
    const serialNumber = hex(parseTbsCertificate(toBeSigned).serial);
    const subject = `operations/${serialNumber}`;
    const reserved =
      (await this.#record.reservedOperations(serialNumber)) ?? refuse(`nothing is reserved at ${subject}`);
    if (!equal(reserved.toBeSigned, toBeSigned)) refuse(`other octets are reserved at ${subject}`);
    const kind = Object.values(operationsKinds).find((each) => each === reserved.kind);
    if (!kind) return refuse(`a certificate of kind ${reserved.kind} is signed by a command of the operator`);
    const publicKey = this.#publicKeyOf(keyLabel.operations, suite);
    const certificate = new X509Certificate(readFileSync(this.#operationsCa)).raw;
    const findings = lint(
      toBeSigned,
      kind,
      operationsContext({ suite: suites[suite], publicKey }, certificate),
    );
    if (findings.length > 0) refuse(`the certificate ${subject} fails lint: ${findings.join('; ')}`);
    return { subject, key: null };
  }

  #crl(authority: KnownAuthority, toBeSigned: Bytes): Judged {
    const crl = parseTbsCrl(toBeSigned);
    const isOfAuthority =
      equal(crl.signatureField, authority.suite.algorithmIdentifier) &&
      equal(crl.issuer, authority.subject) &&
      equal(crl.authorityKey, authority.authorityKey);
    if (!isOfAuthority) refuse(`a CRL of another issuer, key or algorithm than ${authority.name}`);
    if (crl.distributionPoint.length === 0) refuse('a CRL without a distribution point');
    if (crl.baseNumber !== null && crl.baseNumber > crl.number) refuse('a delta CRL of a later base');
    const kind = crl.baseNumber === null ? 'complete' : 'delta';
    const point = digest(
      'sha256',
      Buffer.concat([Buffer.from(`${authority.name}\n`), crl.distributionPoint]),
    );
    const isNew = this.#numbers.take({
      point,
      kind,
      number: crl.number,
      digest: digest('sha256', toBeSigned),
    });
    const subject = `crl/${authority.name}/${hex(point).slice(0, 16)}/${kind}/${crl.number}`;
    if (!isNew) refuse(`${subject}: its number does not go up`);
    return { subject, key: null };
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
