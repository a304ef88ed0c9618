import { type CompletionContext, plannerOf } from '../issue/completion.ts';
import { planShortened, planUnconfirmed } from '../policy/policy.ts';

/** Ends what was renewed, and whose overlap with its successor has passed. */
export function endOverlaps(ca: CompletionContext): Promise<void> {
  return ca.store.endOverlaps(plannerOf(ca));
}

/** Settles what was not confirmed in time. */
export function endWaits({ store, config, clock }: CompletionContext): Promise<void> {
  const { unconfirmed } = config.activation;
  const event = 'not-confirmed-in-time';
  return store.endWaits((issuanceId) =>
    planUnconfirmed(config.policy, { issuanceId, unconfirmed, event }, clock.wallMs()),
  );
}

/** Ends what outlives a card whose last day was moved forward. */
export function endShortened({ store, config, clock }: CompletionContext): Promise<void> {
  const nowMs = clock.wallMs();
  return store.endShortened((mediumId) => planShortened(config.policy, mediumId, nowMs));
}
