import { spawn } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Issued } from '../../ca/client/client.ts';
import { parseConfig } from '../../ca/config/config.ts';
import { makeGeneration } from '../../ca/node/guarded-acts.ts';
import { openNode } from '../../ca/node/wiring.ts';
import { encodeNoticeWishes, parseNoticeWishes } from '../../ca/notify/notice-wishes.ts';
import { encodeDeviceReport, parseDeviceReport } from '../../ca/request/device-report.ts';
import { encodePhoneEnrolment, parsePhoneEnrolment } from '../../ca/request/enrolment.ts';
import { attestationChallenge } from '../../ca/request/evidence/evidence.ts';
import {
  encodeSecureElementStatement,
  parseSecureElementStatement,
} from '../../ca/request/evidence/secure-element.ts';
import { encodePhoneRevocation, parsePhoneRevocation } from '../../ca/revoke/phone-revocation.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import { type ChipKey, cardRequest, defaultDevice, pemOf } from '../support/actors.ts';
import {
  addClient,
  dataFolder,
  issueCard,
  openssl,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { Mailbox } from '../support/mailbox.ts';
import { TsmSimulator } from '../support/tsm-simulator.ts';

// docs/PHONE-ENROLMENT.md: its module and vectors are the code's, and its recipe enrols a phone.

const document = readFileSync(new URL('../../docs/PHONE-ENROLMENT.md', import.meta.url), 'utf8');
const block = (language: string, name: string): string =>
  new RegExp(`\`\`\`${language} ${name}\n([\\s\\S]*?)\`\`\``).exec(document)?.[1] ?? '';
const plain = (text: string): string => text.replace(/^\s*\* ?/gm, '').replace(/\s+/g, ' ');

afterAll(removeScratch);

describe('the module of the document', () => {
  it.each([
    ['PhoneEnrolment', 'ca/request/enrolment.ts'],
    ['PhoneRevocation', 'ca/revoke/phone-revocation.ts'],
    ['SecureElementStatement', 'ca/request/evidence/secure-element.ts'],
    ['NoticeWishes', 'ca/notify/notice-wishes.ts'],
    ['DeviceReport', 'ca/request/device-report.ts'],
  ])('has %s as %s has it', (type, file) => {
    const source = readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
    const defined = (text: string) =>
      new RegExp(`${type} ::= SEQUENCE \\{.*?OPTIONAL \\}|${type} ::= SEQUENCE \\{.*?\\}`).exec(
        plain(text),
      )?.[0];
    expect(defined(source)).toBeDefined();
    expect(plain(document)).toContain(defined(source));
  });

  it('has the object identifiers of the configuration', () => {
    const { scheme } = parseConfig({});
    for (const [, key = '', oid = ''] of document.matchAll(/^\| `\w+` \| `(\w+)` \| ([0-9.]+) \|$/gm))
      expect([key, (scheme as unknown as Record<string, string>)[key]]).toEqual([key, oid]);
    expect(document.match(/^\| `\w+` \| `\w+ContentType` \|/gm)).toHaveLength(5);
  });
});

describe('the test vectors of the document', () => {
  const challenge = Uint8Array.from({ length: 32 }, (_, i) => i);
  const certificate = digest('sha256', Buffer.from('certificate'));
  const request = Uint8Array.of(0x30, 3, 2, 1, 0);
  const { deviceId, platform, model, secureElement } = defaultDevice;
  const enrolment = {
    operation: 'issue-to-phone' as const,
    cardCertificate: certificate,
    challenge,
    device: defaultDevice,
    replaces: null,
    signingRequest: request,
    authenticationRequest: request,
    terms: null,
    appletVersion: null,
    appVersion: null,
  };
  const key = certificate;
  const statement = { challenge, deviceId, platform, model, secureElement, keys: [key, key] };
  const wishes = {
    certificate,
    challenge,
    occasions: ['issued', 'used'] as const,
    language: 'ja' as const,
    mailAddress: 'hanako@example.jp',
  };
  const revocation = { certificate, challenge, deviceId };
  const report = {
    ...{ certificate, challenge, osVersion: '16', patchLevel: '2026-11' },
    ...{ appletVersion: '1.4', appVersion: '3.2.1' },
  };

  it.each<[string, Uint8Array, (der: Uint8Array) => unknown, unknown]>([
    ['enrolment', encodePhoneEnrolment(enrolment), parsePhoneEnrolment, enrolment],
    ['revocation', encodePhoneRevocation(revocation), parsePhoneRevocation, revocation],
    ['statement', encodeSecureElementStatement(statement), parseSecureElementStatement, statement],
    ['wishes', encodeNoticeWishes(wishes), parseNoticeWishes, wishes],
    ['report', encodeDeviceReport(report), parseDeviceReport, report],
  ])('are what the code writes and reads: %s', (name, der, parse, content) => {
    const written = block('hex', name).replace(/\s/g, '');
    expect(written).toBe(hex(der));
    expect(JSON.stringify(parse(Buffer.from(written, 'hex')))).toBe(JSON.stringify(parse(der)));
    expect(Object.keys(parse(der) as object).sort()).toEqual(Object.keys(content as object).sort());
  });

  it('have the challenge of an attestation', () => {
    expect(block('hex', 'attestation').trim()).toBe(hex(attestationChallenge(enrolment)));
  });
});

describe('the recipe of the document', () => {
  let test: TestService;
  let tsm: TsmSimulator;
  let mailbox: Mailbox;
  beforeAll(async () => {
    tsm = await TsmSimulator.start();
    mailbox = await Mailbox.start();
    const mail = { host: '127.0.0.1', port: mailbox.port, from: 'ca@example', tls: 'never' };
    const notices = { tsm: tsm.receiver.url, mail, retryFirst: '50ms', confirmWithin: '1h' };
    const overrides = { notices, issuing: { enrolmentWithBothKeys: 'always' } };
    test = await startTestService({ folder: await dataFolder(overrides) });
    const { folder, clock } = test;
    await test.close();
    const node = await openNode({ folder, clock, mode: 'open' });
    await makeGeneration(node, 'p384-sha384', []);
    await node.close();
    test = await startTestService({ folder, clock });
    tsm.receiver.trust(folder);
    await (await addClient(test, 'desk', { roles: ['issuer'], desks: ['ONLINE001'] })).client.close();
  });
  afterAll(async () => {
    await tsm.stop();
    await test.close();
    await mailbox.stop();
  });

  const run = (commands: string, cwd: string): Promise<{ status: number | null; said: string }> =>
    new Promise((resolve) => {
      const shown = commands.replaceAll('https://ca.example.jp:8443', test.service.addresses.api);
      const child = spawn('sh', ['-e', '-c', shown], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
      let said = '';
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (chunk) => {
          said += String(chunk);
        });
      child.once('close', (status) => resolve({ status, said }));
    });

  /** A folder with what the recipe says there is, for a card with such keys. */
  async function prepare(suite: 'rsa' | 'p384'): Promise<string> {
    const cwd = scratch();
    for (const end of ['key', 'pem'])
      copyFileSync(join(test.folder, 'clients', `desk.${end}`), join(cwd, `desk.${end}`));
    copyFileSync(join(test.folder, 'tls', 'operations-ca.pem'), join(cwd, 'operations-ca.pem'));
    const { card, keys } = suite === 'rsa' ? await rsaCard() : await p384Card(cwd);
    for (const [slot, key] of Object.entries(keys)) {
      writeFileSync(join(cwd, `card-${slot}.key`), key);
      writeFileSync(join(cwd, `card-${slot}.pem`), pemOf(card, `card-${slot}`));
    }
    return cwd;
  }

  async function rsaCard() {
    const { card, cardSigning, cardAuthentication } = await issueCard(test.api);
    const pem = ({ privateKey }: ChipKey) => privateKey.export({ format: 'pem', type: 'pkcs8' }) as string;
    return { card, keys: { signing: pem(cardSigning), authentication: pem(cardAuthentication) } };
  }

  async function p384Card(cwd: string) {
    const made = (slot: string): { key: string; request: string } => {
      const [key, request] = [join(cwd, `${slot}.key`), join(cwd, `${slot}.csr`)];
      const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384', '-nodes', '-sha384'];
      openssl('req', '-new', ...ec, '-subj', '/CN=x', '-keyout', key, '-outform', 'DER', '-out', request);
      return { key: readFileSync(key, 'utf8'), request: readFileSync(request).toString('base64') };
    };
    const [signing, authentication] = [made('signing'), made('authentication')];
    const requests = { signing: signing.request, authentication: authentication.request };
    const body = cardRequest({}, { holderId: 'p384', cardId: 'p384', requests });
    const { body: card } = await test.api.post<Issued>('/card-certificates', body);
    return { card, keys: { signing: signing.key, authentication: authentication.key } };
  }

  it.each(['rsa', 'p384'] as const)(
    'enrols a phone, has a TSM store it, and gives it up: %s',
    async (suite) => {
      const cwd = await prepare(suite);
      const deviceId = `recipe-${suite}`;
      const device = block('sh', 'device').replace('phone-1', deviceId);
      const steps = `${device}${block('sh', suite)}\n${block('sh', 'enrol')}\n${block('sh', 'certificates')}`;
      const enrolled = await run(steps, cwd);
      const answer = readFileSync(join(cwd, 'issued.json'), 'utf8');
      expect(enrolled.status, enrolled.said + answer).toBe(0);
      const issued = JSON.parse(answer) as Issued;
      expect(issued).toMatchObject({ awaited: true });
      expect(issued.certificates.map(({ kind }) => kind)).toEqual(['phone-signing', 'phone-authentication']);
      for (const { kind, certificate } of issued.certificates)
        expect(readFileSync(join(cwd, `${kind}.pem`), 'utf8').trim()).toBe(certificate.trim());

      const order = () => tsm.receiver.messages().find((message) => message.deviceId === deviceId);
      await expect.poll(order).toBeDefined();
      expect(Object.keys(order() ?? {}).sort()).toEqual(
        Object.keys(JSON.parse(block('json', 'personalisation')) as object).sort(),
      );
      const { client } = await addClient(test, `tsm-${suite}`, { roles: ['tsm'] });
      const stored = JSON.parse(block('json', 'stored')) as object;
      const path = `/issuances/${issued.issuanceId}/storage`;
      expect((await client.post(path, stored)).status).toBe(200);
      expect((await client.post(path, JSON.parse(block('json', 'not-stored')))).status).not.toBe(400);
      await client.close();

      // In the same shell, as a reader has it: what the first lines define.
      const [definitions] = block('sh', 'enrol').split('\n\n');
      const hash = /^HASH=.*$/m.exec(block('sh', suite))?.[0];
      const given = `${device}${hash}\n${definitions}\n`;
      const address = `${suite}@example.jp`;
      const holder = `HOLDER=${issued.holderId}\nADDRESS=${address}\n`;
      const wished = await run(`${given}${holder}${block('sh', 'wishes')}`, cwd);
      expect(wished.status, wished.said).toBe(0);
      await expect.poll(() => mailbox.to(address)).toHaveLength(1);
      const code = /[0-9A-Z]{8}/.exec(mailbox.to(address)[0]?.text ?? '')?.[0];
      const confirmed = await run(`${given}${holder}CODE=${code}\n${block('sh', 'confirm')}`, cwd);
      expect(confirmed.status, confirmed.said).toBe(0);
      expect(JSON.parse(readFileSync(join(cwd, 'confirmed.json'), 'utf8'))).toMatchObject({
        occasions: ['issued', 'used'],
        by: 'mail',
        language: 'ja',
      });

      const reported = await run(`${given}${block('sh', 'report')}`, cwd);
      expect(reported.status, reported.said).toBe(0);
      expect(JSON.parse(readFileSync(join(cwd, 'reported.json'), 'utf8'))).toEqual({
        ...{ deviceId, osVersion: '16', patchLevel: '2026-11', appletVersion: '1.4' },
        ...{ appVersion: '3.2.1', state: 'good' },
      });

      const gaveUp = await run(`${given}${block('sh', 'give-up')}`, cwd);
      expect(gaveUp.status, gaveUp.said).toBe(0);
      const { changes } = JSON.parse(readFileSync(join(cwd, 'given-up.json'), 'utf8')) as {
        changes: { to: { state: string } }[];
      };
      expect(changes.map(({ to }) => to.state)).toEqual(['revoked', 'revoked']);
    },
  );
});
