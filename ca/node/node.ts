import { actorOfNode } from '../../core/model/act.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { ClockNews, SteadyClock } from '../../core/runtime/steady-clock.ts';
import type { Nodes } from '../../store/api/nodes.ts';
import type { RecordPlace } from '../../store/audit/open-reader.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';
import type { RecordFeed } from '../../store/feed/event-feed.ts';
import type { RecordStore } from '../../store/rules/certificate-store.ts';
import type { RecordClients } from '../../store/rules/client-store.ts';
import type { RecordConsents } from '../../store/rules/consent-store.ts';
import type { RecordDesks } from '../../store/rules/desk-store.ts';
import type { RecordHolders } from '../../store/rules/holder-store.ts';
import type { RecordIntakes } from '../../store/rules/intake-store.ts';
import type { RecordOperations } from '../../store/rules/operations-store.ts';
import type { RecordOutbox } from '../../store/rules/outbox-store.ts';
import type { RecordPreferences } from '../../store/rules/preference-store.ts';
import type { RecordProposals } from '../../store/rules/proposal-store.ts';
import type { RecordTime } from '../../store/rules/time-store.ts';
import type { RecordVerifiers } from '../../store/rules/verifier-store.ts';
import type { RecordWatches } from '../../store/rules/watch-store.ts';
import type { Config } from '../config/config.ts';
import type { Encodings } from '../sealing/encoding.ts';
import type { Sealer } from '../sealing/sealer.ts';
import type { Keys, OperatorKeys } from './keys.ts';
import type { Layout } from './layout.ts';

/** Keys and record of one data folder. */
export interface Node extends Omit<Keys, 'close'> {
  readonly layout: Layout;
  readonly clock: SteadyClock;
  /** What the start log says about the clock. */
  readonly clockNews: ClockNews | undefined;
  readonly database: RecordDatabase;
  /** Where that is; with the password of now. */
  place(): RecordPlace;
  /** Key of `AuditKey`. */
  readonly auditKey: Bytes;
  /** The nodes of the record, of which this is one. */
  readonly nodes: Nodes;
  readonly feed: RecordFeed;
  readonly store: RecordStore;
  readonly operations: RecordOperations;
  readonly outbox: RecordOutbox;
  readonly preferences: RecordPreferences;
  readonly holders: RecordHolders;
  readonly clients: RecordClients;
  readonly desks: RecordDesks;
  readonly verifiers: RecordVerifiers;
  readonly consents: RecordConsents;
  readonly watches: RecordWatches;
  readonly intakes: RecordIntakes;
  readonly proposals: RecordProposals;
  readonly time: RecordTime;
  readonly sealer: Sealer;
  readonly encodings: Encodings;
  close(): Promise<void>;
}

/** The same where an operator makes keys. */
export type OperatorNode = Node & OperatorKeys;

/** Who acts where the node itself does. */
export const nodeActor = (config: Config) => actorOfNode(config.node);
