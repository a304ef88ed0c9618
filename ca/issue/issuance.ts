import type { CertificateId } from '../../core/model/certificate-id.ts';
import type { Mandate } from '../../core/model/desk.ts';
import type { Arrival } from '../../core/model/holder-life.ts';
import type { CertificateKind, Slot } from '../../core/model/kinds.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type {
  Actor,
  CertificateStore,
  Medium,
  RequestScope,
  Succession,
  WantedIssuance,
} from '../../store/api/certificate-store.ts';
import type { SwitchName } from '../../store/api/switch-names.ts';
import type { ProvenKey } from '../request/certification-request.ts';
import type { Town } from '../request/towns.ts';

/** A checked request for certificates, from a counter or from a phone. */
export interface IssuanceRequest {
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
    readonly restsOn: CertificateId | null;
  }[];
  readonly challengeHash: Bytes | null;
  readonly evidence: Bytes | null;
  readonly function: SwitchName;
  readonly authenticationOnly: boolean;
  readonly succession: Omit<Succession, 'slots' | 'occurredMs'> | null;
  readonly movesLastDay?: boolean;
  readonly mandate?: Mandate | null;
  /** As in `ReserveCommand`. */
  readonly municipality: string | null;
  readonly isSignedByCard?: boolean;
  /** `identity` of `ReserveCommand`. */
  readonly comparedIdentity?: WantedIssuance['identity'];
  readonly arrival: Arrival;
  /** Phones: the card certificate whose key signed for it. */
  readonly enrolledWith?: CertificateId;
  /** Of a desk, hashed, where the card has no signing certificate. */
  readonly codeHash?: Bytes | null;
}

/** What is on record of a holder. */
export type HolderOnRecord = NonNullable<Awaited<ReturnType<CertificateStore['holder']>>>;

/** A certificate as it leaves. */
export interface IssuedCertificate extends CertificateId {
  readonly kind: CertificateKind;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** DER. */
  readonly certificate: Bytes;
}

/** What a request led to, on record. */
export interface Issuance {
  readonly issuanceId: string;
  readonly holderId: string | null;
  readonly certificates: readonly IssuedCertificate[];
  /** Whose place they have taken. */
  readonly replaced: readonly CertificateId[];
  /** They are held until delivery or storage is confirmed, and were if it is. */
  readonly isAwaited: boolean;
}
