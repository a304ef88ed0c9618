import type { Config } from '../../core/config/config.ts';

/** What a listening thread begins with. */
export interface ListenerStart {
  /** The published folder. */
  readonly folder: string;
  readonly config: Config['crl'];
  /** See `Clock.shift`. */
  readonly shift: SharedArrayBuffer | null;
}

export type Told =
  | { readonly type: 'listen' }
  | { readonly type: 'verifiers'; readonly verifiers: Config['crl']['verifiers'] };
