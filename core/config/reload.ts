import type { Logger } from 'pino';

// What changes without a restart: the parts of the configuration that a running service reads again.

/** How a configuration that was read again differs. */
export interface Reloaded {
  /** Paths, such as `limits.cards`, that hold from now on. */
  readonly takenUp: readonly string[];
  /** Paths that hold after a restart. */
  readonly afterRestart: readonly string[];
}

type Section = Record<string, unknown>;

const isSection = (value: unknown): value is Section =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Paths at which two configurations differ; lists count as one. */
function differences(before: Section, after: Section, above = ''): string[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return names.flatMap((name) => {
    const [left, right] = [before[name], after[name]];
    if (isSection(left) && isSection(right)) return differences(left, right, `${above}${name}.`);
    return JSON.stringify(left) === JSON.stringify(right) ? [] : [`${above}${name}`];
  });
}

/** Copies the reloadable settings of another configuration into this one; the next reader sees them. */
export function takeUp(config: object, next: object, isSafe: (path: string) => boolean): Reloaded {
  const different = differences(config as Section, next as Section);
  const takenUp = different.filter(isSafe);
  for (const path of takenUp) {
    const names = path.split('.');
    const last = names.pop() ?? '';
    const within = (root: object): Section =>
      names.reduce((section, name) => section[name] as Section, root as Section);
    within(config)[last] = within(next)[last];
  }
  return { takenUp, afterRestart: different.filter((path) => !isSafe(path)) };
}

/** Reads a configuration again on request, one request at a time, and logs the result. */
export function reloading(
  logger: Logger,
  act: () => Promise<Reloaded & { readonly read: readonly string[] }>,
): () => Promise<void> {
  let last: Promise<void> = Promise.resolve();
  return () => {
    last = last.then(async () => {
      try {
        const { takenUp, afterRestart, read } = await act();
        logger.info({ takenUp, afterRestart, read }, 'the configuration was read again');
      } catch (error) {
        const { message: reason } = error as Error;
        logger.error({ reason }, 'the configuration cannot be read again; what was before holds');
      }
    });
    return last;
  };
}
