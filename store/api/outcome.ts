import type { Actor, RequestScope } from '../../core/model/act.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';

// A write of a caller is executed once, however often its request is sent. Its outcome is stored with the request, as data; routes
// present it the first time and whenever the request is repeated.

/** A write of a caller. */
export interface OperatorCommand {
  readonly scope: RequestScope;
  readonly actor: Actor;
}

/** The request that an outcome is sealed for. */
export type OutcomeScope = Pick<RequestScope, 'client' | 'route' | 'idempotencyKey'>;

/** Associated data of the seal: binds an outcome to its request. */
export const outcomeContext = ({ client, route, idempotencyKey }: OutcomeScope): string =>
  `reply:${JSON.stringify([client, route, idempotencyKey])}`;

/** The form of outcomes that this version writes. */
const formatVersion = 1;

/** An outcome is what JSON can hold. */
export const encodeOutcome = (outcome: unknown): Bytes =>
  Buffer.from(JSON.stringify({ version: formatVersion, outcome }));

/** `record-unavailable` where a later version of the software wrote it. */
export function decodeOutcome(octets: Bytes): unknown {
  const { version, outcome } = JSON.parse(Buffer.from(octets).toString('utf8'));
  if (version !== formatVersion)
    throw new PkiError(
      'record-unavailable',
      `a later version of the software stored the answer (format ${version}): start that version`,
    );
  return outcome;
}
