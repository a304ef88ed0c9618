import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cardRequest, makeChipKey } from './support/actors.ts';
import { issueCard, removeScratch, scratch, startTestService, type TestService } from './support/harness.ts';
import { installPackage, useOptions } from './support/package-use.ts';

// The package `@warifu/client`: built, packed, installed from its tarball, compiled against, and used against the real service and one that fails.

const root = new URL('..', import.meta.url).pathname;
let test: TestService;
let use: string;

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
}
/** As the package has them; its types are those of a program that is compiled below. */
interface Package {
  WarifuClient: new (
    options: object,
  ) => {
    call(name: string, input: object, options?: object): Promise<Answer>;
    close(): void;
  };
  RefusedError: new () => Error;
  NoAnswerError: new () => Error;
}
let client: Package;

const tsc = join(root, 'node_modules', '.bin', 'tsc');
const identity = (address = test.service.addresses.api) => ({
  address,
  key: readFileSync(join(test.folder, 'clients', 'first.key')),
  cert: readFileSync(join(test.folder, 'clients', 'first.pem')),
  ca: readFileSync(join(test.folder, 'tls', 'operations-ca.pem')),
});

beforeAll(async () => {
  test = await startTestService();
  use = installPackage('warifu-client', root, scratch());
  client = (await import(join(use, 'node_modules/@warifu/client/dist/index.js'))) as Package;
}, 60_000);
const servers: Server[] = [];
afterAll(async () => {
  for (const server of servers) server.close();
  await test.close();
  removeScratch();
});

/** A server with the service's certificate that answers as it is told, one answer after the other. */
async function failing(answers: readonly (readonly [status: number, body: object] | 'cut')[]) {
  const keys: (string | undefined)[] = [];
  const tls = {
    key: readFileSync(join(test.folder, 'tls/api.key')),
    cert: readFileSync(join(test.folder, 'tls/api.pem')),
  };
  const server = createServer(tls, (request, response) => {
    keys.push(request.headers['idempotency-key'] as string | undefined);
    const answer = answers[Math.min(keys.length, answers.length) - 1];
    if (answer === 'cut' || !answer) return void request.socket.destroy();
    const [status, body] = answer;
    request.resume();
    response.writeHead(status, {
      'Content-Type': status < 300 ? 'application/json' : 'application/problem+json',
      'Retry-After': '0',
    });
    response.end(JSON.stringify(body));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { address: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, keys };
}

const problem = (status: number, title: string) =>
  [status, { type: `urn:warifu:problem:${title}`, title, status, detail: 'why', instance: '' }] as const;

describe('@warifu/client', () => {
  it('is compiled against: operations, what they take and what they answer are known', () => {
    const [, sample = ''] =
      /```ts\n([\s\S]*?)```/.exec(readFileSync(join(root, 'ca/sdk/README.md'), 'utf8')) ?? [];
    const compile = (program: string) => {
      writeFileSync(join(use, 'sample.ts'), program);
      return spawnSync(tsc, [...useOptions(root), 'sample.ts'], { cwd: use, encoding: 'utf8' }).stdout;
    };
    expect(compile(sample)).toBe('');
    const wrong = `${sample}
void client.call('postEvents', { body: { happened: 'died' } });
void client.call('postNothing', {});
void client.call('getHoldersByHolderId', {});
`;
    expect(compile(wrong).match(/error TS/g)).toHaveLength(3);
  });

  it('issues, looks up, and is told why something is refused', async () => {
    const warifu = new client.WarifuClient(identity());
    const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
    const body = cardRequest(keys, { holderId: 'by-package', cardId: 'card-by-package' });
    const issued = await warifu.call('postCardCertificates', { body }, { idempotencyKey: 'one' });
    expect(issued.status).toBe(201);
    const again = await warifu.call('postCardCertificates', { body }, { idempotencyKey: 'one' });
    expect(again).toEqual(issued);
    const { holderId } = await issueCard(test.api);
    const found = await warifu.call('getHoldersByHolderId', { path: { holderId } });
    expect(found.body).toMatchObject({ holderId });
    const refused = await warifu
      .call('postEvents', { body: { event: 'died', holderId: 'none' } })
      .catch((e) => e);
    expect(refused).toBeInstanceOf(client.RefusedError);
    expect(refused).toMatchObject({ problem: { title: 'not-found', status: 404 } });
    await expect(warifu.call('getHoldersByHolderId', { path: {} })).rejects.toThrow(
      'path.holderId is missing',
    );
    warifu.close();
  });

  it('sends again what had no answer, under one key, until it has one', async () => {
    const { address, keys } = await failing([
      'cut',
      problem(503, 'overloaded'),
      problem(409, 'request-in-progress'),
      [200, { done: true }],
    ]);
    const warifu = new client.WarifuClient({ ...identity(address), serverName: 'localhost' });
    const answer = await warifu.call('postEvents', { body: { event: 'died', holderId: 'x' } });
    expect(answer).toEqual({ status: 200, body: { done: true } });
    expect(keys).toHaveLength(4);
    expect(new Set(keys).size).toBe(1);
    warifu.close();
  });

  it('says so where no attempt has an answer, with the key under which to ask again', async () => {
    const { address, keys } = await failing([problem(503, 'record-unavailable')]);
    const warifu = new client.WarifuClient({ ...identity(address), attempts: 2 });
    const failed = await warifu
      .call('postEvents', { body: { event: 'died', holderId: 'x' } }, { idempotencyKey: 'mine' })
      .catch((error) => error);
    expect(failed).toBeInstanceOf(client.NoAnswerError);
    expect(failed).toMatchObject({
      idempotencyKey: 'mine',
      message: expect.stringContaining('record-unavailable'),
    });
    expect(keys).toEqual(['mine', 'mine']);
    warifu.close();
  });
});
