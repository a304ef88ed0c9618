import type { Logger } from 'pino';
import { probePort } from '../../core/http/listen.ts';
import { WorkerClient, WorkerSupervisor } from '../../core/workers/worker.ts';
import type { CrlOptions } from '../config/options.ts';
import type { ListenerMessage, ListenerStart } from './listener-messages.ts';

export interface Listeners {
  readonly address: string;
  /** From the next request on these are known. */
  setVerifiers(verifiers: CrlOptions['verifiers']): Promise<void>;
  close(): Promise<void>;
}

/** Begins the threads that serve a published folder. Rejects where the port cannot be had. */
export async function startListeners(from: ListenerStart, logger: Logger): Promise<Listeners> {
  let start = from;
  const { host, port, threads } = start.config;
  await probePort(host, port);
  const script = new URL('./listener-thread.ts', import.meta.url);
  const group = new WorkerSupervisor<WorkerClient<ListenerMessage, void>>({
    logger,
    begin: () => ({ thread: new WorkerClient({ script, start }), forget: () => undefined }),
    settle: async ({ thread }) => {
      await thread.request({ type: 'listen' });
    },
  });
  await group.start(threads);
  const address = `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  const setVerifiers: Listeners['setVerifiers'] = async (verifiers) => {
    // Also those that are begun later, in the place of one that ended.
    start = { ...start, config: { ...start.config, verifiers } };
    await Promise.all(group.threads.map((thread) => thread.request({ type: 'verifiers', verifiers })));
  };
  return { address, setVerifiers, close: () => group.close() };
}
