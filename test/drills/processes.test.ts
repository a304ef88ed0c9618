import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import type { Issued } from '../../ca/client/client.ts';
import { FileLock } from '../../core/runtime/file-lock.ts';
import { cardRequest, makeChipKey, namedClient } from '../support/actors.ts';
import { fileOf, openssl, removeScratch, scratch, warifu } from '../support/harness.ts';
import { configure, type ServiceProcess, startProcess } from '../support/service-process.ts';

// Starting, stopping, and who may have a data folder: with processes as an operator runs them.

const root = new URL('../..', import.meta.url).pathname;
const running: ServiceProcess[] = [];
afterEach(async () => {
  for (const service of running.splice(0)) {
    service.child.kill('SIGKILL');
    await service.exited;
  }
});
afterAll(removeScratch);

async function begin(overrides: Record<string, object> = {}) {
  const folder = join(scratch(), 'data');
  const addresses = await configure(folder, overrides);
  const service = await startProcess(folder, addresses);
  running.push(service);
  return { folder, service, addresses };
}

/** One line and no more, without a stack. */
function expectLine(output: string, message: RegExp): void {
  const lines = output.split('\n').filter((line) => line.startsWith('warifu:'));
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(message);
  expect(output).not.toMatch(/^\s+at /m);
  expect(output).not.toMatch(/node:internal|file:\/\//);
}

async function stopsWithin(service: ServiceProcess, ms: number): Promise<void> {
  const start = performance.now();
  service.child.kill('SIGTERM');
  expect(await service.exited).toBe(0);
  expect(performance.now() - start).toBeLessThan(ms);
}

describe('a data folder has one owner', () => {
  it('and its lock dies with it, also by SIGKILL', () => {
    const file = join(scratch(), 'a.lock');
    const script = `import { FileLock } from ${JSON.stringify(join(root, 'core/runtime/file-lock.ts'))}; FileLock.acquire(process.argv[1], { what: 'a test' }); console.log('held'); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, file], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    return new Promise<void>((resolve, reject) => {
      child.stdout.once('data', () => {
        expect(() => FileLock.acquire(file, { what: 'another' })).toThrow(/is held by a test, process \d+/);
        child.once('exit', () => {
          try {
            FileLock.acquire(file, { what: 'another' }).release();
            resolve();
          } catch (error) {
            reject(error);
          }
        });
        child.kill('SIGKILL');
      });
    });
  });

  it('a second process learns who has it, and touches nothing; after SIGKILL it can be had again', async () => {
    const { folder, service, addresses } = await begin();
    const before = readFileSync(join(folder, 'ceremony.json'), 'utf8');
    for (const args of [
      ['start'],
      ['ceremony'],
      ['erase-year', '2020'],
      ['restore', join(folder, 'record.db'), '--journal', join(folder, 'ocsp', 'journal.ndjson')],
    ]) {
      const { code, output } = warifu(...args, '--data', folder);
      expect(code).toBe(1);
      expectLine(output, /in-use: .*owner\.lock is held by the service \(start\), process \d+/);
    }
    expect(readFileSync(join(folder, 'ceremony.json'), 'utf8')).toBe(before);
    service.child.kill('SIGKILL');
    await service.exited;
    const again = await startProcess(folder, addresses);
    running.push(again);
    await stopsWithin(again, 5000);
  }, 60_000);

  it('commands that may run while the service does do no harm, and never overwrite', async () => {
    const { folder, service } = await begin();
    expect(warifu('client', 'second', '--data', folder).code).toBe(0);
    const key = readFileSync(join(folder, 'clients', 'second.key'), 'utf8');
    const { code, output } = warifu('client', 'second', '--data', folder);
    expect(code).toBe(1);
    expectLine(output, /second\.key exists, and nothing is overwritten/);
    expect(readFileSync(join(folder, 'clients', 'second.key'), 'utf8')).toBe(key);
    expect(warifu('audit', 'verify', '--data', folder).code).toBe(0);
    expect(service.log()).not.toMatch(/ALARM|"level":50/);
    await stopsWithin(service, 5000);
  }, 60_000);

  it('a generation that is added reaches the running service, without an alarm', async () => {
    const { folder, service, addresses } = await begin();
    const api = namedClient(folder, addresses.api, 'first');
    expect(warifu('generation', '--suite', 'p384-sha384', '--data', folder).output).toMatch(
      /signing-2 p384-sha384/,
    );
    const p384 = (): string => {
      const pem = openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-384').replace(
        /^[.+*\s]+/,
        '',
      );
      return openssl('req', '-new', '-sha384', '-key', fileOf(pem), '-subj', '/CN=x').replace(
        /-----[^-]+-----|\s/g,
        '',
      );
    };
    let issued: Issued | undefined;
    for (const until = performance.now() + 15_000; !issued && performance.now() < until; ) {
      const body = cardRequest(
        {},
        { holderId: 'p384', cardId: 'p384', requests: { signing: p384(), authentication: p384() } },
      );
      const answer = await api.post<Issued>('/card-certificates', body);
      if (answer.status === 201) issued = answer.body;
      else await new Promise((done) => setTimeout(done, 300));
    }
    expect(issued?.certificates.map(({ authority }) => authority)).toEqual(['signing-2', 'authentication-2']);
    const pem = issued?.certificates[0]?.certificate ?? '';
    const ca = fileOf(
      openssl(
        'x509',
        '-inform',
        'DER',
        '-in',
        fileOf(Buffer.from(await (await fetch(`${addresses.crl}/ca/signing-2.cer`)).arrayBuffer())),
      ),
    );
    expect(
      openssl('ocsp', '-issuer', ca, '-cert', fileOf(pem), '-url', addresses.ocsp, '-CAfile', ca),
    ).toMatch(/: good/);
    const crl =
      /URI:(http:.*)/.exec(
        openssl('x509', '-in', fileOf(pem), '-noout', '-ext', 'crlDistributionPoints'),
      )?.[1] ?? '';
    expect((await fetch(crl)).status).toBe(200);
    // RSA cards go on as before.
    const rsa = cardRequest(
      { signing: await makeChipKey(), authentication: await makeChipKey() },
      { holderId: 'rsa', cardId: 'rsa' },
    );
    expect((await api.post('/card-certificates', rsa)).status).toBe(201);
    expect(service.log()).not.toMatch(/ALARM|"level":50/);
    await api.close();
    await stopsWithin(service, 5000);
  }, 90_000);
});

describe('a start that fails', () => {
  const wrong = async (config: object | string, prepare: (folder: string) => void = () => undefined) => {
    const folder = join(scratch(), 'data');
    await configure(folder);
    const file = join(folder, 'warifu.json');
    const text =
      typeof config === 'string'
        ? config
        : JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...config });
    writeFileSync(file, text);
    prepare(folder);
    const { code, output } = warifu('start', '--data', folder);
    expect(code).toBe(1);
    return output;
  };

  it.each<[string, object | string, RegExp]>([
    ['a configuration that is no JSON', '{', /bad-request: configuration: .*warifu\.json/],
    ['an unknown key', { ocps: {} }, /bad-request: configuration: .*ocps|additional/],
    [
      'a module that is not there',
      { pkcs11: { module: '/none.so' } },
      /token-unavailable: no PKCS#11 module at \/none\.so/,
    ],
    [
      'a module that is none',
      { pkcs11: { module: '/etc/passwd' } },
      /token-unavailable: loading \/etc\/passwd/,
    ],
    [
      'TLS files that are not there',
      { ocsp: { verifiers: { tls: { port: 1, key: 'none.key', cert: 'none.pem', ca: 'none.pem' } } } },
      /none\.key/,
    ],
    [
      'an address that this machine has not',
      { api: { host: '192.0.2.1', port: 8443 } },
      /in-use: cannot listen at 192\.0\.2\.1:8443: this machine has no such address/,
    ],
    ['a list of keys that is none', { issuing: { debianBlocklists: ['/etc/passwd'] } }, /passwd/],
  ])(
    'by %s says why in a line',
    async (_what, config, message) => {
      expectLine(await wrong(config), message);
    },
    60_000,
  );

  it('by a port that is taken says so, closes what it opened, and starts once it is free', async () => {
    const folder = join(scratch(), 'data');
    const addresses = await configure(folder);
    for (const which of ['api', 'ocsp', 'crl'] as const) {
      const taken: Server = createServer();
      await new Promise<void>((done) =>
        taken.listen(Number(new URL(addresses[which]).port), '127.0.0.1', done),
      );
      const { code, output } = warifu('start', '--data', folder);
      expect(code).toBe(1);
      expectLine(output, /in-use: cannot listen at 127\.0\.0\.1:\d+: another process listens there/);
      await new Promise((done) => taken.close(done));
    }
    const service = await startProcess(folder, addresses);
    running.push(service);
    await stopsWithin(service, 5000);
  }, 90_000);

  it('by a secret that others can read names the file', async () => {
    const { folder, service, addresses } = await begin();
    await stopsWithin(service, 5000);
    const readable = [
      ['secrets/warifu-ca.pin', 0o644],
      ['secrets/warifu-ocsp.pin', 0o640],
      ['tls/api.key', 0o604],
    ] as const;
    for (const [file, mode] of readable) {
      const path = join(folder, file);
      chmodSync(path, mode);
      const { code, output } = warifu('start', '--data', folder);
      expect(code).toBe(1);
      expectLine(output, new RegExp(`${file.replace('.', '\\.')} can be read or written by others`));
      chmodSync(path, 0o600);
    }
    running.push(await startProcess(folder, addresses));
  }, 90_000);

  it('of a node, whose CA is out of reach or whose files are wrong, is a line or a service that waits', async () => {
    const folder = join(scratch(), 'node');
    mkdirSync(folder);
    const node = (name: string) =>
      spawnSync(process.execPath, [join(root, name, 'main.ts'), '--data', folder], {
        encoding: 'utf8',
        timeout: 20_000,
      });
    for (const name of ['ocsp', 'crl']) {
      const { status, stderr } = node(name);
      expect(status).toBe(1);
      expectLine(stderr, /node\.json/);
    }
  }, 60_000);
});

describe('stopping', () => {
  it('takes under 2 s with followers and other clients attached', async () => {
    const { folder, service, addresses } = await begin();
    const output = warifu('client', 'follower', '--data', folder).output;
    const fingerprint = /fingerprint ([0-9a-f]{64})/.exec(output)?.[1];
    const api = namedClient(folder, addresses.api, 'first');
    await api.post('/clients', { fingerprint, name: 'follower', roles: ['follower', 'ocsp'], desks: [] });
    const follower = spawn(
      'curl',
      [
        '-sN',
        '--cert',
        `${folder}/clients/follower.pem`,
        '--key',
        `${folder}/clients/follower.key`,
        '--cacert',
        `${folder}/tls/operations-ca.pem`,
        `${addresses.api}/v1/feed`,
      ],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    );
    await new Promise((done) => follower.stdout.once('data', done));
    const idle = await import('node:net').then(({ connect }) =>
      Promise.all(
        [addresses.ocsp, addresses.crl, addresses.api].map((address) => {
          const socket = connect(Number(new URL(address).port), '127.0.0.1');
          socket.on('error', () => undefined);
          return new Promise<typeof socket>((done) => socket.once('connect', () => done(socket)));
        }),
      ),
    );
    await stopsWithin(service, 2000);
    for (const socket of idle) socket.destroy();
    follower.kill();
    await api.close();
  }, 60_000);

  it('by a second signal is at once', async () => {
    const { service } = await begin();
    const start = performance.now();
    service.child.kill('SIGTERM');
    await new Promise((done) => setTimeout(done, 5));
    service.child.kill('SIGTERM');
    await service.exited;
    expect(performance.now() - start).toBeLessThan(1500);
  }, 60_000);

  it('where one step fails does the others, says which, and ends', async () => {
    const { folder, service } = await begin();
    // What stopping wants to write, it cannot: the token's folder and the audit folder are gone.
    rmSync(join(folder, 'audit'), { recursive: true, force: true });
    writeFileSync(join(folder, 'audit'), 'in the way');
    service.child.kill('SIGTERM');
    expect(await service.exited).toBe(1);
    expect(service.log()).toMatch(/stopping failed/);
    rmSync(join(folder, 'audit'));
    const again = await startProcess(folder, service.addresses);
    running.push(again);
    await stopsWithin(again, 5000);
  }, 60_000);

  it('by SIGTERM to npm start stops the service', async () => {
    const folder = join(scratch(), 'data');
    const addresses = await configure(folder);
    const npm = spawn('npm', ['start', '--', '--data', folder], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    await new Promise<void>((done) =>
      npm.stdout.on('data', (chunk) => String(chunk).includes('Warifu is running') && done()),
    );
    const isUp = async (): Promise<boolean> =>
      fetch(`${addresses.crl}/crl/index.json`).then(
        () => true,
        () => false,
      );
    expect(await isUp()).toBe(true);
    npm.kill('SIGTERM');
    await new Promise((done) => npm.once('exit', done));
    for (const until = performance.now() + 5000; (await isUp()) && performance.now() < until; )
      await new Promise((done) => setTimeout(done, 50));
    expect(await isUp()).toBe(false);
    // The folder is free: nothing of it runs on.
    FileLock.acquire(join(folder, 'owner.lock'), { what: 'a test', waitMs: 3000 }).release();
  }, 90_000);
});

describe('secrets', () => {
  /** This process's children and theirs. */
  const familyOf = (child: ChildProcess): number[] => {
    const parents = new Map<number, number>();
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        parents.set(
          Number(pid),
          Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]),
        );
      } catch (error) {
        // It ended meanwhile.
        expect((error as NodeJS.ErrnoException).code).toBeDefined();
      }
    }
    const family = [child.pid ?? 0];
    for (const pid of family) for (const [of, parent] of parents) if (parent === pid) family.push(of);
    return family;
  };

  it('stand in no log, error, argument or environment of any process of ours', async () => {
    const { folder, service, addresses } = await begin({ pkcs11: { isolation: 'processes' } });
    const api = namedClient(folder, addresses.api, 'first');
    await api.post(
      '/card-certificates',
      cardRequest({ signing: await makeChipKey(), authentication: await makeChipKey() }),
    );
    await api.post('/card-certificates', { nonsense: true });
    const errors = [warifu('start', '--data', folder), warifu('erase-year', 'x', '--data', folder)].map(
      ({ output }) => output,
    );
    const text = (file: string): string => readFileSync(join(folder, file), 'utf8');
    const keys = ['tls/api.key', 'clients/first.key'].map((file) => text(file).split('\n')[1] ?? '');
    const secrets = [text('secrets/warifu-ca.pin').trim(), text('secrets/warifu-ocsp.pin').trim(), ...keys];
    for (const secret of secrets) expect(secret.length).toBeGreaterThan(20);
    const family = familyOf(service.child);
    expect(family.length).toBeGreaterThan(2);
    const seen = [
      service.log(),
      ...errors,
      ...family.flatMap((pid) =>
        ['cmdline', 'environ'].map((file) => readFileSync(`/proc/${pid}/${file}`, 'latin1')),
      ),
      existsSync(join(folder, 'ceremony.json')) ? text('ceremony.json') : '',
    ].join('\n');
    for (const secret of secrets) expect(seen).not.toContain(secret);
    await api.close();
    await stopsWithin(service, 5000);
  }, 60_000);

  it('of the environment are inherited by no other process, and reach signing processes all the same', async () => {
    const folder = join(scratch(), 'data');
    const addresses = await configure(folder, {
      pkcs11: { isolation: 'processes', caToken: { pinEnvironment: 'WARIFU_TEST_PIN' } },
    });
    // The ceremony takes the PIN that is there.
    process.env.WARIFU_TEST_PIN = 'f00dfeedf00dfeedf00dfeedf00dfeed';
    try {
      const service = await startProcess(folder, addresses);
      running.push(service);
      const [own = 0, ...children] = familyOf(service.child);
      expect(own).toBe(service.child.pid);
      expect(children.length).toBeGreaterThan(1);
      for (const pid of children)
        for (const file of ['cmdline', 'environ'])
          expect(readFileSync(`/proc/${pid}/${file}`, 'latin1')).not.toContain('f00dfeed');
      const api = namedClient(folder, addresses.api, 'first');
      expect(
        (
          await api.post(
            '/card-certificates',
            cardRequest({ signing: await makeChipKey(), authentication: await makeChipKey() }),
          )
        ).status,
      ).toBe(201);
      await api.close();
    } finally {
      delete process.env.WARIFU_TEST_PIN;
    }
  }, 60_000);
});
