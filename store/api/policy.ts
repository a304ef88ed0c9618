import type { StandingChange } from '../../core/model/holder-life.ts';
import type { HolderKind } from '../../core/model/kinds.ts';

// The table of life events, as the rules that plan by it read it. What each field means: docs/CONFIGURATION.md, `policy`.

/** `none`, `hold`, `release`, or `revoke:` with a reason of RFC 5280 §5.3.1. */
export type PolicyCell = string;

export interface PolicyEvent {
  readonly target: 'holder' | 'card' | 'phone';
  readonly kinds: Readonly<Record<HolderKind, PolicyCell>>;
  readonly cascade: 'kind' | 'whole';
  readonly renewal: boolean;
  readonly reissue: readonly HolderKind[];
  readonly register: boolean;
  readonly town: 'stays' | 'moves';
  readonly phones: 'all' | 'enrolled-since';
  readonly endsHoldsOf: readonly string[];
  readonly standing: 'unchanged' | StandingChange;
  readonly delivery: 'none' | 'confirms' | 'discards';
  readonly lastDay: 'stays' | 'moves';
}

export interface PolicyTable {
  readonly events: Readonly<Record<string, PolicyEvent>>;
  readonly cascade: { readonly hold: 'none' | 'hold' };
  readonly releasable: readonly HolderKind[];
  /** A duration, as in configurations. */
  readonly lossSpan: string;
}

/** A table without events. */
export const noPolicy: PolicyTable = {
  events: {},
  cascade: { hold: 'none' },
  releasable: [],
  lossSpan: '0s',
};
