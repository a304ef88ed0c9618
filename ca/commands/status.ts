import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { PkiError } from '../../core/runtime/errors.ts';
import { readConfig } from '../config/config.ts';
import { layout } from '../node/layout.ts';
import { type Commands, commandOn } from './command.ts';

interface Options {
  readonly data: string;
  readonly url?: string;
  readonly key?: string;
  readonly cert?: string;
  readonly ca?: string;
  readonly every: string;
  readonly once: boolean;
  readonly json: boolean;
}

/** How the service is, as its API tells an administrator or a reader. */
export const statusCommands: Commands = (program) => {
  commandOn(
    program,
    'status',
    'one screen, live: nodes, lag, queues, rates, what ends, approvals; over the API',
  )
    .option('--url <url>', 'address of the CA API; default: that of the data folder’s configuration')
    .option('--key <file>', 'TLS client key, PEM; default: clients/first.key of the data folder')
    .option('--cert <file>', 'TLS client certificate, PEM; default: clients/first.pem')
    .option('--ca <file>', 'certificate of the operations CA, PEM; default: tls/operations-ca.pem')
    .option('--every <seconds>', 'how often it is looked at', '2')
    .option('--once', 'show it once', false)
    .option('--json', 'print one JSON object, once', false)
    .action(async (options: Options) => {
      const client = await clientOf(options);
      try {
        await (options.once || options.json || !process.stdout.isTTY ? showOnce : showLive)(client, options);
      } finally {
        await client.close();
      }
    });
};

type Client = Awaited<ReturnType<typeof clientOf>>;

async function clientOf({ data, url, key, cert, ca }: Options) {
  const { CaClient } = await import('../client/client.ts');
  const paths = layout(resolve(data));
  const files = {
    key: key ?? join(paths.clients, 'first.key'),
    cert: cert ?? join(paths.clients, 'first.pem'),
    ca: ca ?? paths.operationsCa,
  };
  if (!existsSync(paths.config) && !(url && key && cert && ca))
    throw new PkiError(
      'bad-request',
      `${paths.folder} is no data folder: name one with --data, or --url, --key, --cert and --ca`,
    );
  if (url !== undefined && !/^https:\/\/[^/]+\/?$/.test(url))
    throw new PkiError(
      'bad-request',
      `--url: ${url} is no address of a CA API, as https://127.0.0.1:8443 is one`,
    );
  const missing = Object.entries(files).find(([, file]) => !existsSync(file));
  if (missing) throw new PkiError('bad-request', `--${missing[0]}: there is no file ${missing[1]}`);
  return CaClient.fromFiles({ address: url ?? addressOf(paths.config), ...files });
}

/** Where a service of this machine listens. */
function addressOf(config: string): string {
  const { host, port } = readConfig(config).api;
  return `https://${['0.0.0.0', '::'].includes(host) ? 'localhost' : host}:${port}`;
}

async function showOnce(client: Client, { json }: Options): Promise<void> {
  const { screenOf, statusOf } = await import('../client/status-screen.ts');
  const status = await statusOf(client);
  if (status.health.status !== 'ok') process.exitCode = 1;
  process.stdout.write(json ? `${JSON.stringify(status)}\n` : `${screenOf(status, undefined).join('\n')}\n`);
}

/** Until it is interrupted. A service that cannot be reached is said on the screen, and asked again. */
async function showLive(client: Client, { every }: Options): Promise<void> {
  const { screenOf, statusOf } = await import('../client/status-screen.ts');
  const seconds = Number(every);
  if (!(seconds >= 0.2 && seconds <= 3600))
    throw new PkiError('bad-request', `--every: ${every} is no number of seconds from 0.2 to 3600`);
  const interrupted = new AbortController();
  process.once('SIGINT', () => interrupted.abort());
  const { signal } = interrupted;
  let before: Awaited<ReturnType<typeof statusOf>> | undefined;
  while (!signal.aborted) {
    let lines: string[];
    try {
      const status = await statusOf(client);
      lines = screenOf(status, before, process.stdout.columns || undefined);
      before = status;
    } catch (error) {
      lines = [`the service cannot be reached: ${(error as Error).message.replace(/[\p{Cc}\p{Cf}]/gu, '')}`];
    }
    // From the first line on, without a flicker: each line is cleared to its end, and what is below.
    process.stdout.write(
      `\x1b[H${lines.slice(0, process.stdout.rows || undefined).join('\x1b[K\n')}\x1b[K\x1b[J`,
    );
    await setTimeout(seconds * 1000, undefined, { signal }).catch(() => undefined);
  }
  process.stdout.write('\n');
}
