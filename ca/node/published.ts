import type { Logger } from 'pino';
import { durationMs } from '../../core/config/duration.ts';
import { repeat } from '../../core/runtime/process.ts';
import type { LocalOcspService } from '../../ocsp/node/service.ts';
import type { CertificateAuthority } from '../issue/certificate-authority.ts';
import { FilterPublisher } from './filters.ts';
import { keyLabel, outboxSuite } from './layout.ts';
import type { Node } from './node.ts';
import { placePublicPage, publicPage } from './public-page.ts';
import { signerFor } from './wiring.ts';

// What stands next to the CRLs where they are published.

/** How often the page about CA certificates is compared with what issues. */
const pageMs = 60_000;

/** The page about CA certificates: at once, and again where one was added. */
export function openPublicPage(
  node: Node,
  { config, authorities }: CertificateAuthority,
  logger: Logger,
  opened: AsyncDisposableStack,
): void {
  const place = (): void => placePublicPage(node.layout.published, publicPage(config, authorities.all));
  place();
  const failure = 'the page about CA certificates cannot be published';
  opened.defer(repeat(pageMs, async () => place(), logger, failure));
}

/** Revocation filters, where they are wanted: at once, and now and then. */
export async function openFilters(
  node: Node,
  { index }: LocalOcspService,
  logger: Logger,
  opened: AsyncDisposableStack,
): Promise<void> {
  const { config, clock, layout: paths } = node;
  if (config.filters.use === 'off') return;
  const signer = await signerFor(node, keyLabel.outbox, outboxSuite, 'message', true);
  const publisher = new FilterPublisher({
    ...{ index, signer, folder: paths.published, config: config.filters, clock, logger },
    backdateMs: durationMs(config.issuing.backdate),
  });
  const failure = 'revocation filters cannot be issued';
  void publisher.run().catch((error: Error) => logger.error({ reason: error.message }, failure));
  opened.defer(repeat(durationMs(config.filters.every), () => publisher.run(), logger, failure));
  opened.defer(() => publisher.close());
}
