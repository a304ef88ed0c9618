import { type SuiteName, suites } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { linkName, slots } from '../../core/model/kinds.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { recordLink } from '../../store/rules/ceremony-rules.ts';
import { ownShardOf, recordedLinks } from '../../store/rules/token-memory.ts';
import { pem } from '../api/present.ts';
import { type Authority, authorityAltName } from '../issue/authority.ts';
import { createAuthority, fingerprintOf } from './ceremony.ts';
import { type Node, nodeActor, type OperatorNode } from './node.ts';
import { issueOwn, renewResponders } from './own-certificates.ts';
import { openAuthorities } from './wiring.ts';

/** A generation that is to be made, or finished. */
interface NextGeneration {
  readonly suite: SuiteName;
  readonly newest: number;
  readonly generation: number;
  /** Slots whose CA the newest generation has. */
  readonly present: readonly string[];
}

/** What is to be made. Throws `bad-request` for a suite that is none of holders, or another than a generation was begun with. */
export async function nextGeneration(node: OperatorNode, suite: string): Promise<NextGeneration> {
  if (!Object.hasOwn(suites, suite) || suites[suite as SuiteName].holderKey === null) {
    throw new PkiError(
      'bad-request',
      `${suite} is no suite for holders’ certificates; rsa2048-sha256 and p384-sha384 are`,
    );
  }
  const authorities = await openAuthorities(node);
  const newest = Math.max(...authorities.all.map(({ generation }) => generation));
  const newestOnes = authorities.all.filter(({ generation }) => generation === newest);
  const present = newestOnes.map(({ slot }) => slot);
  // A generation that was begun and interrupted is finished, with its own suite; otherwise the next one is begun.
  const isBegun = present.length < slots.length || (await missingLinks(node)).some(isOf(newest));
  const begunWith = newestOnes[0]?.signer.suite.name;
  if (isBegun && begunWith !== suite)
    throw new PkiError(
      'bad-request',
      `generation ${newest} was begun with ${begunWith}: finish it with --suite ${begunWith}`,
    );
  return { suite: suite as SuiteName, newest, present, generation: isBegun ? newest : newest + 1 };
}

/** Adds one more key of both CAs, or finishes doing so, with links from and to those before. Gives what to tell, by line. */
export async function addGeneration(
  node: OperatorNode,
  { suite, newest, generation, present }: NextGeneration,
): Promise<string[]> {
  for (const slot of slots) {
    if (generation > newest || !present.includes(slot)) await createAuthority(node, slot, generation, suite);
  }
  const { all } = await openAuthorities(node);
  await renewResponders(node, all);
  const added = all.filter((authority) => authority.generation === generation);
  const links = await linkGenerations(node);
  return [
    ...added.map(({ name, certificate }) => `${name} ${suite} sha256 ${fingerprintOf(pem(certificate))}`),
    ...links,
  ];
}

/**
 * Issues the links that are missing between generations that have not ended (RFC 4210 §4.4.1): the new key certified by the old,
 * so that a relying party that trusts the old can trust the new; and the old by the new, so that one that trusts only the new
 * can verify what the old has issued. Returns the names of the links.
 */
export async function linkGenerations(node: OperatorNode): Promise<string[]> {
  const made: string[] = [];
  for (const { link, subject, issuer } of await missingLinks(node)) {
    const certificate = await issueLink(node, subject, issuer);
    await recordLink(node.database, nodeActor(node.config), { link, certificate }, node.clock.wallMs());
    made.push(link);
  }
  return made;
}

interface Link {
  readonly link: string;
  readonly subject: Authority;
  readonly issuer: Authority;
}

const isOf =
  (generation: number) =>
  ({ subject, issuer }: Link): boolean =>
    subject.generation === generation || issuer.generation === generation;

/** Links between generations that have not ended, and are not on record. */
async function missingLinks(node: OperatorNode): Promise<Link[]> {
  const nowMs = node.clock.wallMs();
  const living = (await openAuthorities(node)).all.filter(({ notAfterMs }) => notAfterMs > nowMs);
  const known = await recordedLinks(node.database);
  const pairs = living.flatMap((subject) =>
    living
      .filter((issuer) => issuer.slot === subject.slot && issuer !== subject)
      .map((issuer) => ({ link: linkName(subject.name, issuer.generation), subject, issuer })),
  );
  return pairs.filter(({ link }) => !known.has(link));
}

/** Valid from when the key is, until the earlier of both ends. */
async function issueLink(node: Node, subject: Authority, issuer: Authority): Promise<Bytes> {
  const { key, serial } = await issuer.allocate();
  const shard = await ownShardOf(node.database, issuer.name);
  return issueOwn(node, {
    key,
    kind: 'authority-link',
    shard,
    issuer: issuer.issuerContext('authority-link'),
    fields: {
      serial,
      notBeforeMs: subject.notBeforeMs,
      notAfterMs: Math.min(subject.notAfterMs, issuer.notAfterMs),
      subject: parseCertificate(subject.certificate).subject,
      publicKey: subject.signer.publicKey,
      subjectAltName: authorityAltName(node.config, subject.slot),
      distributionPointName: shard.distributionPointName,
    },
    signer: issuer.signer,
    responsibility: null,
    by: null,
  });
}
