// A thread that writes who looked at whom, over a connection of its own: what it waits for holds nothing else up.
import { parentPort, workerData } from 'node:worker_threads';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { type Closing, serveRequests } from '../../core/workers/worker.ts';
import type { Access, GroupedAccess, SealedQuery } from '../api/access-store.ts';
import { AccessDatabase } from './access-database.ts';

export interface AccessStart {
  readonly file: string;
  /** See `accessKeyOf`. */
  readonly key: Uint8Array;
}

export type AccessRequest =
  | { readonly type: 'add'; readonly accesses: readonly Access[]; readonly queries: readonly SealedQuery[] }
  | { readonly type: 'of'; readonly holderId: string; readonly tags: readonly Bytes[] }
  | { readonly type: 'count'; readonly client: string; readonly sinceMs: number }
  | { readonly type: 'forget'; readonly beforeMs: number; readonly nowMs: number }
  | { readonly type: 'verify'; readonly rows: number };

export interface AccessAnswer {
  readonly sequence: number;
  readonly count?: number;
  readonly accesses?: readonly GroupedAccess[];
  readonly queries?: readonly Uint8Array[];
  readonly finding?: string | undefined;
  readonly isMore?: boolean;
}

const { file, key } = workerData as AccessStart;
const database = new AccessDatabase(file, key);

function answer(request: AccessRequest): Omit<AccessAnswer, 'sequence'> {
  switch (request.type) {
    case 'add':
      database.add(request.accesses, request.queries);
      return {};
    case 'of':
      return { accesses: database.of(request.holderId), queries: database.queries(request.tags) };
    case 'count':
      return { count: database.countSince(request.client, request.sinceMs) };
    case 'forget':
      return { isMore: database.forget(request.beforeMs, request.nowMs) };
    case 'verify':
      try {
        return database.verify(request.rows);
      } catch (error) {
        if (error instanceof PkiError) return { finding: error.message };
        throw error;
      }
  }
}

serveRequests<AccessRequest, AccessAnswer | null>(parentPort, async (request: Closing | AccessRequest) => {
  if (request.type === 'close') {
    database.close();
    return null;
  }
  return { ...answer(request), sequence: database.sequence };
});
