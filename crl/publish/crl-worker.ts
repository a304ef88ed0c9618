// A worker of the publisher: reads, encodes, hashes, checks, replaces. It has no key: digests go to the main thread by the
// port that came with its first task, and signatures come back. Errors go back as data, because structured clone would
// drop their class and code.

import type { MessagePort } from 'node:worker_threads';
import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { giveWay } from '../../core/workers/worker.ts';
import { EntryReader } from '../entries/entry-store.ts';
import { PublishedFolder } from '../folder/published.ts';
import type { BuildOrder } from '../issue/build-order.ts';
import { type BuildContext, type BuildResult, build } from '../list.ts';

export type CrlTask =
  /** The first: where everything is. */
  | {
      readonly type: 'open';
      /** The publisher's record. */
      readonly entries: string;
      /** The published folder, and who publishes there. */
      readonly folder: string;
      readonly owner: string;
      readonly leaseMs: number;
      readonly signing: MessagePort;
    }
  | { readonly type: 'build'; readonly id: number; readonly order: BuildOrder };

export type CrlTaskResult =
  | BuildResult
  | { readonly type: 'opened' }
  /** The first task was another's: this worker does not know yet where everything is. */
  | { readonly type: 'unopened' }
  | { readonly type: 'failed'; readonly reason: string };

/** What a worker asks the main thread, for which order, and what it is answered. */
export interface SigningQuestion {
  readonly order: number;
  readonly id: number;
  readonly digest: Bytes;
}
export type SigningAnswer =
  | { readonly id: number; readonly signature: Bytes }
  | { readonly id: number; readonly failure: string };

/** What a worker knows since its first task. */
interface Bench {
  /** Opened when first wanted: what could not be opened once is tried again. */
  readonly open: () => Omit<BuildContext, 'sign'>;
  readonly sign: (order: number, digest: Bytes) => Promise<Bytes>;
}

// Where cores are short, who waits for an answer comes first: a list is replaced some milliseconds later.
giveWay(5);

let bench: Bench | undefined;

function settleIn({ entries, folder, owner, leaseMs, signing }: CrlTask & { type: 'open' }): Bench {
  const waiting = new Map<number, PromiseWithResolvers<Bytes>>();
  let ids = 0;
  let opened: Omit<BuildContext, 'sign'> | undefined;
  signing.on('message', (answer: SigningAnswer) => {
    const asked = waiting.get(answer.id);
    waiting.delete(answer.id);
    if ('failure' in answer) asked?.reject(new PkiError('token-unavailable', answer.failure));
    else asked?.resolve(answer.signature);
  });
  return {
    open: () => {
      opened ??= {
        entries: new EntryReader(entries),
        folder: new PublishedFolder({ folder, owner, leaseMs }),
      };
      return opened;
    },
    sign: (order, digest) => {
      const asked = Promise.withResolvers<Bytes>();
      ids += 1;
      waiting.set(ids, asked);
      signing.postMessage({ order, id: ids, digest } satisfies SigningQuestion);
      return asked.promise;
    },
  };
}

export default async function work(task: CrlTask): Promise<CrlTaskResult> {
  if (task.type === 'open') {
    bench = settleIn(task);
    return { type: 'opened' };
  }
  if (!bench) return { type: 'unopened' };
  try {
    const { open, sign } = bench;
    return await build({ ...open(), sign: (digest) => sign(task.id, digest) }, task.order);
  } catch (error) {
    const { code = '', message } = error as { code?: string; message: string };
    return { type: 'failed', reason: `${code} ${message}`.trim() };
  }
}
