import { type Dispatcher, request } from 'undici';
import { PkiError } from '../../core/errors.ts';
import type { Device } from '../enrolment.ts';

/** What a provider thinks of a phone. */
export interface Verdict {
  readonly verdict: 'allow' | 'deny';
  /** Why not; said to the caller. */
  readonly detail: string;
}

/** Somebody who judges phones: an integrity service, a list of stolen devices. */
export interface VerdictProvider {
  readonly name: string;
  /** `token` is what the phone got from the provider for this enrolment, if anything. Rejects where there is no verdict. */
  judge(of: { readonly device: Device; readonly token: string | null }): Promise<Verdict>;
}

/** What an answer may hold at most, octets: the limit of the agent by which providers are asked. */
export const answerMax = 4096;

/** A provider behind a web address: it gets `{device, token}` and answers `{"verdict":"allow"|"deny","detail":"…"}`. */
export class WebVerdictProvider implements VerdictProvider {
  readonly name: string;
  readonly #url: string;
  readonly #timeoutMs: number;
  readonly #dispatcher: Dispatcher;

  constructor(options: {
    readonly name: string;
    readonly url: string;
    readonly timeoutMs: number;
    readonly dispatcher: Dispatcher;
  }) {
    this.name = options.name;
    this.#url = options.url;
    this.#timeoutMs = options.timeoutMs;
    this.#dispatcher = options.dispatcher;
  }

  async judge(of: Parameters<VerdictProvider['judge']>[0]): Promise<Verdict> {
    const response = await request(this.#url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(of),
      dispatcher: this.#dispatcher,
      signal: AbortSignal.timeout(this.#timeoutMs),
    });
    const octets = Buffer.from(await response.body.arrayBuffer());
    if (response.statusCode !== 200) throw new Error(`answered HTTP ${response.statusCode}`);
    const { verdict, detail = '' } = JSON.parse(octets.toString('utf8')) as Partial<Verdict>;
    if (verdict !== 'allow' && verdict !== 'deny') throw new Error('answered no verdict');
    return { verdict, detail: String(detail).slice(0, 200) };
  }
}

/** Asks a provider; `device-refused` where it denies, `verdict-unavailable` where it must be heard and is not. */
export async function heed(
  provider: VerdictProvider,
  of: Parameters<VerdictProvider['judge']>[0],
  isRequired: boolean,
): Promise<void> {
  let answer: Verdict;
  try {
    answer = await provider.judge(of);
  } catch (error) {
    if (!isRequired) return;
    throw new PkiError('verdict-unavailable', `${provider.name} gives no verdict`, { cause: error });
  }
  if (answer.verdict === 'deny')
    throw new PkiError(
      'device-refused',
      `${provider.name} refuses the phone${answer.detail && `: ${answer.detail}`}`,
    );
}
