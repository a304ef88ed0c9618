// A worker of the publisher: reads, encodes, hashes, checks, replaces. It has no key: digests, or for a signer that wants to read what it
// signs whole lists, go to the main thread by the port that came with its first task, and signatures come back; so does what is to be handed to other nodes. Errors go back as data, because structured clone would
// drop their class and code.

import { hash } from 'node:crypto';
import type { MessagePort } from 'node:worker_threads';
import type { DigestSigner } from '../../core/crypto/signer.ts';
import type { PublicationChange } from '../../core/model/publication.ts';
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
      readonly questions: MessagePort;
    }
  /** `isHandedOver`: to other nodes, by the main thread. */
  | {
      readonly type: 'build';
      readonly id: number;
      readonly order: BuildOrder;
      readonly isHandedOver: boolean;
      /** See `DigestSigner.form`. */
      readonly form: DigestSigner['form'];
    };

export type CrlTaskResult =
  | BuildResult
  | { readonly type: 'opened' }
  /** The first task was another's: this worker does not know yet where everything is. */
  | { readonly type: 'unopened' }
  | { readonly type: 'failed'; readonly reason: string };

/** What a worker asks the main thread: to sign a digest or a whole list, or to hand over what it is about to publish. */
type Asked =
  | { readonly digest: Bytes }
  | { readonly toBeSigned: Bytes }
  | { readonly change: PublicationChange };
/** For which order. */
export type WorkerQuestion = { readonly order: number; readonly id: number } & Asked;
/** The signature, or whether it was handed over. */
export type WorkerAnswer =
  | { readonly id: number; readonly value: Bytes | boolean }
  | { readonly id: number; readonly failure: string };

/** What a worker knows since its first task. */
interface Bench {
  /** Opened when first wanted: what could not be opened once is tried again. */
  readonly open: () => Pick<BuildContext, 'entries' | 'folder'>;
  readonly ask: (order: number, question: Asked) => Promise<unknown>;
}

// Where cores are short, who waits for an answer comes first: a list is replaced some milliseconds later.
giveWay(5);

let bench: Bench | undefined;

function settleIn({ entries, folder, owner, leaseMs, questions }: CrlTask & { type: 'open' }): Bench {
  const waiting = new Map<number, PromiseWithResolvers<unknown>>();
  let ids = 0;
  let opened: Pick<BuildContext, 'entries' | 'folder'> | undefined;
  questions.on('message', (answer: WorkerAnswer) => {
    const asked = waiting.get(answer.id);
    waiting.delete(answer.id);
    if ('failure' in answer) asked?.reject(new PkiError('token-unavailable', answer.failure));
    else asked?.resolve(answer.value);
  });
  return {
    open: () => {
      opened ??= {
        entries: new EntryReader(entries),
        folder: new PublishedFolder({ folder, owner, leaseMs }),
      };
      return opened;
    },
    ask: (order, question) => {
      const asked = Promise.withResolvers<unknown>();
      ids += 1;
      waiting.set(ids, asked);
      questions.postMessage({ order, id: ids, ...question } satisfies WorkerQuestion);
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
    const { open, ask } = bench;
    const context: BuildContext = {
      ...open(),
      sign: async (toBeSigned, algorithm) => {
        const digest = (): Bytes => hash(algorithm, toBeSigned, 'buffer');
        return (await ask(task.id, task.form === 'message' ? { toBeSigned } : { digest: digest() })) as Bytes;
      },
      handOver: async (change) => !task.isHandedOver || (await ask(task.id, { change })) === true,
    };
    return await build(context, task.order);
  } catch (error) {
    const { code = '', message } = error as { code?: string; message: string };
    return { type: 'failed', reason: `${code} ${message}`.trim() };
  }
}
