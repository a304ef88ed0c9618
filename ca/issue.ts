import { encodeName } from '../core/asn1/name.ts';
import { type Config, durationMs } from '../core/config/config.ts';
import type { Signer } from '../core/crypto/signer.ts';
import type { CertificateKey } from '../core/feed/feed.ts';
import { timestampInJapan } from '../core/model/calendar.ts';
import type { Arrival } from '../core/model/holder-life.ts';
import { type CertificateKind, kindOf, type Slot } from '../core/model/kinds.ts';
import type { WarningBoard } from '../core/node/warnings.ts';
import { type Bytes, digest } from '../core/runtime/bytes.ts';
import type { Clock } from '../core/runtime/clock.ts';
import { PkiError } from '../core/runtime/errors.ts';
import { uuidAt } from '../core/runtime/uuid.ts';
import type {
  Actor,
  CertificateDraft,
  CertificateStore,
  Medium,
  RequestScope,
  Reservation,
  Succession,
  SuccessionPlanner,
  WantedIssuance,
} from '../store/api/certificate-store.ts';
import type { ClientStore } from '../store/api/client-store.ts';
import type { HolderStore } from '../store/api/holder-store.ts';
import type { OperationsStore, OperatorCommand, SwitchName } from '../store/api/operations-store.ts';
import type { OutboxStore } from '../store/api/outbox-store.ts';
import type { TimeCorrection, TimeStore } from '../store/api/time-store.ts';
import type { WishStore } from '../store/api/wish-store.ts';
import type { Authorities, Authority } from './issue/authority.ts';
import type { ClientUses } from './issue/client-uses.ts';
import { PreparedCertificate } from './issue/prepared.ts';
import { successionPlanner } from './issue/succession.ts';
import { planShortened, planUnconfirmed } from './policy/policy.ts';
import type { ProvenKey } from './request/certification-request.ts';
import type { EvidenceChecker } from './request/evidence/evidence.ts';
import type { RequestChecker } from './request/request-checker.ts';
import type { RequestNumber, RequestNumbers } from './request/request-numbers.ts';
import type { Town } from './request/towns.ts';
import { encodingContext } from './sealing/encoding.ts';
import { Sealer } from './sealing/sealer.ts';

/** What issuing needs; made once, where the service is wired. */
export interface CertificateAuthority {
  readonly authorities: Authorities;
  /** `mass`: behind all other work. */
  readonly signerOf: (authority: string, mass?: boolean) => Signer<'certificate'>;
  readonly requestChecker: RequestChecker;
  readonly evidence: EvidenceChecker;
  readonly store: CertificateStore;
  readonly operations: OperationsStore;
  readonly outbox: OutboxStore;
  readonly wishes: WishStore;
  readonly holders: HolderStore;
  readonly clients: ClientStore;
  readonly time: TimeStore;
  /** Takes the record's time back to the machine's, as another client has proposed. */
  takeTimeBack(
    command: OperatorCommand<TimeCorrection> & Pick<TimeCorrection, 'correctionId'>,
  ): Promise<void>;
  readonly uses: ClientUses;
  readonly warnings: WarningBoard;
  /** Certifies a client's key by the operations CA; certificate DER. */
  certifyClient(commonName: string, publicKey: Bytes): Promise<Bytes>;
  readonly sealer: Sealer;
  readonly requestNumbers: RequestNumbers;
  readonly config: Config;
  /** The record's time: see `SteadyClock`. */
  readonly clock: Clock;
  /** The machine's, which TLS goes by, and how long clients may act. */
  readonly machineClock: Clock;
  /** Certifies a key as an authority's OCSP responder; once on record, `replay` of the scope gives it. */
  certifyResponder(
    authority: string,
    publicKey: Bytes,
    by: { readonly scope: RequestScope; readonly actor: Actor },
  ): Promise<void>;
  /** Which tokens sign; rejects with what keeps the service from its work: the record, or all of a token's copies. */
  checkHealth(): Promise<{ label: string; up: boolean }[]>;
}

/** A checked wish for certificates, from a counter or from a phone. */
export interface Application {
  readonly scope: RequestScope;
  readonly actor: Actor;
  /** One of many: what is asked for by itself goes first. */
  readonly mass: boolean;
  readonly medium: Medium;
  readonly town: Town;
  readonly deskCode: string;
  /** GeneralNames DER of the signing certificate; null where there is none. */
  readonly identity: Bytes | null;
  readonly certificates: readonly {
    readonly slot: Slot;
    readonly key: ProvenKey;
    readonly notAfterMs: number;
    readonly restsOn: CertificateKey | null;
  }[];
  readonly challengeHash: Bytes | null;
  readonly evidence: Bytes | null;
  readonly function: SwitchName;
  readonly authenticationOnly: boolean;
  readonly succession: Omit<Succession, 'plan'> | null;
  readonly movesLastDay?: boolean;
  readonly arrival: Arrival;
  /** Phones: the card certificate whose key signed for it. */
  readonly enrolledWith?: CertificateKey;
  /** Of a desk, hashed, where the card has no signing certificate. */
  readonly codeHash?: Bytes | null;
}

