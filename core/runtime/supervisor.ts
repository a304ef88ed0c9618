import { execFile } from 'node:child_process';
import type { Logger } from 'pino';

// systemd as a supervisor (sd_notify(3)): it is told when the service is ready, that it is alive, and that it stops. Node has no datagram
// sockets of a file, so `systemd-notify`, which is there where systemd is, sends what is said. Elsewhere nothing is said.

/** So much of the time after which systemd ends a service that says nothing. */
const aliveShare = 0.4;

export interface Supervisor {
  ready(): void;
  stopping(): void;
}

/** Says that the process is alive, from its event loop, until it stops: one that hangs says nothing, and is ended and started again. */
export function supervisor(environment: NodeJS.ProcessEnv, logger: Logger): Supervisor {
  const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: watchdogMicros } = environment;
  if (!socket) return { ready: () => undefined, stopping: () => undefined };
  let isRefused = false;
  const say = (...what: string[]): void => {
    execFile('systemd-notify', what, { env: { ...environment, NOTIFY_SOCKET: socket } }, (error) => {
      if (error && !isRefused)
        logger.error({ reason: error.message }, 'systemd cannot be told how the service is');
      isRefused = error !== null;
    });
  };
  let timer: NodeJS.Timeout | undefined;
  return {
    ready: () => {
      say('--ready');
      const everyMs = (Number(watchdogMicros ?? 0) / 1000) * aliveShare;
      if (everyMs > 0) timer = setInterval(() => say('WATCHDOG=1'), everyMs).unref();
    },
    stopping: () => {
      clearInterval(timer);
      say('STOPPING=1');
    },
  };
}
