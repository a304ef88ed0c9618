import { MessageChannel, type MessagePort } from 'node:worker_threads';
import type { DigestSigner } from '../core/signer.ts';
import type { SigningAnswer, SigningQuestion } from './crl-worker.ts';

/** A port by which a worker has digests signed: keys, and sessions with the token, stay on this side. */
export function signingPort(signer: DigestSigner<'crl'>): { port: MessagePort; close(): void } {
  const { port1, port2 } = new MessageChannel();
  port1.on('message', ({ id, digest }: SigningQuestion) => {
    signer.signDigest(digest).then(
      (signature) => port1.postMessage({ id, signature } satisfies SigningAnswer),
      (error: Error) => port1.postMessage({ id, failure: error.message } satisfies SigningAnswer),
    );
  });
  return { port: port2, close: () => port1.close() };
}
