import type { Logger } from 'pino';
import type { Config } from '../core/config.ts';
import { probePort } from '../core/listen.ts';
import { Thread, ThreadGroup } from '../core/thread.ts';

/** What a listening thread begins with. */
export interface ListenerStart {
  /** The published folder. */
  readonly folder: string;
  readonly config: Config['crl'];
  /** See `Clock.shift`. */
  readonly shift: SharedArrayBuffer | null;
}

export interface Told {
  readonly type: 'listen';
}

/** Begins the threads that serve a published folder. Rejects where the port cannot be had. */
export async function startListeners(
  start: ListenerStart,
  logger: Logger,
): Promise<{ readonly address: string; close(): Promise<void> }> {
  const { host, port, threads } = start.config;
  await probePort(host, port);
  const script = new URL('./listener-thread.ts', import.meta.url);
  const group = new ThreadGroup<Thread<Told, void>>({
    logger,
    begin: () => ({ thread: new Thread({ script, start }), forget: () => undefined }),
    settle: async ({ thread }) => {
      await thread.tell({ type: 'listen' });
    },
  });
  await group.start(threads);
  const address = `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  return { address, close: () => group.close() };
}
