import type { Actor, RequestScope } from '../../core/model/act.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';

// A write of a caller happens once, however often its request comes. What it came to is kept with the request, as data: it is
// presented the first time, and again whenever the request is repeated.

/** A write of a caller. */
export interface OperatorCommand {
  readonly scope: RequestScope;
  readonly actor: Actor;
}

/** What a write came to. */
export interface Recorded<Outcome> {
  /** As JSON can hold it. */
  readonly outcome: Outcome;
  /** When it was decided, wall-clock milliseconds. */
  readonly atMs: number;
}

/** The request that an outcome is sealed for. */
export type OutcomeScope = Pick<RequestScope, 'client' | 'route' | 'idempotencyKey'>;

/** What a sealed outcome is bound to, so that none can take another's place. */
export const outcomeContext = ({ client, route, idempotencyKey }: OutcomeScope): string =>
  `reply:${JSON.stringify([client, route, idempotencyKey])}`;

/** The form of outcomes that this version writes. */
const formatVersion = 1;

export const encodeOutcome = ({ outcome, atMs }: Recorded<unknown>): Bytes =>
  Buffer.from(JSON.stringify({ version: formatVersion, atMs, outcome }));

/** Throws where a later version of the software wrote it. */
export function decodeOutcome(octets: Bytes): Recorded<unknown> {
  const { version, atMs, outcome } = JSON.parse(Buffer.from(octets).toString('utf8'));
  if (version !== formatVersion)
    throw new Error(`an outcome of version ${version}: a later version wrote it`);
  return { outcome, atMs };
}
