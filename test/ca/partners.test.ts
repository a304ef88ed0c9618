import 'reflect-metadata';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { CaClient } from '../../ca/client/client.ts';
import { parseConfig } from '../../ca/config/config.ts';
import { productionFaults } from '../../ca/config/production.ts';
import {
  dataFolder,
  issueCard,
  issuePhone,
  openssl,
  removeScratch,
  scratch,
  startTestService,
} from '../support/harness.ts';
import { Receiver } from '../support/tsm.ts';

// Connections to those who take orders, notices and questions.

afterAll(removeScratch);

/** A CA of partners, with a server's and our client's key and certificate, PEM files. */
function partners(): Record<'ca' | 'serverKey' | 'serverCert' | 'clientKey' | 'clientCert', string> {
  const folder = scratch();
  const file = (name: string) => join(folder, name);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    file('ca.key'),
    '-out',
    file('ca.pem'),
    '-subj',
    '/CN=partners',
    '-days',
    '9',
  );
  for (const name of ['server', 'client']) {
    openssl(
      'req',
      ...key,
      '-keyout',
      file(`${name}.key`),
      '-out',
      file(`${name}.csr`),
      '-subj',
      `/CN=${name}`,
    );
    writeFileSync(file('ext'), 'subjectAltName=IP:127.0.0.1');
    const issuer = ['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial', '-days', '9'];
    openssl(
      'x509',
      '-req',
      '-in',
      file(`${name}.csr`),
      ...issuer,
      '-extfile',
      file('ext'),
      '-out',
      file(`${name}.pem`),
    );
    chmodSync(file(`${name}.key`), 0o600);
  }
  return {
    ca: file('ca.pem'),
    serverKey: file('server.key'),
    serverCert: file('server.pem'),
    clientKey: file('client.key'),
    clientCert: file('client.pem'),
  };
}

/** A phone that was given up: two keys are to be deleted. */
async function givenUp(api: CaClient): Promise<void> {
  const { deviceId } = await issuePhone(api, await issueCard(api));
  expect((await api.post('/events', { event: 'phone-given-up', deviceId })).status).toBe(200);
}

describe('a partner that wants TLS and a client certificate', () => {
  it('gets orders, and gets none from a CA without one', async () => {
    const { ca, serverKey, serverCert, clientKey, clientCert } = partners();
    const [key, cert, trusted] = [serverKey, serverCert, ca].map((file) => readFileSync(file, 'utf8'));
    const tsm = await Receiver.start({ key: key ?? '', cert: cert ?? '', ca: trusted ?? '' });
    const common = { tsm: tsm.url, ca, retryFirst: '50ms', retryMost: '100ms' };
    const activation = { phone: 'at-once' };
    const known = await startTestService({
      folder: await dataFolder({ notices: { ...common, clientKey, clientCert }, activation }),
    });
    tsm.trust(known.folder);
    await givenUp(known.api);
    await expect.poll(() => tsm.messages().length).toBe(2);
    expect(tsm.forged).toEqual([]);
    await known.close();
    const unknown = await startTestService({ folder: await dataFolder({ notices: common, activation }) });
    await givenUp(unknown.api);
    const errors = async () => {
      const { body } = await unknown.api.get<{ messages: { attempts: number }[] }>('/outbox?state=waiting');
      return body.messages.map(({ attempts }) => attempts > 1);
    };
    await expect.poll(errors).toEqual([true, true]);
    expect(tsm.messages()).toHaveLength(2);
    await unknown.close();
    await tsm.stop();
  });

  it('is not started for with a key that others can read', async () => {
    const { clientKey, clientCert } = partners();
    chmodSync(clientKey, 0o644);
    for (const part of ['notices', 'evidence']) {
      const folder = await dataFolder({ [part]: { clientKey, clientCert } });
      await expect(startTestService({ folder })).rejects.toThrow(
        /can be read or written by others|cannot be used/,
      );
    }
  });
});

describe('a configuration of partners', () => {
  const verdict = (url: string) => ({
    evidence: { verdicts: [{ name: 'v', url, use: 'optional', timeout: '1s' }] },
  });
  const mail = (host: string, tls: string) => ({ notices: { mail: { host, port: 25, from: 'a@b', tls } } });
  const cases: [string, object, RegExp][] = [
    ['a TSM', { notices: { tsm: 'http://tsm.example/' } }, /notices\/tsm is .*https/],
    ['a portal', { notices: { portal: 'http://portal.example/' } }, /notices\/portal is .*https/],
    [
      'a verifier',
      { notices: { verifiers: [{ name: 'v', url: 'http://10.0.0.1/' }] } },
      /notices\/verifiers\/0\/url is .*https/,
    ],
    ['a provider of verdicts', verdict('http://v.example/'), /evidence\/verdicts\/0\/url is .*https/],
    ['a name that begins as this machine’s', verdict('http://127.0.0.1.example/'), /has to be https/],
    ['mail', mail('mail.example', 'never'), /notices\/mail\/tls is never/],
  ];

  it.each(cases)('of production has TLS to %s beyond this machine', (_what, config, detail) => {
    expect(productionFaults(parseConfig({ mode: 'production', ...config })).join('\n')).toMatch(detail);
  });

  it('of production may do without on this machine', () => {
    const faults = (config: object) => productionFaults(parseConfig(config)).join('\n');
    for (const host of ['127.0.0.1', 'localhost', '[::1]'])
      expect(faults(verdict(`http://${host}:1/`))).not.toMatch(/https/);
    expect(faults(mail('mail.example', 'starttls'))).not.toMatch(/mail/);
  });

  it.each(['notices', 'evidence'])('of %s gives a client’s key and certificate together', (part) => {
    for (const alone of [{ clientKey: 'a.key' }, { clientCert: 'a.pem' }])
      expect(() => parseConfig({ [part]: alone })).toThrow(/given together/);
  });
});
