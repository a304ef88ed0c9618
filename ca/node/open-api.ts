import type { Logger } from 'pino';
import { buildApi } from '../api/server.ts';
import type { Node } from './node.ts';
import { ensureServerLeaf } from './operations.ts';
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
  const app = await buildApi({ ...of, tls: { ...(await leaf()), ca: operationsCa(node) }, logger });
  const renewLeaf = async (): Promise<void> => {
    (app.server as unknown as { setSecureContext(leaf: object): void }).setSecureContext({
      ...(await leaf()),
      ca: operationsCa(node),
      minVersion,
    });
  };
  return { app, renewLeaf };
}
