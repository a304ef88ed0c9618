import type { Bytes } from '../../core/runtime/bytes.ts';
import { must, PkiError } from '../../core/runtime/errors.ts';
import type { Replay, RequestScope, Sealed, StoredAnswer } from '../api/certificate-store.ts';
import type { RecordReader, Transaction } from '../engine/record.ts';
import type { Row } from '../schema/schema.ts';

/** What an earlier request of the scope was answered. */
export function findReplay(reader: RecordReader, scope: RequestScope, nowMs: number): Replay | undefined {
  const { client, route, idempotencyKey } = scope;
  const row = reader.get('request', { client, route, idempotencyKey });
  if (!row || row.expiresMs <= nowMs) return undefined;
  if (!sameOctets(row.bodyHash, scope.bodyHash)) {
    throw new PkiError('idempotency-key-reused', 'that Idempotency-Key was used with another request');
  }
  if (row.state === 'open' && isUnderWay(reader, row)) {
    throw new PkiError('request-in-progress', 'a request with that Idempotency-Key is being worked on');
  }
  if (row.state === 'failed') {
    throw new PkiError('revoked-while-issuing', 'a certificate was revoked while it was being issued');
  }
  if (row.state !== 'done' && row.state !== 'open')
    throw new PkiError('record-unavailable', `the record was altered: a request that is ${row.state}`);
  const answer = answerIn(row);
  if (answer) return answer;
  return { type: 'issuance', issuanceId: must(row.issuanceId, 'issuance of a request that is done') };
}

/** A request for an issuance is done when that is no longer reserved: its row is not written again. */
const isUnderWay = (reader: RecordReader, { issuanceId }: Row<'request'>): boolean =>
  issuanceId === null || reader.get('reservation', { issuanceId }) !== undefined;

/** What a row stores as an answer; undefined where it stores none. */
export function answerIn({
  status,
  dataKey: key,
  body: octets,
}: Pick<Row<'request'>, 'status' | 'dataKey' | 'body'>): StoredAnswer | undefined {
  if (key === null || octets === null) return undefined;
  const sealed = { key, octets };
  return status === null ? { type: 'outcome', sealed } : { type: 'answer', status, sealed };
}

/** Claims a scope within a transaction; where it is taken the caller replays. */
export function openRequest(
  tx: Transaction,
  scope: RequestScope,
  nowMs: number,
  issuanceId: string | null = null,
): void {
  const { client, route, idempotencyKey, bodyHash, expiresMs } = scope;
  const key = { client, route, idempotencyKey };
  const row = {
    ...key,
    bodyHash,
    expiresMs,
    state: 'open',
    issuanceId,
    status: null,
    dataKey: null,
    body: null,
  };
  if (tx.insertNew('request', row)) return;
  const before = tx.get('request', key);
  if (before && before.expiresMs > nowMs) {
    if (!sameOctets(before.bodyHash, bodyHash)) {
      throw new PkiError('idempotency-key-reused', 'that Idempotency-Key was used with another request');
    }
    throw new PkiError('request-in-progress', 'a request with that Idempotency-Key came at the same moment');
  }
  tx.remove('request', key);
  tx.insert('request', row);
}

/** Ends a request within its transaction: from then on it is replayed. */
export function storeOutcome(tx: Transaction, scope: RequestScope, sealed: Sealed): void {
  const { client, route, idempotencyKey } = scope;
  const row = tx.get('request', { client, route, idempotencyKey });
  if (!row) throw new Error('no open request for this outcome');
  const { key: dataKey, octets: body } = sealed;
  const answered = { ...row, state: 'done', status: null, dataKey, body };
  tx.update('request', answered, row);
}

/** Ends a request whose issuance came to nothing; not another that came by its key since. */
export function failRequest(
  tx: Transaction,
  { client, route, idempotencyKey, issuanceId }: Row<'reservation'>,
): void {
  const row = tx.get('request', { client, route, idempotencyKey });
  if (row?.issuanceId === issuanceId) tx.update('request', { ...row, state: 'failed' }, row);
}

/** Forgets a claimed scope: the request is not answered, and may come again. */
export function dropRequest(tx: Transaction, scope: RequestScope): void {
  const { client, route, idempotencyKey } = scope;
  tx.remove('request', { client, route, idempotencyKey });
}

function sameOctets(a: Bytes, b: Bytes): boolean {
  return Buffer.compare(a, b) === 0;
}
