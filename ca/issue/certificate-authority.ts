import type { Signer } from '../../core/crypto/signer.ts';
import type { WarningBoard } from '../../core/node/warnings.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import type { AccessStore } from '../../store/api/access-store.ts';
import type { Actor, CertificateStore, RequestScope } from '../../store/api/certificate-store.ts';
import type { ClientStore } from '../../store/api/client-store.ts';
import type { ConsentStore } from '../../store/api/consent-store.ts';
import type { DeskStore } from '../../store/api/desk-store.ts';
import type { HolderStore } from '../../store/api/holder-store.ts';
import type { IntakeStore } from '../../store/api/intake-store.ts';
import type { Nodes } from '../../store/api/nodes.ts';
import type { OperationsStore } from '../../store/api/operations-store.ts';
import type { OutboxStore } from '../../store/api/outbox-store.ts';
import type { OperatorCommand } from '../../store/api/outcome.ts';
import type { PreferenceStore } from '../../store/api/preference-store.ts';
import type { ProposalStore } from '../../store/api/proposal-store.ts';
import type { RetentionStore } from '../../store/api/retention-store.ts';
import type { TimeCorrection, TimeStore } from '../../store/api/time-store.ts';
import type { VerifierStore } from '../../store/api/verifier-store.ts';
import type { WatchStore } from '../../store/api/watch-store.ts';
import type { Config } from '../config/config.ts';
import type { EvidenceChecker } from '../request/evidence/evidence.ts';
import type { RequestChecker } from '../request/request-checker.ts';
import type { RequestNumbers } from '../request/request-numbers.ts';
import type { Encodings } from '../sealing/encoding.ts';
import type { Sealer } from '../sealing/sealer.ts';
import type { Authorities } from './authority.ts';
import type { ClientUses } from './client-uses.ts';

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
  readonly retention: RetentionStore;
  /** File of the snapshot that the responder in this process writes now and then. */
  readonly indexSnapshot: string;
  readonly preferences: PreferenceStore;
  readonly holders: HolderStore;
  readonly clients: ClientStore;
  readonly desks: DeskStore;
  readonly verifiers: VerifierStore;
  readonly consents: ConsentStore;
  readonly watches: WatchStore;
  readonly intakes: IntakeStore;
  readonly proposals: ProposalStore;
  /** The nodes of the record, of which this is one. */
  readonly nodes: Nodes;
  /** Who looked holders up. */
  readonly accesses: AccessStore;
  readonly time: TimeStore;
  /** Takes the record's time back to the machine's, as another client has proposed. */
  takeTimeBack(command: OperatorCommand & Pick<TimeCorrection, 'correctionId'>): Promise<TimeCorrection>;
  readonly uses: ClientUses;
  readonly warnings: WarningBoard;
  /** Certifies a client's key by the operations CA; certificate DER. */
  certifyClient(commonName: string, publicKey: Bytes): Promise<Bytes>;
  readonly sealer: Sealer;
  readonly encodings: Encodings;
  readonly requestNumbers: RequestNumbers;
  readonly config: Config;
  /** What the configuration file said when it was last taken up, and says now, which throws `bad-request` where it is none. */
  readonly configuration: { running: object; edited(): object };
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
