import { resolve } from 'node:path';
import { Command } from 'commander';
import { type Logger, pino } from 'pino';
import { type Clock, systemClock } from './clock.ts';
import { PkiError } from './errors.ts';

/** Runs a service until SIGTERM or SIGINT, then lets it finish what it has begun. Exit code 1 where either fails. */
export async function runUntilSignal(
  logger: Logger,
  start: () => Promise<{ readonly address?: string; close(): Promise<void> }>,
): Promise<void> {
  const service = await start().catch((error: unknown) => {
    fail(error);
    return undefined;
  });
  if (!service) return;
  if (service.address) process.stdout.write(`listening at ${service.address}\n`);
  const stop = (signal: string): void => {
    logger.info({ signal }, 'stopping');
    service.close().then(
      () => logger.info('stopped'),
      (error: Error) => {
        logger.error({ reason: error.message }, 'stopping failed');
        process.exitCode = 1;
      },
    );
  };
  process.once('SIGTERM', () => stop('SIGTERM'));
  process.once('SIGINT', () => stop('SIGINT'));
}

/** Does something now and then, never twice at once; a failure is logged, and the next turn comes all the same. */
export function repeat(
  ms: number,
  act: () => Promise<void>,
  logger: Logger,
  failure: string,
): () => Promise<void> {
  let running: Promise<void> | undefined;
  const timer = setInterval(() => {
    running ??= act()
      .catch((error: Error) => logger.error({ reason: error.message }, failure))
      .finally(() => {
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
  }) => Promise<{ readonly address: string; close(): Promise<void> }>,
): Promise<void> {
  const program = new Command(name)
    .description(description)
    .option('--data <folder>', 'data folder, with node.json and responders.json', 'data')
    .option('--reconcile', 'after the CA was restored: follow the new record from its start');
  const { data, reconcile = false } = program.parse().opts<{ data: string; reconcile?: boolean }>();
  const logger = pino({ base: null }, pino.destination(2));
  await runUntilSignal(logger, () => start({ folder: resolve(data), clock: systemClock, logger, reconcile }));
}

/** One line for a refusal, a stack for a fault of ours. */
export function fail(error: unknown): void {
  const what = error instanceof PkiError ? `${error.code}: ${error.message}` : (error as Error).stack;
  process.stderr.write(`warifu: ${what}\n`);
  process.exitCode = 1;
}
