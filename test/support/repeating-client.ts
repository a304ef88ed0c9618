import { join } from 'node:path';
import { expect } from 'vitest';
import { type Answer, CaClient } from '../../ca/client/client.ts';

/** What is sent by POST and writes nothing. */
const questions = ['/preview', '/latest-basic-four', '/certificate-links', '/verifier-notices'];

/**
 * A caller that repeats each write that was carried out, as one would that has not heard the answer: it has to be answered the
 * same, from what the record kept.
 */
export class RepeatingClient extends CaClient {
  override async post<T>(
    path: string,
    body: unknown,
    idempotencyKey: string = crypto.randomUUID(),
  ): Promise<Answer<T>> {
    const first = await super.post<T>(path, body, idempotencyKey);
    const isDryRun = (body as { dryRun?: boolean } | undefined)?.dryRun === true;
    const isQuestion = questions.some((question) => path.endsWith(question));
    if (first.status >= 300 || isDryRun || isQuestion) return first;
    const again = await super.post<T>(path, body, idempotencyKey);
    // A client may have ended its own right to ask.
    if (again.status !== 401) expect({ path, ...again }).toEqual({ path, ...first, replayed: true });
    return first;
  }

  /** As `namedClient`. */
  static named(folder: string, address: string, name: string): RepeatingClient {
    const [key, cert] = ['key', 'pem'].map((end) => join(folder, 'clients', `${name}.${end}`));
    const ca = join(folder, 'tls', 'operations-ca.pem');
    return RepeatingClient.fromFiles({ address, key, cert, ca } as never);
  }
}