/** What is on record of a holder. */
export type HolderOnRecord = NonNullable<Awaited<ReturnType<CertificateStore['holder']>>>;

interface Draft {
  readonly draft: CertificateDraft;
  readonly prepared: PreparedCertificate;
}

/** A certificate as it leaves. */
export interface IssuedCertificate extends CertificateKey {
  readonly kind: CertificateKind;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** DER. */
  readonly certificate: Bytes;
}

/** What an application led to, on record. */
export interface Issuance {
  readonly issuanceId: string;
  readonly holderId: string | null;
  readonly certificates: readonly IssuedCertificate[];
  /** Whose place they have taken. */
  readonly replaced: readonly CertificateKey[];
  /** They are held until delivery or storage is confirmed, and were if it is. */
  readonly isAwaited: boolean;
}

/** What an application would end, as it is now; refused as issuing it would be. */
export function previewIssuance(
  ca: CertificateAuthority,
  application: Application,
): ReturnType<CertificateStore['previewReserve']> {
  const certificates = application.certificates.map(({ slot, key, notAfterMs, restsOn }) => {
    const authority = ca.authorities.issuing(slot, key.type);
    checkValidity(ca, authority, slot, notAfterMs);
    const kind = kindOf(application.medium.type, slot);
    return { authority: authority.name, kind, keyHash: key.keyHash, restsOn };
  });
  const issuanceId = uuidAt(ca.clock.wallMs());
  return ca.store.previewReserve({ ...wantedBy(ca, application, issuanceId), certificates });
}

/**
 * The story of issuing, from a checked application to certificates on record:
 * prepare (positions, shards, bytes, lint), reserve, sign, complete. Undefined where recovery was faster: then the record
 * says what was issued.
 */
export async function issue(
  ca: CertificateAuthority,
  application: Application,
): Promise<Issuance | undefined> {
  const issuanceId = uuidAt(ca.clock.wallMs());
  const drafts = await reserve(ca, application, issuanceId);
  const done = await signAndComplete(ca, application, issuanceId, drafts).catch(async (error: unknown) => {
    // Reserved, and not to be signed or completed now: recovery need not wait for the lease to end. Where the record is
    // what fails, it must.
    await ca.store.letGo(issuanceId, application.actor).catch(() => undefined);
    throw error;
  });
  return done && { issuanceId, holderId: application.medium.holderId, ...done };
}

/** Makes an issuance durable; from here on it is rolled forward, whatever happens to this process. */
async function reserve(
  ca: CertificateAuthority,
  application: Application,
  issuanceId: string,
): Promise<Draft[]> {
  const { actor, challengeHash, codeHash } = application;
  const drafts = await Promise.all(application.certificates.map((part) => prepare(ca, application, part)));
  await ca.store.reserve({
    ...wantedBy(ca, application, issuanceId),
    actor,
    certificates: drafts.map(({ draft }) => draft),
    challengeHash,
    codeHash: codeHash ?? null,
    evidence: await sealEvidence(ca, application, issuanceId),
  });
  return drafts;
}

/** What is checked against the record, when it is reserved and in a dry run. */
function wantedBy(
  ca: CertificateAuthority,
  application: Application,
  issuanceId: string,
): Omit<WantedIssuance, 'certificates'> {
  const { scope, medium, authenticationOnly, succession } = application;
  const { cards, phonesPerPlatform, phoneHandOverAfter } = ca.config.limits;
  const slots = application.certificates.map(({ slot }) => slot);
  const occurredMs = succession?.report?.occurredMs ?? null;
  return {
    scope,
    issuanceId,
    medium,
    function: application.function,
    authenticationOnly,
    succession: succession && {
      ...succession,
      plan: plannerOf(ca)(succession.event, succession.target, { issuanceId, slots, occurredMs }),
    },
    movesLastDay: application.movesLastDay ?? false,
    arrival: application.arrival,
    tellsHolder: medium.type === 'phone' && ca.config.notices.portal !== undefined,
    enrolledWith: application.enrolledWith ?? null,
    limits: { cards, phonesPerPlatform, handOverAfterMs: durationMs(phoneHandOverAfter) },
  };
}

