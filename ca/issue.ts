import { durationMs } from '../core/config/duration.ts';
import { actorOfNode } from '../core/model/act.ts';
import { kindOf, type Slot } from '../core/model/kinds.ts';
import { PkiError } from '../core/runtime/errors.ts';
import { uuidAt } from '../core/runtime/uuid.ts';
import type {
  CertificateDraft,
  CertificateStore,
  Reservation,
  WantedIssuance,
} from '../store/api/certificate-store.ts';
import type { Authority } from './issue/authority.ts';
import type { CertificateAuthority } from './issue/certificate-authority.ts';
import type { CompletionContext } from './issue/completion.ts';
import type { Issuance, IssuanceRequest, IssuedCertificate } from './issue/issuance.ts';
import { PreparedCertificate } from './issue/prepared.ts';
import { authenticationSubject, signingSubject } from './issue/subjects.ts';
import { Sealer } from './sealing/sealer.ts';

interface Draft {
  readonly draft: CertificateDraft;
  readonly prepared: PreparedCertificate;
}

/** What an issuance request would end now; refused as issuing it would be. */
export function previewIssuance(
  ca: CertificateAuthority,
  issuanceRequest: IssuanceRequest,
): ReturnType<CertificateStore['previewReserve']> {
  const certificates = issuanceRequest.certificates.map(({ slot, key, notAfterMs, restsOn }) => {
    const authority = ca.authorities.issuing(slot, key.type);
    checkValidity(ca, authority, slot, notAfterMs);
    const kind = kindOf(issuanceRequest.medium.type, slot);
    return { authority: authority.name, kind, keyHash: key.keyHash, restsOn };
  });
  const issuanceId = uuidAt(ca.clock.wallMs());
  return ca.store.previewReserve({ ...wantedBy(ca, issuanceRequest, issuanceId), certificates });
}

/**
 * The story of issuing, from a checked request to certificates on record:
 * prepare (positions, shards, bytes, lint), reserve, sign, complete. Undefined where recovery was faster: then the record
 * says what was issued.
 */
export async function issue(
  ca: CertificateAuthority,
  issuanceRequest: IssuanceRequest,
): Promise<Issuance | undefined> {
  const issuanceId = uuidAt(ca.clock.wallMs());
  const drafts = await reserve(ca, issuanceRequest, issuanceId);
  const done = await signAndComplete(ca, issuanceRequest, issuanceId, drafts).catch(
    async (error: unknown) => {
      // Reserved, and not to be signed or completed now: recovery need not wait for the lease to end. Where the record is
      // what fails, it must.
      await ca.store.releaseReservation(issuanceId, issuanceRequest.actor).catch(() => undefined);
      throw error;
    },
  );
  return done && { issuanceId, holderId: issuanceRequest.medium.holderId, ...done };
}

/** Makes an issuance durable; from here on it is rolled forward, whatever happens to this process. */
async function reserve(
  ca: CertificateAuthority,
  issuanceRequest: IssuanceRequest,
  issuanceId: string,
): Promise<Draft[]> {
  const { actor, challengeHash, codeHash } = issuanceRequest;
  const drafts = await Promise.all(
    issuanceRequest.certificates.map((part) => prepare(ca, issuanceRequest, part)),
  );
  await ca.store.reserve({
    ...wantedBy(ca, issuanceRequest, issuanceId),
    actor,
    certificates: drafts.map(({ draft }) => draft),
    challengeHash,
    codeHash: codeHash ?? null,
    evidence: await sealEvidence(ca, issuanceRequest, issuanceId),
  });
  return drafts;
}

/** What is checked against the record, when it is reserved and in a dry run. */
function wantedBy(
  ca: CertificateAuthority,
  issuanceRequest: IssuanceRequest,
  issuanceId: string,
): Omit<WantedIssuance, 'certificates'> {
  const { scope, medium, authenticationOnly, succession } = issuanceRequest;
  const { cards, phonesPerPlatform, phoneHandOverAfter } = ca.config.limits;
  const slots = issuanceRequest.certificates.map(({ slot }) => slot);
  const occurredMs = succession?.report?.occurredMs ?? null;
  return {
    scope,
    issuanceId,
    medium,
    function: issuanceRequest.function,
    authenticationOnly,
    succession: succession && { ...succession, slots, occurredMs },
    movesLastDay: issuanceRequest.movesLastDay ?? false,
    mandate: issuanceRequest.mandate ?? null,
    municipality: issuanceRequest.municipality,
    isSignedByCard: issuanceRequest.isSignedByCard ?? false,
    identity: issuanceRequest.comparedIdentity ?? null,
    arrival: issuanceRequest.arrival,
    notifiesHolder: medium.type === 'phone' && ca.config.notices.portal !== undefined,
    enrolledWith: issuanceRequest.enrolledWith ?? null,
    limits: { cards, phonesPerPlatform, handOverAfterMs: durationMs(phoneHandOverAfter) },
  };
}

