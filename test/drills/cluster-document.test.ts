import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, it } from 'vitest';
import { Session } from '../../store/postgres/session.ts';
import { removeScratch, scratch } from '../support/harness.ts';
import { postgresPrograms, startPostgres, type TestPostgres } from '../support/postgres-server.ts';

// docs/CLUSTER.md: its walk-through runs, from the first command to the last.

const root = new URL('../..', import.meta.url).pathname;
const document = readFileSync(join(root, 'docs/CLUSTER.md'), 'utf8');
const block = (name: string): string =>
  new RegExp(`\`\`\`sh ${name}\n([\\s\\S]*?)\`\`\``).exec(document)?.[1] ?? '';

let postgres: TestPostgres | undefined;
const folder = scratch();

afterAll(async () => {
  await promisify(execFile)(
    'sh',
    ['-c', 'for lock in ca-*/owner.lock.holder; do kill $(grep -o "[0-9]*$" $lock); done; sleep 3'],
    { cwd: folder },
  );
  postgres?.stop('immediate');
  postgres?.remove();
  removeScratch();
});

it('three nodes on one machine issue, revoke and answer, and one of them dies and comes back', {
  timeout: 180_000,
}, async () => {
  postgres = await startPostgres();
  const session = await Session.open(postgres.server, { name: 'by hand' });
  await session.query('CREATE DATABASE warifu');
  await session.close();
  writeFileSync(join(folder, 'password'), postgres.password);
  const programs = join(folder, 'programs');
  mkdirSync(programs);
  symlinkSync(join(root, 'ca', 'warifu'), join(programs, 'warifu'));
  const commands = ['configure', 'join', 'use', 'kill'].map(block);
  for (const each of commands) expect(each).not.toBe('');
  const { SOFTHSM2_CONF: _, ...environment } = process.env;
  const { stdout } = await promisify(execFile)('bash', ['-eux', '-c', commands.join('\n')], {
    cwd: folder,
    timeout: 150_000,
    env: {
      ...environment,
      PATH: `${programs}:${postgresPrograms()}:${process.env.PATH}`,
      PORT: String(postgres.port),
      PASSWORD: join(folder, 'password'),
    },
  }).catch((error: { stderr: string }) => {
    throw new Error(error.stderr.slice(-2000));
  });
  const lines = stdout.split('\n').filter((line) => line.startsWith('card.pem:'));
  expect(lines).toEqual(['card.pem: good', 'card.pem: revoked']);
});
