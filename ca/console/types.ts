// Answers of the API, as far as the console shows them; ca/openapi.json has all of them.

export interface Caller {
  readonly clientId: string;
  readonly name: string | null;
  readonly kind: 'person' | 'system';
  readonly roles: readonly string[];
  readonly mode: 'development' | 'production';
  readonly purposes: readonly string[];
  readonly purposeRequired: boolean;
  /** Proposals that wait, and that it may see. */
  readonly proposals: number;
  readonly events: readonly { readonly event: string; readonly target: 'holder' | 'card' | 'phone' }[];
}

export interface Status {
  readonly state: 'reserved' | 'good' | 'held' | 'revoked' | 'retired';
  readonly reason: string | null;
  readonly revokedAt: string | null;
  readonly heldBy: readonly string[];
}

export interface Certificate {
  readonly authority: string;
  readonly serialNumber: string;
  readonly kind: string;
  readonly holderId: string | null;
  readonly mediumId: string | null;
  readonly status: Status;
  readonly notBefore: string;
  readonly notAfter: string;
}

export interface Medium {
  readonly mediumId: string;
  readonly type: 'card' | 'phone';
  readonly expiresAt: string;
  readonly platform: string | null;
  readonly model: string | null;
  readonly osVersion: string | null;
}

export interface Holder {
  readonly holderId: string;
  readonly media: readonly Medium[];
  readonly certificates: readonly Certificate[];
  readonly standing: { readonly closedBy: string | null; readonly signingBarredBy: string | null } | null;
}

interface Actor {
  readonly client: string;
  readonly role: string;
}

export interface HistoryEntry {
  readonly at: string;
  readonly authority: string;
  readonly serialNumber: string;
  readonly change: string;
  readonly reason: string | null;
  readonly cause: { readonly event: string; readonly cascadedFrom: { readonly serialNumber: string } | null };
  readonly actor: Actor;
}

export interface History {
  readonly entries: readonly HistoryEntry[];
  readonly events?: readonly {
    readonly event: string;
    readonly mediumId: string | null;
    readonly at: string;
    readonly occurredAt: string;
    readonly actor: Actor;
  }[];
}

export interface Change {
  readonly authority: string;
  readonly serialNumber: string;
  readonly kind: string;
  readonly from: Status;
  readonly to: Status;
  readonly cause: { readonly cascadedFrom: { readonly serialNumber: string } | null };
}

export interface Plan {
  readonly planHash: string;
  readonly changes: readonly Change[];
  readonly orders: readonly { readonly deviceId: string; readonly serialNumber: string }[];
  readonly reissue: readonly { readonly kind: string; readonly mediumId: string }[];
  readonly standing?: string | null;
  readonly confirmed?: readonly string[];
  readonly knownEverywhereBy?: string | null;
}

export interface Proposal {
  readonly proposalId: string;
  readonly act: string;
  readonly plan: Readonly<Record<string, unknown>>;
  readonly planHash: string;
  readonly state: string;
  readonly role: string;
  readonly proposedBy: string;
  readonly proposedAt: string;
  readonly expiresAt: string;
  readonly refusal: { readonly code: string; readonly detail: string } | null;
}

export interface BulkOperation {
  readonly actId: string;
  readonly action: 'hold' | 'release' | 'revoke';
  readonly state: 'proposed' | 'running' | 'done' | 'withdrawn';
  readonly proposedBy: string;
  readonly proposedAt: string;
  readonly phones: number;
  readonly certificates: number;
  readonly finishedAt: string | null;
}

export interface Restriction {
  readonly restrictionId: string;
  readonly match: Readonly<Record<string, unknown>>;
  readonly note: string;
  readonly state: 'proposed' | 'in-force' | 'ended' | 'withdrawn';
  readonly createdAt: string;
  readonly acts: readonly BulkOperation[];
}

export interface Switch {
  readonly name: string;
  readonly state: 'open' | 'limited' | 'closed';
  readonly perMinute: number | null;
  readonly note: string;
  readonly changedAt: string | null;
  readonly changedBy: string | null;
}

export interface Message {
  readonly messageId: string;
  readonly type: string;
  readonly destination: string;
  readonly authority: string;
  readonly serialNumber: string;
  readonly occasion: string;
  readonly createdAt: string;
  readonly attempts: number;
  readonly dueAt: string | null;
  readonly lastError: string | null;
}

export interface Client {
  readonly fingerprint: string;
  readonly name: string;
  readonly kind?: 'person' | 'system';
  readonly roles: readonly string[];
  readonly desks: readonly string[];
  readonly municipalities?: readonly string[];
  readonly revokedAt: string | null;
  readonly certificateEndsAt?: string | null;
  readonly bindingEndsAt?: string | null;
  readonly lastUsedAt?: string | null;
}

export interface Desk {
  readonly deskCode: string;
  readonly kind: string;
  readonly functions: readonly string[];
  readonly municipalities: readonly string[];
  readonly validTo: string | null;
  readonly suspendedAt: string | null;
}

export interface Verifier {
  readonly verifierId: string;
  readonly name: string;
  readonly suspendedAt: string | null;
  readonly validTo: string | null;
  readonly credentials: readonly { readonly type: string }[];
}

export interface Service {
  readonly node: string;
  readonly startedAt: string;
  readonly at: string;
  readonly authorities: readonly {
    readonly authority: string;
    readonly slot: string;
    readonly generation: number;
    readonly suite: string;
    readonly notBefore: string;
    readonly notAfter: string;
    readonly issuing: boolean;
  }[];
  readonly nodes: readonly { readonly node: string; readonly behind: number | null }[];
  readonly followers: readonly {
    readonly clientId: string;
    readonly name: string | null;
    readonly connectedAt: string;
    readonly knownTo: string | null;
    readonly lagSeconds: number | null;
  }[];
  readonly counts: Readonly<Record<'certificates' | 'crls' | 'others' | 'waiting' | 'ocspAnswers', number>>;
}

export interface Health {
  readonly status: string;
  readonly tokens: readonly { readonly label: string; readonly up: boolean }[];
  readonly warnings?: readonly {
    readonly kind: string;
    readonly about: string;
    readonly at: string | null;
    readonly act: string;
  }[];
}

export interface Crl {
  readonly path: string;
  readonly number: number;
  readonly octets: number;
  readonly thisUpdate: string;
  readonly nextUpdate: string;
  readonly deltaNextUpdate: string | null;
}
