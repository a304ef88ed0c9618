import { type Dispatcher, request } from 'undici';
import { PkiError } from '../../../core/runtime/errors.ts';
import type { Device } from '../enrolment.ts';

/** What a provider thinks of a phone. */
export interface Verdict {
  readonly verdict: 'allow' | 'deny';
  /** Why not; said to the caller. */
  readonly detail: string;
}

/** A provider of verdicts on phones: an integrity service, a list of stolen devices. */
export interface VerdictProvider {
  readonly name: string;
  /** Rejects where there is no verdict on this question. */
  judge(of: Question): Promise<Verdict>;
}

/** What a provider is asked: of which phone, and in which enrolment, so that a verdict can be on no other. */
export interface Question {
  readonly device: Device;
  /** What the phone got from the provider for this enrolment, if anything: made for the challenge, which the provider checks. */
  readonly token: string | null;
  /** The server's, of the enrolment, base64: given out once. */
  readonly challenge: string;
  /** SHA-256 of the SubjectPublicKeyInfo of each key that is to be certified, base64. */
  readonly keys: readonly string[];
}

/** What an answer may hold at most, octets: the limit of the agent by which providers are asked. */
export const answerMax = 4096;

/**
 * A provider behind a web address: it gets a `Question` and answers `{"verdict":"allow"|"deny","challenge":"…","detail":"…"}`.
 * The challenge is that of the question: an answer to another is none.
 */
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

  async judge(of: Question): Promise<Verdict> {
    const response = await request(this.#url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(of),
      dispatcher: this.#dispatcher,
      signal: AbortSignal.timeout(this.#timeoutMs),
    });
    const octets = Buffer.from(await response.body.arrayBuffer());
    if (response.statusCode !== 200) throw new Error(`answered HTTP ${response.statusCode}`);
    const {
      verdict,
      challenge,
      detail = '',
    } = (JSON.parse(octets.toString('utf8')) ?? {}) as Partial<Verdict & Question>;
    if (verdict !== 'allow' && verdict !== 'deny') throw new Error('answered no verdict');
    if (challenge !== of.challenge) throw new Error('answered with a verdict on another enrolment');
    return { verdict, detail: String(detail).slice(0, 200) };
  }
}

/** Asks a provider; `device-refused` where it denies, `verdict-unavailable` where its verdict is required and missing. */
export async function heed(provider: VerdictProvider, of: Question, isRequired: boolean): Promise<void> {
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
