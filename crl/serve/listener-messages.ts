import type { ShownTls } from '../../core/config/verifiers.ts';
import type { VerifierFacts } from '../../core/model/verifier.ts';
import type { CrlOptions } from '../config/options.ts';

/** What a listening thread begins with. */
export interface ListenerStart {
  /** The published folder. */
  readonly folder: string;
  readonly config: CrlOptions;
  /** What verifiers are shown over TLS. */
  readonly tls: ShownTls;
  /** See `Clock.shift`. */
  readonly shift: SharedArrayBuffer | null;
  /** See `giveWay`. */
  readonly niceness: number;
}

export type ListenerMessage =
  | { readonly type: 'listen' }
  /** What the configuration says of verifiers. */
  | { readonly type: 'rules'; readonly rules: CrlOptions['verifiers']; readonly tls: ShownTls }
  /** Verifiers that are new on the register, or other than they were. */
  | { readonly type: 'verifiers'; readonly verifiers: readonly VerifierFacts[] };
