import { hash } from 'node:crypto';
import { type Suite, suites } from '../../core/asn1/algorithms.ts';
import type { DigestSigner, KeySpec, SigningPurpose } from '../../core/crypto/signer.ts';
import type { Bytes } from '../../core/runtime/bytes.ts';
import type { Clock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { traced } from '../../core/runtime/tracing.ts';
import { pack, unpack } from '../../core/workers/pack.ts';
import { PriorityBatchQueue } from '../../core/workers/priority-batch-queue.ts';
import type { TokenKey } from '../pkcs11/token.ts';
import type { SigningBackend, SigningTask } from './signing-task.ts';

/** Signatures that may wait for one key; beyond it callers get `overloaded`. */
const waitingMax = 2048;
/** How long a token that failed is left out while another has the same keys. */
const restMs = 5000;

/** What says that a certificate is not good any more goes before what says that another is. */
const ranks: Readonly<Record<SigningPurpose, number>> = {
  ocsp: 0,
  crl: 0,
  audit: 1,
  message: 1,
  certificate: 1,
};
/** Mass issue waits for everything else. */
const massRank = 2;

export interface TokenState {
  readonly label: string;
  readonly up: boolean;
  /** What failed last; null where nothing has since it was up. */
  readonly error: string | null;
}

/** The signers of keys in tokens, over one home. */
export class SigningPool {
  readonly #home: SigningBackend;
  readonly #clock: Clock;
  readonly #lanes: PriorityBatchQueue;
  readonly #key: Pick<KeySpec, 'module' | 'copyKey'>;
  readonly #log: string | null;
  /** See `DigestSigner.form`. */
  readonly crlForm: SigningTask['form'];
  readonly #failures = new Map<string, { readonly atMs: number; readonly error: string }>();
  readonly #signed = new Map<SigningPurpose, number>();
  readonly #labels = new Set<string>();
  #turn = 0;

  constructor(options: {
    readonly home: SigningBackend;
    readonly clock: Clock;
    readonly module: string;
    /** See `KeySpec.copyKey`. */
    readonly copyKeys?: boolean | null;
    /** File that gets every digest before it is signed. */
    readonly log?: string | null;
    /** Whether CRLs are handed over as a whole, for a home that checks what it signs. */
    readonly wholeCrls?: boolean;
  }) {
    this.#home = options.home;
    this.#clock = options.clock;
    this.#lanes = new PriorityBatchQueue(options.home.width);
    this.#key = { module: options.module, copyKey: options.copyKeys ?? null };
    this.#log = options.log ?? null;
    this.crlForm = options.wholeCrls === true ? 'message' : 'digest';
  }

  /**
   * A signer for one key, bound to one purpose. `copies` are tokens that hold the same key under the same label: they
   * share the work, and one that fails is left out for a while. A certificate's signature is verified before it is given
   * out.
   */
  signer<Purpose extends SigningPurpose>(options: {
    readonly purpose: Purpose;
    readonly suite: Suite;
    readonly tokenLabel: string;
    readonly copies?: readonly string[];
    readonly key: TokenKey;
    /** For issuing by the million. */
    readonly mass?: boolean;
  }): DigestSigner<Purpose> {
    const { purpose, key, tokenLabel, copies = [], mass = false } = options;
    const suite = suites[options.suite.name];
    const labels = [tokenLabel, ...copies];
    for (const label of labels) this.#labels.add(label);
    const lane = (form: SigningTask['form']) =>
      this.#lanes.open({
        rank: mass ? massRank : ranks[purpose],
        waitingMax,
        // A CRL takes megabytes.
        ...(purpose === 'crl' && form === 'message' ? { batchMax: 1 } : {}),
        what: `signatures are waiting for key ${key.label}`,
        run: (inputs: readonly Bytes[]) =>
          this.#sign(inputs, labels, {
            key: this.keySpec(tokenLabel, key.label, suite),
            purpose,
            form,
            publicKey: key.publicKey,
            log: this.#log,
          }),
      });
    const digests = lane('digest');
    const form = purpose === 'crl' ? this.crlForm : 'digest';
    const messages = purpose === 'certificate' || form === 'message' ? lane('message') : undefined;
    const named = { 'warifu.token': tokenLabel, 'warifu.suite': suite.name };
    const span = <R>(act: () => Promise<R>): Promise<R> => traced(`sign ${purpose}`, named, act);
    return {
      purpose,
      suite,
      publicKey: key.publicKey,
      form,
      sign: (message, signal) =>
        span(() =>
          messages ? messages.do(message, signal) : digests.do(hash(suite.hash, message, 'buffer'), signal),
        ),
      signDigest: (digest, signal) => span(() => digests.do(digest, signal)),
    };
  }

  /** What a thread of its own needs to sign with a key. */
  keySpec(tokenLabel: string, keyLabel: string, suite: Suite): KeySpec {
    return { ...this.#key, tokenLabel, keyLabel, suite: suite.name };
  }

  /** Which tokens sign. */
  states(): TokenState[] {
    return [...this.#labels].map((label) => {
      const failure = this.#failures.get(label);
      return { label, up: failure === undefined, error: failure?.error ?? null };
    });
  }

  get waiting(): number {
    return this.#lanes.waiting;
  }

  /** Signatures made so far, for each purpose. */
  get signed(): ReadonlyMap<SigningPurpose, number> {
    return this.#signed;
  }

  /** Opens tokens and sessions again. Rejects with `token-unavailable`. */
  heal(): Promise<void> {
    return this.#home.heal();
  }

  async close(): Promise<void> {
    await this.#home.close();
  }

  async #sign(
    inputs: readonly Bytes[],
    labels: readonly string[],
    task: Omit<SigningTask, 'inputs'>,
  ): Promise<Bytes[]> {
    const packed = pack(inputs);
    let failure = '';
    const attempt = async (tokenLabel: string): Promise<Bytes[] | undefined> => {
      const result = await this.#home.run({ ...task, key: { ...task.key, tokenLabel }, inputs: packed });
      if (result.ok) {
        this.#failures.delete(tokenLabel);
        this.#signed.set(task.purpose, (this.#signed.get(task.purpose) ?? 0) + inputs.length);
        return unpack(result.signatures);
      }
      if (result.refusal) throw new PkiError(result.refusal, `the signer refuses: ${result.error}`);
      failure = result.error;
      this.#failures.set(tokenLabel, { atMs: this.#clock.monotonicMs(), error: failure });
      return undefined;
    };
    for (const label of this.#inTurn(labels)) {
      const signatures = await attempt(label);
      if (signatures) return signatures;
    }
    // None signs: the process's login is lost, or the tokens are. What new sessions do not cure, a second heal may.
    for (let heals = 0; heals < 2; heals++) {
      await this.#home.heal();
      for (const label of labels) {
        const signatures = await attempt(label);
        if (signatures) return signatures;
      }
    }
    throw new PkiError('token-unavailable', `signing with key ${task.key.keyLabel}: ${failure}`);
  }

  /** Tokens in the order in which they are tried: each begins in turn, those that failed lately come last. */
  #inTurn(labels: readonly string[]): readonly string[] {
    if (labels.length === 1) return labels;
    const first = this.#turn++ % labels.length;
    const turned = [...labels.slice(first), ...labels.slice(0, first)];
    const sinceMs = this.#clock.monotonicMs() - restMs;
    const rests = (label: string): boolean =>
      (this.#failures.get(label)?.atMs ?? Number.NEGATIVE_INFINITY) > sinceMs;
    return [...turned.filter((label) => !rests(label)), ...turned.filter(rests)];
  }
}
