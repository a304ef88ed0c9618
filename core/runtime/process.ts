import { resolve } from 'node:path';
import { Command } from 'commander';
import { type Logger, pino } from 'pino';
import { type Clock, systemClock } from './clock.ts';
import { defaultDataFolder } from './data-folder.ts';
import { PkiError } from './errors.ts';
import { FailureLog } from './failure-log.ts';
import { supervisor } from './supervisor.ts';

/** What an operator waits for at most once a service was asked to stop; what is not done by then is cut off. */
const stopMs = 15_000;

/**
 * Runs a service, which reads its configuration again on SIGHUP, until SIGTERM or SIGINT, then lets it finish what it has begun; a second signal ends it at once. The process
 * ends here: with exit code 0, or 1 where starting or stopping failed, which is said in one line.
 */
export async function runUntilSignal(
  logger: Logger,
  start: () => Promise<{
    readonly address?: string;
    reload?(): Promise<void>;
    close(): Promise<void>;
  }>,
): Promise<void> {
  const signals = ['SIGTERM', 'SIGINT'] as const;
  const asked = Promise.withResolvers<string>();
  let count = 0;
  const onSignal = (signal: string): void => {
    count += 1;
    asked.resolve(signal);
    if (count > 1) process.exit(1);
  };
  for (const signal of signals) process.on(signal, onSignal);
  let service: Awaited<ReturnType<typeof start>> | undefined;
  process.on('SIGHUP', () => void service?.reload?.());
  try {
    service = await start();
  } catch (error) {
    fail(error);
    process.exit(1);
  }
  if (service.address) process.stdout.write(`listening at ${service.address}\n`);
  const systemd = supervisor(process.env, logger);
  systemd.ready();
  logger.info({ signal: await asked.promise }, 'stopping');
  systemd.stopping();
  setTimeout(() => {
    logger.error({ withinMs: stopMs }, 'stopping takes too long: what is left is cut off');
    process.exit(1);
  }, stopMs).unref();
  try {
    await service.close();
    logger.info('stopped');
  } catch (error) {
    logger.error({ reason: reasonsOf(error) }, 'stopping failed');
    process.exit(1);
  }
  process.exit(0);
}

/** Every step that failed while several were undone (SuppressedError), in one line. */
function reasonsOf(error: unknown): string {
  const { message, error: last, suppressed } = error as Error & { error?: unknown; suppressed?: unknown };
  return last === undefined ? message : `${reasonsOf(last)}; ${reasonsOf(suppressed)}`;
}

/** Does something now and then, never twice at once; a failure is logged, and the next turn comes all the same. */
export function repeat(
  ms: number,
  act: () => Promise<void>,
  logger: Logger,
  failure: string,
): () => Promise<void> {
  let running: Promise<void> | undefined;
  const log = new FailureLog(logger, failure);
  const timer = setInterval(() => {
    running ??= log.watch(act).then(() => {
      running = undefined;
    });
  }, ms).unref();
  return async () => {
    clearInterval(timer);
    await running;
  };
}

/** Runs an OCSP or CRL node as a process of its own. */
export async function runNode(
  name: string,
  description: string,
  start: (options: {
    readonly folder: string;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly reconcile: boolean;
  }) => Promise<{ readonly address: string; reload(): Promise<void>; close(): Promise<void> }>,
): Promise<void> {
  const program = new Command(name)
    .description(description)
    .option(
      '--data <folder>',
      'data folder, with node.json and responders.json; also WARIFU_DATA',
      defaultDataFolder,
    )
    .option('--reconcile', 'after the CA was restored: follow the new record from its start');
  const { data, reconcile = false } = program.parse().opts<{ data: string; reconcile?: boolean }>();
  const logger = pino({ base: null }, pino.destination(2));
  await runUntilSignal(logger, () => start({ folder: resolve(data), clock: systemClock, logger, reconcile }));
}

/**
 * One line for what an operator can mend: a refusal, and what the system, TLS or a parser says of a file, a port or another
 * service. A stack for a fault of ours. With `json` one object, for a program.
 */
export function fail(error: unknown, { json = false }: { readonly json?: boolean } = {}): void {
  const code = error instanceof PkiError ? error.code : ((error as NodeJS.ErrnoException).code ?? 'internal');
  const detail = error instanceof PkiError ? error.message : sayOf(error);
  process.stderr.write(
    json ? `${JSON.stringify({ error: { code, detail } })}\n` : `warifu: ${sayOf(error)}\n`,
  );
  process.exitCode = 1;
}

function sayOf(error: unknown): string {
  if (error instanceof PkiError) return `${error.code}: ${error.message}`;
  const { code, message, stack } = error as NodeJS.ErrnoException;
  const isOutside =
    code !== undefined &&
    /^(E[A-Z]+$|ERR_OSSL|ERR_TLS|UND_ERR|CERT_|UNABLE_TO|SELF_SIGNED|DEPTH_)/.test(code);
  const said = (isOutside ? message : stack) ?? String(error);
  return isOutside ? said.replaceAll('\n', ' ') : said;
}
