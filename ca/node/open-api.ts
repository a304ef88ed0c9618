import type { Logger } from 'pino';
import { buildApi } from '../api/server.ts';
import type { Node } from './node.ts';
import { ensureServerLeaf } from './operations.ts';
import { openTracing } from './tracing.ts';
import { openOperations, operationsCa } from './wiring.ts';

/** The API, with its TLS certificate of the moment. */
export async function openApi(
  node: Node,
  of: Pick<Parameters<typeof buildApi>[0], 'ca' | 'observed'>,
  logger: Logger,
) {
  const operations = await openOperations(node);
  const { tlsMin: minVersion } = node.config.api;
  const leaf = () => ensureServerLeaf(operations, { folder: node.layout.tls, config: node.config });
  const { tracing: wanted, node: name } = node.config;
  const tracing = wanted
    ? await openTracing(wanted, { node: name, folder: node.layout.folder, logger })
    : null;
  const tls = { ...(await leaf()), ca: operationsCa(node) };
  const app = await buildApi({ ...of, tls, logger, tracing });
  const renewLeaf = async (): Promise<void> => {
    (app.server as unknown as { setSecureContext(leaf: object): void }).setSecureContext({
      ...(await leaf()),
      ca: operationsCa(node),
      minVersion,
    });
  };
  return { app, renewLeaf };
}
