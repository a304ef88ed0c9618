import type { Logger } from 'pino';

/** Where a thread logs. The logger is loaded with the first line: most threads never write one. */
export function threadLog(): Pick<Logger, 'error'> {
  let loading: Promise<Logger> | undefined;
  const error = (fields: object, message: string): void => {
    loading ??= import('pino').then(({ pino }) => pino({ base: null }, pino.destination(2)));
    void loading.then((logger) => logger.error(fields, message));
  };
  return { error } as Pick<Logger, 'error'>;
}
