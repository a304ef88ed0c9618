import type { Logger } from 'pino';
import type { ShownTls } from '../../core/config/verifiers.ts';
import { probePort } from '../../core/http/listen.ts';
import type { VerifierFacts } from '../../core/model/verifier.ts';
import { WorkerClient, WorkerSupervisor } from '../../core/workers/worker.ts';
import type { CrlOptions } from '../config/options.ts';
import type { ListenerMessage, ListenerStart } from './listener-messages.ts';

export interface Listeners {
  readonly address: string;
  /** From the next request on it goes by these rules, and from the next handshake on this TLS is shown. */
  setRules(rules: CrlOptions['verifiers'], tls: ShownTls): Promise<void>;
  /** From the next request on these are known. */
  setVerifiers(verifiers: readonly VerifierFacts[]): Promise<void>;
  close(): Promise<void>;
}

/** Begins the threads that serve a published folder; `known` are the verifiers of now. Rejects where the port cannot be had. */
export async function startListeners(
  from: ListenerStart,
  known: () => readonly VerifierFacts[],
  logger: Logger,
): Promise<Listeners> {
  let start = from;
  const { host, port, threads } = start.config;
  await probePort(host, port);
  const script = new URL('./listener-thread.ts', import.meta.url);
  const group = new WorkerSupervisor<WorkerClient<ListenerMessage, void>>({
    logger,
    begin: () => ({ thread: new WorkerClient({ script, start }), forget: () => undefined }),
    settle: async ({ thread }) => {
      await thread.request({ type: 'verifiers', verifiers: known() });
      await thread.request({ type: 'listen' });
    },
  });
  await group.start(threads);
  const address = `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  const sendAll = async (message: ListenerMessage): Promise<void> => {
    await Promise.all(group.threads.map((thread) => thread.request(message)));
  };
  const setRules: Listeners['setRules'] = async (rules, tls) => {
    // Also those that are begun later, in the place of one that ended.
    start = { ...start, config: { ...start.config, verifiers: rules }, tls };
    await sendAll({ type: 'rules', rules, tls });
  };
  const setVerifiers: Listeners['setVerifiers'] = (verifiers) => sendAll({ type: 'verifiers', verifiers });
  return { address, setRules, setVerifiers, close: () => group.close() };
}
