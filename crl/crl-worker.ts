// A worker of the publisher: reads, encodes, hashes, checks, replaces. It has no key: digests go to the main thread by the
// port that comes with each task, and signatures come back. Errors go back as data, because structured clone would drop
// their class and code.
import type { MessagePort } from 'node:worker_threads';
import type { Bytes } from '../core/bytes.ts';
import { PkiError } from '../core/errors.ts';
import { type BuildOrder, type BuildResult, build, type Workshop } from './build.ts';
import { EntryReader } from './entry-store.ts';
import { PublishedFolder } from './published.ts';

export interface CrlTask extends BuildOrder {
  /** The publisher's record. */
  readonly entries: string;
  /** The published folder, and who publishes there. */
  readonly folder: string;
  readonly owner: string;
  readonly leaseMs: number;
  readonly signing: MessagePort;
}

export type CrlTaskResult = BuildResult | { readonly type: 'failed'; readonly reason: string };

/** What a worker asks the main thread, and what it is answered. */
export interface SigningQuestion {
  readonly id: number;
  readonly digest: Bytes;
}

export type SigningAnswer =
  | { readonly id: number; readonly signature: Bytes }
  | { readonly id: number; readonly failure: string };

/** Opened once for each worker: all tasks of a process are of one publisher. */
let opened: Omit<Workshop, 'sign'> | undefined;

function open({ entries, folder, owner, leaseMs }: CrlTask): Omit<Workshop, 'sign'> {
  opened ??= {
    entries: new EntryReader(entries),
    folder: new PublishedFolder({ folder, owner, leaseMs }),
  };
  return opened;
}

export default async function work(task: CrlTask): Promise<CrlTaskResult> {
  const { signing } = task;
  const waiting = new Map<number, PromiseWithResolvers<Bytes>>();
  signing.on('message', (answer: SigningAnswer) => {
    const asked = waiting.get(answer.id);
    if ('failure' in answer) asked?.reject(new PkiError('token-unavailable', answer.failure));
    else asked?.resolve(answer.signature);
  });
  const sign = (digest: Bytes): Promise<Bytes> => {
    const asked = Promise.withResolvers<Bytes>();
    const id = waiting.size;
    waiting.set(id, asked);
    signing.postMessage({ id, digest });
    return asked.promise;
  };
  try {
    return await build({ ...open(task), sign }, task);
  } catch (error) {
    const { code = '', message } = error as { code?: string; message: string };
    return { type: 'failed', reason: `${code} ${message}`.trim() };
  } finally {
    signing.close();
  }
}
