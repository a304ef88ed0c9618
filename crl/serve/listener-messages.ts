import type { CrlOptions } from '../config/options.ts';

/** What a listening thread begins with. */
export interface ListenerStart {
  /** The published folder. */
  readonly folder: string;
  readonly config: CrlOptions;
  /** See `Clock.shift`. */
  readonly shift: SharedArrayBuffer | null;
  /** See `giveWay`. */
  readonly niceness: number;
}

export type ListenerMessage =
  | { readonly type: 'listen' }
  | { readonly type: 'verifiers'; readonly verifiers: CrlOptions['verifiers'] };