async function sealEvidence(
  ca: CertificateAuthority,
  { evidence, certificates }: IssuanceRequest,
  issuanceId: string,
) {
  if (!evidence) return null;
  const notAfterMs = Math.max(...certificates.map((part) => part.notAfterMs));
  return ca.sealer.seal(Sealer.keyFor(notAfterMs), `evidence:${issuanceId}`, evidence);
}

/** A certificate ends after now, and not after its CA. */
function checkValidity(
  { clock }: Pick<CertificateAuthority, 'clock'>,
  authority: Pick<Authority, 'notAfterMs'>,
  slot: Slot,
  notAfterMs: number,
): void {
  if (notAfterMs > authority.notAfterMs) {
    throw new PkiError(
      'validity-exceeds-issuer',
      `the ${slot} CA’s own certificate ends before this one would`,
    );
  }
  if (notAfterMs <= clock.wallMs())
    throw new PkiError('bad-request', 'the certificate would have ended already');
}

/** One certificate of a request: profile and clock fix every field. */
async function prepare(
  ca: CertificateAuthority,
  issuanceRequest: IssuanceRequest,
  { slot, key, notAfterMs, restsOn }: IssuanceRequest['certificates'][number],
): Promise<Draft> {
  const authority = ca.authorities.issuing(slot, key.type);
  const nowMs = ca.clock.wallMs();
  const notBeforeMs = authority.notBeforeAt(nowMs);
  checkValidity(ca, authority, slot, notAfterMs);
  const kind = kindOf(issuanceRequest.medium.type, slot);
  const { key: certificateKey, serial } = await authority.allocate();
  const shard = await authority.shardFor(kind, issuanceRequest.town);
  const template = authority.template(kind);
  const prepared = PreparedCertificate.prepare(template, {
    serial,
    notBeforeMs,
    notAfterMs,
    subject:
      slot === 'signing'
        ? signingSubject(issuanceRequest, await ca.requestNumbers.next())
        : authenticationSubject(issuanceRequest, serial),
    publicKey: key.publicKey,
    subjectAltName: slot === 'signing' ? issuanceRequest.identity : null,
    distributionPointName: shard.distributionPointName,
  });
  const runs = template.commonRuns(shard.distributionPointName);
  const sealed = { toBeSigned: prepared.toBeSigned, notAfterMs };
  const toBeSigned = await ca.encodings.seal(certificateKey, sealed, runs);
  const { keyHash } = key;
  return {
    prepared,
    draft: { ...certificateKey, kind, notBeforeMs, notAfterMs, shard, restsOn, keyHash, toBeSigned },
  };
}

/** Signs what is reserved and completes it. Also what recovery does, so that there is one way to finish. */
async function signAndComplete(
  ca: CompletionContext,
  { actor, mass }: Pick<IssuanceRequest, 'actor' | 'mass'>,
  issuanceId: string,
  drafts: readonly {
    readonly draft: Omit<IssuedCertificate, 'certificate'>;
    readonly prepared: PreparedCertificate;
  }[],
): Promise<Pick<Issuance, 'certificates' | 'replaced' | 'isAwaited'> | undefined> {
  const signed = await Promise.all(
    drafts.map(async ({ draft, prepared }) => {
      const { authority, epoch, position, kind, notBeforeMs, notAfterMs } = draft;
      const signer = ca.signerOf(authority, mass);
      const signature = await prepared.sign(signer);
      const certificate = prepared.with(signer, signature);
      return { authority, epoch, position, kind, notBeforeMs, notAfterMs, signature, certificate };
    }),
  );
  const completion = { issuanceId, actor, certificates: signed };
  const { outcome, ...others } = await ca.store.complete(completion);
  return outcome === 'completed' ? { certificates: signed, ...others } : undefined;
}

/** Rolls one reservation forward: signs the stored bytes and completes. */
export async function rollForward(
  ca: CompletionContext,
  { issuanceId, certificates }: Reservation,
): Promise<void> {
  const drafts = await Promise.all(
    certificates.map(async (view) => {
      const toBeSigned = await ca.encodings.open(view, view.toBeSigned);
      return { draft: view, prepared: PreparedCertificate.fromRecord(toBeSigned) };
    }),
  );
  const actor = actorOfNode(ca.config.node, issuanceId);
  await signAndComplete(ca, { actor, mass: false }, issuanceId, drafts);
}
