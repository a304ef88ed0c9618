import type { Registry } from 'prom-client';
import { durationMs } from '../../core/config/duration.ts';
import { makeRegistry, serveMetrics } from '../../core/http/metrics.ts';
import type { CrlService } from '../../crl/node/service.ts';
import type { LocalOcspService } from '../../ocsp/node/service.ts';
import { Followers } from '../api/followers.ts';
import type { Observed } from '../api/observed.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import type { Node } from './node.ts';
import { apiMetrics } from './service-metrics.ts';

// What the service tells of itself: to the API, to Prometheus, and to load balancers.

/** What the API tells of the rest. */
export function observedOf(
  { pool, clock }: Node,
  {
    crl,
    ocsp,
    registry,
  }: { readonly crl: CrlService; readonly ocsp: LocalOcspService; readonly registry: Registry },
): Observed {
  return {
    startedMs: clock.wallMs(),
    published: crl.published,
    signed: () => pool.signed,
    waiting: () => pool.waiting,
    ocspAnswers: () => [...ocsp.answered().byKind.values()].reduce((sum, each) => sum + each, 0),
    followers: new Followers(),
    answered: apiMetrics(registry),
  };
}

/** Serves metrics from the start on; the process is ready once `reasons` gives none. */
export async function openMetrics(
  { config }: Node,
  opened: AsyncDisposableStack,
): Promise<{ readonly registry: Registry; readonly probe: { reasons: () => Promise<readonly string[]> } }> {
  const registry = makeRegistry();
  const probe = { reasons: async (): Promise<readonly string[]> => ['the service is starting'] };
  if (!config.metrics) return { registry, probe };
  const metrics = await serveMetrics(registry, config.metrics, () => probe.reasons());
  opened.defer(() => metrics.close());
  return { registry, probe };
}

/** Why the API should be sent no requests: the record, all of a token's copies, the clock, or its own responder. */
export async function unreadiness(
  { config, clock }: Node,
  ca: CertificateAuthority,
  ocsp: LocalOcspService,
): Promise<readonly string[]> {
  await ca.checkHealth();
  const reasons: string[] = [];
  if (ocsp.lagMs() > durationMs(config.ocsp.feedLagMax))
    reasons.push('the feed lags: OCSP requests are answered tryLater');
  if (clock.wallMs() - clock.machine.wallMs() > 1000)
    reasons.push('the clock is behind the record’s time: nothing is issued');
  return reasons;
}
