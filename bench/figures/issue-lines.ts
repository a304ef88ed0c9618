// Makes the lines of a batch ahead of time, in a thread: `{ suite, first, count }` in, NDJSON out.
import { generateKeyPairSync } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { type ChipKey, cardRequest } from '../../test/support/actors.ts';
import { certificationRequest, KeyFactory } from '../load/keys.ts';

export interface LinesWanted {
  readonly suite: IssueSuite;
  readonly first: number;
  readonly count: number;
}

export type IssueSuite = 'rsa2048' | 'p384';

function keysOf(suite: IssueSuite, count: number): () => ChipKey {
  if (suite === 'p384')
    return () => {
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
      return { privateKey, request: certificationRequest(privateKey, 'p384-sha384') };
    };
  const factory = new KeyFactory(Math.ceil(Math.sqrt(2 * count)) + 2);
  return () => factory.next();
}

/** The shape of a `BatchLine`; numbers make holders and cards distinct. */
function* lines({ suite, first, count }: LinesWanted): Generator<string> {
  const next = keysOf(suite, 2 * count);
  for (let i = first; i < first + count; i++) {
    const holder = { holderId: `h-${i}`, cardId: `c-${i}` };
    const card = cardRequest({ signing: next(), authentication: next() }, holder);
    yield JSON.stringify({ idempotencyKey: `k-${i}`, card });
  }
}

if (parentPort) parentPort.postMessage([...lines(workerData as LinesWanted)].join('\n'));
