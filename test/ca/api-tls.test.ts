import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, type SecureVersion } from 'node:tls';
import { afterAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../ca/config/config.ts';
import { namedClient } from '../support/actors.ts';
import {
  dataFolder,
  openssl,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

afterAll(removeScratch);

/** The version of TLS that the API speaks with a client that knows one, or the error. */
function speaks({ folder, service }: TestService, version: SecureVersion): Promise<string> {
  const { hostname, port } = new URL(service.addresses.api);
  const file = (...path: string[]): Buffer => readFileSync(join(folder, ...path));
  return new Promise((resolve) => {
    const socket = connect({
      host: hostname,
      port: Number(port),
      ca: file('tls', 'operations-ca.pem'),
      key: file('clients', 'first.key'),
      cert: file('clients', 'first.pem'),
      minVersion: version,
      maxVersion: version,
    });
    socket.once('secureConnect', () => {
      resolve(socket.getProtocol() ?? '');
      socket.destroy();
    });
    socket.once('error', ({ message }) => resolve(message));
  });
}

describe('the API’s TLS certificate', () => {
  it('is for the names and addresses configured, and is made again when they change', async () => {
    const folder = await dataFolder({ api: { names: ['ca.example.jp', '127.0.0.9', 'fd00::5'] } });
    const first = await startTestService({ folder });
    const certificate = join(folder, 'tls', 'api.pem');
    const names = () => openssl('x509', '-in', certificate, '-noout', '-ext', 'subjectAltName');
    expect(names()).toContain(
      'DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1, DNS:ca.example.jp, IP Address:127.0.0.9, IP Address:FD00:0:0:0:0:0:0:5',
    );
    await first.close();
    const unchanged = readFileSync(certificate);
    await (await startTestService({ folder })).close();
    expect(readFileSync(certificate)).toEqual(unchanged);

    const file = join(folder, 'warifu.json');
    const config = JSON.parse(readFileSync(file, 'utf8')) as { api: { names: string[]; host?: string } };
    config.api.names = ['other.example.jp', '127.0.0.9'];
    config.api.host = '0.0.0.0';
    writeFileSync(file, JSON.stringify(config));
    const test = await startTestService({ folder });
    expect(names()).toContain('DNS:other.example.jp');
    expect(names()).not.toContain('ca.example.jp');
    expect(names()).not.toContain('0.0.0.0');
    // A caller elsewhere, who checks the certificate for the address it knows.
    const { port } = new URL(test.service.addresses.api);
    const elsewhere = namedClient(folder, `https://127.0.0.9:${port}`, 'first');
    expect((await elsewhere.get('/health')).status).toBe(200);
    const unnamed = namedClient(folder, `https://127.0.0.8:${port}`, 'first');
    await expect(unnamed.get('/health')).rejects.toThrow(/altnames/);
    await elsewhere.close();
    await unnamed.close();
    await test.close();
  });

  it('speaks TLS 1.2 where that is configured', async () => {
    const test = await startTestService({ overrides: { api: { tlsMin: 'TLSv1.2' } } });
    expect(await speaks(test, 'TLSv1.2')).toBe('TLSv1.2');
    expect(await speaks(test, 'TLSv1.3')).toBe('TLSv1.3');
    await test.close();
  });

  it.each(['*.example.jp', 'a b', 'ca_1', 'https://ca.example', 'fe80::1%eth0', '', '-x'])(
    'is not for %j, which is no name',
    (name) => {
      expect(() => parseConfig({ api: { names: [name] } })).toThrow(/api\/names/);
    },
  );
});
