import type { Logger } from 'pino';
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

/** One line for a refusal, a stack for a fault of ours. */
export function fail(error: unknown): void {
  const what = error instanceof PkiError ? `${error.code}: ${error.message}` : (error as Error).stack;
  process.stderr.write(`warifu: ${what}\n`);
  process.exitCode = 1;
}
