import type { Logger } from 'pino';
import type { TokenMemory } from '../../core/crypto/signer.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { digestsOfNodes, noteDigests } from '../../store/rules/configuration-rules.ts';
import type { Config } from '../config/config.ts';
import { differingKeys, digestsOf } from '../config/meaning.ts';
import { type Node, nodeActor } from './node.ts';

// What a data folder is for: development or production, as its ceremony made it; and what its configuration was at the last start.

/** As the log says it at each start. */
export const modeWords = {
  development:
    'this is development: its first client has every right, and its certificates are for trying it out',
  production: 'this is production',
} as const;

/** What the token remembers of a folder whose ceremony was one of production. One of development remembers nothing. */
const productionMemory = 'production';

/** Has the token remember what a folder's ceremony made it. */
export async function rememberMode(memory: TokenMemory, { mode }: Pick<Config, 'mode'>): Promise<void> {
  if (mode === 'production') await memory.remember(productionMemory, 1);
}

/** Refuses to use a folder as what its ceremony did not make it: the keys of development had one owner, and no second person. */
export async function refuseOtherMode(memory: TokenMemory, { mode }: Pick<Config, 'mode'>): Promise<void> {
  const made = (await memory.recall(productionMemory)) === 1 ? 'production' : 'development';
  if (made === mode) return;
  const act =
    mode === 'production'
      ? 'its keys had one owner; perform a ceremony in a new folder'
      : 'it is used as nothing less: set "mode": "production"';
  throw new PkiError('bad-request', `this folder was made in ${made}, and never becomes ${mode}: ${act}`);
}

/** Says which keys of the configuration differ from those of the last start, and remembers those of this one. */
export async function noteConfiguration(node: Node, logger: Logger): Promise<void> {
  const { database, config, clock } = node;
  const digests = digestsOf(config);
  const before = await noteDigests(database, nodeActor(config), digests, clock.wallMs());
  if (before === undefined) return;
  const keys = [...new Set([...Object.keys(before), ...Object.keys(digests)])].sort();
  const changed = keys.filter((key) => before[key] !== digests[key]);
  if (changed.length > 0)
    logger.info({ changed }, 'the configuration was edited since the last start, and is taken up');
}

/** In which keys the configurations of other nodes that run mean something else, a line for each node. */
export async function differingNodes({ database, config }: Node): Promise<string[]> {
  const others = (await database.otherNodes?.()) ?? [];
  const own = digestsOf(config);
  const digests = await digestsOfNodes(database, others);
  return others.flatMap((node) => {
    const keys = differingKeys(own, digests[node] ?? {});
    return keys.length === 0 ? [] : [`that of ${node} differs in ${keys.join(', ')}`];
  });
}

/** Refuses a configuration that means something else than that of another node that runs. */
export async function refuseOtherMeaning(node: Node): Promise<void> {
  const differing = await differingNodes(node);
  if (differing.length > 0)
    throw new PkiError(
      'bad-request',
      `this configuration is not that of the other nodes: ${differing.join('; ')}; make them alike`,
    );
}
