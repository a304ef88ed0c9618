import { randomBytes } from 'node:crypto';
import { type SuiteName, suiteOfKey, suites } from '../../core/asn1/algorithms.ts';
import { isDue, parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { encodeName } from '../../core/asn1/name.ts';
import { durationMs } from '../../core/config/duration.ts';
import type { Signer } from '../../core/crypto/signer.ts';
import type { CertificateId } from '../../core/model/certificate-id.ts';
import { type ResponderFile, readResponders, writeResponder } from '../../core/node/responder-file.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { invariant } from '../../core/runtime/errors.ts';
import type { Actor, RequestScope, Shard } from '../../store/api/certificate-store.ts';
import { reserveOwnCertificate } from '../../store/rules/ceremony-rules.ts';
import { endSupersededResponders, type Responsibility } from '../../store/rules/responders.ts';
import type { Config } from '../config/config.ts';
import { type Authority, authorityAttributes } from '../issue/authority.ts';
import { PreparedCertificate } from '../issue/prepared.ts';
import { type CertificateFields, CertificateTemplate, type IssuerContext } from '../profile/certificate.ts';
import { publicKeyHash } from '../request/key.ts';
import { type Node, nodeActor } from './node.ts';

/** Who asked for a certificate of our own; null where the node itself did. */
export type AskedBy = { readonly scope: RequestScope; readonly actor: Actor } | null;

/** Issues a certificate of our own in the order of all others: prepare, reserve, sign, complete. */
export async function issueOwn(
  node: OwnNode,
  own: {
    readonly key: CertificateId;
    readonly kind: 'authority' | 'authority-link' | 'ocsp-responder';
    readonly shard: Shard | null;
    readonly issuer: IssuerContext;
    readonly fields: CertificateFields;
    readonly signer: Signer<'certificate'>;
    readonly responsibility: Responsibility | null;
    readonly by: AskedBy;
  },
): Promise<Bytes> {
  const { config, clock, encodings, database, store } = node;
  const { key, kind, shard, fields, responsibility, by } = own;
  const { notBeforeMs, notAfterMs } = fields;
  const prepared = PreparedCertificate.prepare(new CertificateTemplate(kind, own.issuer), fields);
  const toBeSigned = await encodings.seal(key, { toBeSigned: prepared.toBeSigned, notAfterMs });
  const issuanceId = crypto.randomUUID();
  const keyHash = publicKeyHash(fields.publicKey);
  const draft = { ...key, kind, notBeforeMs, notAfterMs, shard, keyHash, toBeSigned };
  const actor = by?.actor ?? nodeActor(config);
  const scope = by?.scope ?? null;
  const nowMs = clock.wallMs();
  await reserveOwnCertificate(database, actor, { issuanceId, draft, scope, responsibility, nowMs });
  const signature = await prepared.sign(own.signer);
  const completion = { issuanceId, actor, certificates: [{ ...key, signature }] };
  const { outcome } = await store.complete(completion);
  if (outcome === 'completed') return prepared.with(own.signer, signature);
  // Recovery was faster. An ECDSA signature is another each time, and the one on record is the certificate's.
  const recorded = await store.encoding(key);
  invariant(recorded, 'a completed issuance has its signature on record');
  return encodings.certificate(key, recorded, own.signer.suite);
}

export type OwnNode = Pick<Node, 'config' | 'clock' | 'encodings' | 'database' | 'store' | 'feed'>;

/** Certifies a key as delegated OCSP responder of an authority (RFC 6960 §4.2.2.2), by that authority's own key. */
export async function certifyResponder(
  node: OwnNode,
  authority: Authority,
  publicKey: Bytes,
  by: AskedBy,
): Promise<Bytes> {
  const { config, clock } = node;
  const nowMs = clock.wallMs();
  const notBeforeMs = authority.notBeforeAt(nowMs);
  const { key, serial } = await authority.allocate();
  const suite = suiteOfKey(publicKey);
  invariant(suite, 'a key is checked before it is certified');
  const certificate = await issueOwn(node, {
    key,
    kind: 'ocsp-responder',
    shard: null,
    issuer: authority.issuerContext('ocsp-responder'),
    fields: {
      serial,
      notBeforeMs,
      notAfterMs: Math.min(
        wholeSecond(nowMs + durationMs(config.ocsp.responderValidity)),
        authority.notAfterMs,
      ),
      subject: encodeName([...authorityAttributes(config.scheme, authority.slot), ['CN', 'OCSP responder']]),
      publicKey,
      subjectAltName: null,
      distributionPointName: null,
    },
    signer: authority.signer,
    responsibility: {
      client: (by?.actor ?? nodeActor(config)).client,
      authority: authority.name,
      suite: suite.name,
      perDay: config.limits.responderCertificatesPerDay,
    },
    by,
  });
  await endSuperseded(node);
  return certificate;
}

/** Ends responder certificates whose successors have taken over. */
export async function endSuperseded({ database, feed, config, clock }: OwnNode): Promise<void> {
  await endSupersededResponders(database, nodeActor(config), clock.wallMs());
  await feed.deliver();
}

const wholeSecond = (ms: number): number => Math.floor(ms / 1000) * 1000;

/** Suites of an authority's responders, the default first. */
export function responderSuites(config: Pick<Config, 'ocsp'>, { signer }: Authority): SuiteName[] {
  const suitesOf = config.ocsp.responderSuites.map((suite) =>
    suite === 'issuer' ? signer.suite.name : suite,
  );
  return [...new Set(suitesOf)];
}

/** A new key in the OCSP token, certified, and the file that says so. */
export async function issueResponder(node: Node, authority: Authority, suite: SuiteName): Promise<void> {
  const keyLabel = `ocsp-${authority.name}-${randomBytes(4).toString('hex')}`;
  const { ocspToken, config } = node;
  const use = ocspToken.useOf(config.pkcs11.copyKeys ?? null);
  const { publicKey } = ocspToken.generateKeyPair(keyLabel, suites[suite], use);
  const certificate = await certifyResponder(node, authority, publicKey, null);
  writeResponder(node.layout.responders, {
    authority: authority.name,
    keyLabel,
    suite,
    issuerSuite: authority.signer.suite.name,
    certificate: Buffer.from(certificate).toString('base64'),
  });
}

/** Whether a delegation of ours has not been revoked. */
async function isInForce(
  { store }: OwnNode,
  authority: Authority,
  { certificate }: ResponderFile,
): Promise<boolean> {
  const key = authority.positionOf(parseCertificate(Buffer.from(certificate, 'base64')).serial);
  return key !== undefined && (await store.certificate(key))?.state !== 'revoked';
}

/**
 * Responder certificates are short-lived: those that are missing, revoked or in their last third are replaced. Whether any
 * was.
 */
export async function renewResponders(node: Node, authorities: readonly Authority[]): Promise<boolean> {
  const due = authorities.flatMap((authority) =>
    responderSuites(node.config, authority).map((suite) => ({ authority, suite })),
  );
  let renewed = false;
  for (const { authority, suite } of due) {
    const current = readResponders(node.layout.responders).find(
      (row) => row.authority === authority.name && row.suite === suite,
    );
    const isYoung = current && !isDue(Buffer.from(current.certificate, 'base64'), node.clock.wallMs());
    if (isYoung && (await isInForce(node, authority, current))) continue;
    await issueResponder(node, authority, suite);
    renewed = true;
  }
  return renewed;
}