async function sealEvidence(
  ca: CertificateAuthority,
  { evidence, certificates }: Application,
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

/** One certificate of an application: profile and clock fix every field. */
async function prepare(
  ca: CertificateAuthority,
  application: Application,
  { slot, key, notAfterMs, restsOn }: Application['certificates'][number],
): Promise<Draft> {
  const authority = ca.authorities.issuing(slot, key.type);
  const nowMs = ca.clock.wallMs();
  const notBeforeMs = authority.notBeforeAt(nowMs);
  checkValidity(ca, authority, slot, notAfterMs);
  const kind = kindOf(application.medium.type, slot);
  const { key: certificateKey, serial } = await authority.allocate();
  const shard = await authority.shardFor(kind, application.town);
  const prepared = PreparedCertificate.prepare(authority.template(kind), {
    serial,
    notBeforeMs,
    notAfterMs,
    subject:
      slot === 'signing'
        ? signingSubject(application, await ca.requestNumbers.next())
        : authenticationSubject(application, serial),
    publicKey: key.publicKey,
    subjectAltName: slot === 'signing' ? application.identity : null,
    distributionPointName: shard.distributionPointName,
  });
  const context = encodingContext(certificateKey);
  const toBeSigned = await ca.sealer.seal(Sealer.keyFor(notAfterMs), context, prepared.toBeSigned);
  const { keyHash } = key;
  return {
    prepared,
    draft: { ...certificateKey, kind, notBeforeMs, notAfterMs, shard, restsOn, keyHash, toBeSigned },
  };
}

/** C=JP, CN=14 opaque characters ‖ desk (9). */
const authenticationSubject = ({ deskCode }: Application, serial: Bytes): Bytes =>
  encodeName([
    ['C', 'JP'],
    ['CN', opaqueName(serial) + deskCode],
  ]);

/** C=JP, L=prefecture, L=municipality, CN=time of request (14) ‖ sequence (5) ‖ desk (9). */
function signingSubject({ town, deskCode }: Application, { secondMs, sequence }: RequestNumber): Bytes {
  const number = String(sequence).padStart(5, '0');
  return encodeName([
    ['C', 'JP'],
    ['L', town.prefecture],
    ['L', town.municipality],
    ['CN', timestampInJapan(secondMs) + number + deskCode],
  ]);
}

/**
 * 14 characters that say nothing and belong to no other certificate: 72 bits of the hash of a serial number that is unique.
 * Among the certificates of a nation at one desk two alike are not to be expected in its lifetime.
 */
function opaqueName(serial: Bytes): string {
  const value = BigInt(`0x${Buffer.from(digest('sha256', serial)).toString('hex')}`);
  return value.toString(36).toUpperCase().slice(-14);
}

/** What finishing an issuance needs. */
export type Finishing = Pick<CertificateAuthority, 'store' | 'sealer' | 'config' | 'signerOf' | 'clock'>;

const plannerOf = ({ config, clock }: Finishing): SuccessionPlanner =>
  successionPlanner(config, clock.wallMs());

/** Ends what was renewed, and whose overlap with its successor has passed. */
export function endOverlaps(ca: Finishing): Promise<void> {
  return ca.store.endOverlaps(plannerOf(ca));
}

/** Settles what was not confirmed in time. */
export function endWaits({ store, config, clock }: Finishing): Promise<void> {
  const { unconfirmed } = config.activation;
  const event = 'not-confirmed-in-time';
  return store.endWaits((issuanceId) =>
    planUnconfirmed(config.policy, { issuanceId, unconfirmed, event }, clock.wallMs()),
  );
}

/** Ends what outlives a card whose last day was moved forward. */
export function endShortened({ store, config, clock }: Finishing): Promise<void> {
  const nowMs = clock.wallMs();
  return store.endShortened((mediumId) => planShortened(config.policy, mediumId, nowMs));
}

/** Signs what is reserved and completes it. Also what recovery does, so that there is one way to finish. */
async function signAndComplete(
  ca: Finishing,
  { actor, mass }: Pick<Application, 'actor' | 'mass'>,
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
  const completion = { issuanceId, actor, certificates: signed, planner: plannerOf(ca) };
  const { outcome, ...others } = await ca.store.complete(completion);
  return outcome === 'completed' ? { certificates: signed, ...others } : undefined;
}

/** Rolls one reservation forward: signs the stored bytes and completes. */
export async function rollForward(ca: Finishing, { issuanceId, certificates }: Reservation): Promise<void> {
  const drafts = await Promise.all(
    certificates.map(async (view) => {
      const toBeSigned = await ca.sealer.open(encodingContext(view), view.toBeSigned);
      return { draft: view, prepared: PreparedCertificate.fromRecord(toBeSigned) };
    }),
  );
  const actor = { client: `node:${ca.config.node}`, role: 'node', requestId: issuanceId };
  await signAndComplete(ca, { actor, mass: false }, issuanceId, drafts);
}
