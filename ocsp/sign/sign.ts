import type { Bytes } from '../../core/runtime/bytes.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { Answer } from '../protocol/prepared-answer.ts';
import type { ReadyKey } from './composer.ts';

/** Receives the answer, once; maybe before the call that it was given to returns. */
export type Reply = (answer: Answer) => void;

/** Answers that are not signed. */
export const errors = {
  malformedRequest: Answer.error('malformedRequest'),
  internalError: Answer.error('internalError'),
  tryLater: Answer.error('tryLater'),
  unauthorized: Answer.error('unauthorized'),
} as const;

/** Signs now or later, and answers the caller whatever happens. */
export function signed(
  key: ReadyKey,
  data: Bytes,
  reply: Reply,
  finish: (signature: Bytes) => void,
): undefined | Promise<void> {
  let signature: Bytes | Promise<Bytes>;
  try {
    signature = key.signer.sign(data);
  } catch (error) {
    reply(refusalFor(error));
    return undefined;
  }
  if (signature instanceof Promise) {
    return signature.then(finish, (error: unknown) => reply(refusalFor(error)));
  }
  finish(signature);
  return undefined;
}

function refusalFor(error: unknown): Answer {
  const isBusy =
    error instanceof PkiError && (error.code === 'overloaded' || error.code === 'token-unavailable');
  return isBusy ? errors.tryLater : errors.internalError;
}
