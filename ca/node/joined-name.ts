import { existsSync, readFileSync } from 'node:fs';
import { PkiError } from '../../core/runtime/errors.ts';
import type { Config } from '../config/config.ts';
import type { Layout } from './layout.ts';

/** Refuses a folder that was joined under another name: its chain and checkpoints are those of that. */
export function refuseOtherName({ node }: Pick<Config, 'node'>, paths: Layout): void {
  if (!existsSync(paths.joined)) return;
  const { node: joined } = JSON.parse(readFileSync(paths.joined, 'utf8')) as { node: string };
  if (joined !== node)
    throw new PkiError(
      'bad-request',
      `${paths.folder} has joined as ${joined}, and "node" in ${paths.config} says ${node}: a folder keeps its name; join with another folder for another`,
    );
}
