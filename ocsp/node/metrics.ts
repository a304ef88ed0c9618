import type { Registry } from 'prom-client';
import { counter, gauge } from '../../core/http/metrics.ts';
import type { AnswerCounts } from './answer-counts.ts';

/** What a responder has answered, and how late it is. */
export function ocspMetrics(
  registry: Registry,
  of: { readonly answered: () => AnswerCounts; readonly lagMs: () => number },
): void {
  counter(registry, {
    name: 'warifu_ocsp_responses_total',
    help: 'OCSP responses given, by responseStatus (RFC 6960, 4.2.1)',
    label: 'status',
    value: () => of.answered().byKind,
  });
  counter(registry, {
    name: 'warifu_ocsp_kept_responses_total',
    help: 'OCSP responses that were signed before and given again',
    value: () => of.answered().kept,
  });
  gauge(registry, {
    name: 'warifu_feed_lag_seconds',
    help: 'How far behind the CA the responder is; beyond ocsp.feedLagMax it signs nothing',
    value: () => of.lagMs() / 1000,
  });
}
