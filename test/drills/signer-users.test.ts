import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { issueCard, issuePhone, removeScratch, runWarifu, scratch } from '../support/harness.ts';
import { RepeatingClient } from '../support/repeating-client.ts';
import { configure, startProcess, startSignerProcess } from '../support/service-process.ts';

afterAll(removeScratch);

// Numbers that no user of a machine has; their group is both’s.
const users = { signer: 64_001, service: 64_002, group: 64_000 } as const;
const as = (user: 'signer' | 'service'): string[] => [
  ...['setpriv', '--reuid', String(users[user]), '--regid', String(users.group), '--clear-groups'],
];

/** The commands of docs/OPERATIONS.md, for users that this machine has not. */
function commands(): string {
  const text = readFileSync(new URL('../../docs/OPERATIONS.md', import.meta.url), 'utf8');
  const [, block = ''] = /```sh signer\n(.*?)```/s.exec(text) ?? [];
  return block
    .replaceAll('service:warifu', `${users.service}:${users.group}`)
    .replaceAll('root:warifu', `root:${users.group}`)
    .replaceAll('signer:warifu', `${users.signer}:${users.group}`);
}

const isRoot = process.getuid?.() === 0;

// Only root can act as another user.
it.skipIf(!isRoot)(
  'a signer and a service of two users, set up by the commands of OPERATIONS.md, issue and revoke; the service cannot read the PIN or the key',
  async () => {
    const folder = join(scratch(), 'data');
    chmodSync(dirname(folder), 0o755);
    const addresses = await configure(folder, { pkcs11: { isolation: 'signer' } });
    expect((await runWarifu('ceremony', '--data', folder)).code).toBe(0);
    const clients = scratch();
    execFileSync('cp', ['-r', join(folder, 'clients'), join(folder, 'tls'), clients]);
    expect(commands()).toContain(`chown -R ${users.service}:${users.group} .`);
    execFileSync('sh', ['-euc', commands()], { cwd: folder });
    const signer = await startSignerProcess(folder, as('signer'));
    const service = await startProcess(folder, addresses, () => undefined, undefined, as('service'));
    const api = RepeatingClient.named(clients, addresses.api, 'first');
    try {
      const holder = await issueCard(api);
      await issuePhone(api, holder);
      const { body } = await api.post('/events', { event: 'card-lost', cardId: holder.cardId });
      expect((body as { changes: unknown[] }).changes).toHaveLength(4);
      const read = (path: string): string => {
        const [program = '', ...args] = [...as('service'), 'sh', '-c', `cat ${path} 2>&1 || true`];
        return execFileSync(program, args, { cwd: folder, encoding: 'utf8' });
      };
      expect(read('secrets/warifu-ca.pin')).toContain('Permission denied');
      expect(read('secrets/warifu-ocsp.pin')).toMatch(/^\w+\n$/);
      const [token = ''] = execFileSync('grep', ['-rl', 'warifu-ca', 'softhsm/tokens'], {
        cwd: folder,
        encoding: 'utf8',
      }).split('\n');
      expect(read(`${dirname(token)}/*.object`)).toMatch(/Permission denied|No such file/);
      expect(read('signer/log/*')).toMatch(/Permission denied|No such file/);
      // Nor decide what the signer does when it starts again.
      for (const place of [
        'warifu.json',
        'signer',
        'softhsm',
        'secrets',
        'softhsm/softhsm2.conf',
        'secrets/warifu-ca.pin',
        token.split('/').slice(0, 3).join('/'),
      ]) {
        const [program = '', ...args] = [...as('service'), 'mv', place, `${place}.old`];
        expect(spawnSync(program, args, { cwd: folder }).status, place).not.toBe(0);
      }
      expect(service.log() + signer.log()).not.toContain('ALARM');
    } finally {
      await api.close();
      await service.stop();
      await signer.stop();
    }
    // A service that could write the configuration could have its own code run as the signer.
    chownSync(join(folder, 'warifu.json'), users.service, users.group);
    await expect(startSignerProcess(folder, as('signer'))).rejects.toThrow(/warifu.json is another user’s/);
    const { code, output } = await runWarifu('signer', '--verify', '--data', folder);
    expect([code, /^\d+ signatures\n$/.test(output)]).toEqual([0, true]);
  },
  60_000,
);
