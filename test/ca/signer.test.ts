import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { performCeremony } from '../../ca/node/ceremony.ts';
import { layout } from '../../ca/node/layout.ts';
import { type Signer, startSigner } from '../../ca/signer/signer.ts';
import { LogAltered, type LoggedEntry, SigningLog, verifySigningLog } from '../../ca/signer/signing-log.ts';
import { suites } from '../../core/asn1/algorithms.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { parseCrl } from '../../core/asn1/crl-reader.ts';
import { DerReader } from '../../core/asn1/der-reader.ts';
import {
  context,
  explicit,
  integer,
  objectIdentifier,
  sequence,
  tag,
  time,
  tlv,
  unsignedInteger,
} from '../../core/asn1/der-writer.ts';
import { extension } from '../../core/asn1/extension.ts';
import { oid } from '../../core/asn1/oids.ts';
import { openSigned } from '../../core/asn1/signed-data.ts';
import { type Bytes, digest } from '../../core/runtime/bytes.ts';
import { systemClock } from '../../core/runtime/clock.ts';
import { PkiError } from '../../core/runtime/errors.ts';
import { pack } from '../../core/workers/pack.ts';
import { encodeFrame, FrameReader } from '../../hsm/backend/frames.ts';
import { SocketBackend } from '../../hsm/backend/socket-backend.ts';
import type { SigningResult, SigningTask } from '../../hsm/pool/signing-task.ts';
import { crlAddress, derOf, fetchCrl, listed, pemOf } from '../support/actors.ts';
import {
  dataFolder,
  issueCard,
  issuePhone,
  removeScratch,
  scratch,
  startTestService,
  statusOfCard,
  type TestService,
} from '../support/harness.ts';

afterAll(removeScratch);

const lines: string[] = [];
const logger = pino({ base: null }, { write: (line) => void lines.push(line) });
const log = (): string => lines.join('');

let folder = '';
let signer: Signer;
let service: TestService | undefined;
let backend: SocketBackend | undefined;

/** A data folder after its ceremony, with its signer. */
async function begin(): Promise<void> {
  lines.length = 0;
  folder = await dataFolder({ pkcs11: { isolation: 'signer', callTimeout: '2s' } });
  await performCeremony({ folder, clock: systemClock });
  signer = await startSigner({ folder, clock: systemClock, logger });
}

async function end(): Promise<void> {
  await backend?.close();
  await service?.close();
  await signer.close();
  [backend, service] = [undefined, undefined];
}

const tokenLabel = (): string =>
  (
    JSON.parse(readFileSync(join(folder, 'warifu.json'), 'utf8')) as {
      pkcs11: { caToken: { label: string } };
    }
  ).pkcs11.caToken.label;

/** What a service asks that is in an attacker’s hands. */
function attacker(): SocketBackend {
  backend ??= new SocketBackend({
    path: signer.address,
    width: 1,
    callTimeoutMs: 5000,
    lost: () => undefined,
  });
  return backend;
}

const ask = (
  purpose: SigningTask['purpose'],
  keyLabel: string,
  octets: Bytes,
  form: SigningTask['form'] = 'message',
): Promise<SigningResult> => {
  const suite =
    keyLabel.startsWith('signing') || keyLabel.startsWith('auth') ? 'rsa2048-sha256' : 'p256-sha256';
  return attacker().run({
    key: { module: '', tokenLabel: tokenLabel(), keyLabel, suite, copyKey: null },
    ...{ purpose, form, inputs: pack([octets]), publicKey: Buffer.alloc(0), log: null },
  });
};

const refusal = async (asked: Promise<SigningResult>): Promise<string> => {
  const result = await asked;
  return result.ok ? 'it was signed' : `${result.refusal ? 'refused' : 'failed'}: ${result.error}`;
};

const tbsOf = (pem: string): Bytes => parseCertificate(derOf(pem)).toBeSigned;

describe('a service whose keys are a signer’s', () => {
  beforeEach(begin);
  afterEach(end);

  it('issues, revokes, publishes and answers like every other; the log has each signature, and the chain holds', async () => {
    service = await startTestService({ folder });
    const holder = await issueCard(service.api);
    const { phone } = await issuePhone(service.api, holder);
    const { body } = await service.api.post('/events', { event: 'card-lost', cardId: holder.cardId });
    expect((body as { changes: unknown[] }).changes.length).toBe(4);
    expect(await statusOfCard(service, holder)).toBe('revoked');
    const certificate = pemOf(holder.card, 'card-signing');
    await vi.waitFor(
      async () => expect(listed(await fetchCrl(crlAddress(derOf(certificate)))).size).toBeGreaterThan(0),
      { timeout: 10_000 },
    );
    const logged: LoggedEntry[] = [];
    const count = verifySigningLog(join(layout(folder).signer, 'log'), (entry) => logged.push(entry));
    expect(logged).toHaveLength(count);
    for (const pem of [certificate, pemOf(phone, 'phone-signing')]) {
      const of = Buffer.from(digest('sha256', tbsOf(pem))).toString('hex');
      expect(logged.filter((entry) => entry.digest === of).map(({ purpose }) => purpose)).toEqual([
        'certificate',
      ]);
    }
    expect(logged.map(({ purpose }) => purpose)).toContain('crl');
    expect(log()).not.toContain('refuses');
  });

  it('goes on when its signer has ended and another was started, without a restart', async () => {
    service = await startTestService({ folder });
    await issueCard(service.api);
    await signer.close();
    const refused = await service.api.get('/health');
    expect(refused.status).toBe(503);
    signer = await startSigner({ folder, clock: systemClock, logger });
    expect((await issueCard(service.api)).card.certificates).toHaveLength(2);
    expect(service.log()).toContain('cannot be reached');
  });

  it('starts with no signer only to say what to do', async () => {
    await signer.close();
    const started = startTestService({ folder });
    await expect(started).rejects.toThrow(/no signer answers at .*: start one with warifu signer/);
    signer = await startSigner({ folder, clock: systemClock, logger });
  });
});

describe('the signer signs for an attacker who controls the service', () => {
  beforeAll(async () => {
    await begin();
    service = await startTestService({ folder });
  });
  afterAll(end);

  it('no certificate that is not on record, or not as it is there', async () => {
    const { card } = await issueCard((service as TestService).api);
    const tbs = tbsOf(pemOf(card, 'card-signing'));
    // What was signed once may be signed again.
    expect(await refusal(ask('certificate', 'signing-1', tbs))).toBe('it was signed');
    const altered = Buffer.from(tbs);
    const at = altered.indexOf(Buffer.from('170d', 'hex')) + 13;
    altered[at] = (altered[at] ?? 0) ^ 1;
    expect(await refusal(ask('certificate', 'signing-1', altered))).toMatch(
      /^refused: other octets are reserved/,
    );
    const other = Buffer.from(tbs);
    const { serial } = parseCertificate(derOf(pemOf(card, 'card-signing')));
    const octet = other.indexOf(Buffer.from(serial.subarray(1))) + 3;
    other[octet] = (other[octet] ?? 0) ^ 1;
    expect(await refusal(ask('certificate', 'signing-1', other))).toMatch(
      /^refused: serial number \w+ of signing-1 is of no position/,
    );
    // Another authority's key.
    expect(await refusal(ask('certificate', 'authentication-1', tbs))).toMatch(/^refused: serial number/);
    expect(await refusal(ask('certificate', 'signing-1', Buffer.from('3000', 'hex')))).toMatch(
      /^refused: what is to be signed is malformed/,
    );
    expect(await refusal(ask('certificate', 'signing-9', tbs))).toMatch(/token \S+ has no key signing-9/);
    expect(log()).toContain('the signer refuses to sign');
  });

  it('no certificate of a CA, though the record has it', async () => {
    const ca = await fetchCrl(`${(service as TestService).service.addresses.crl}/ca/signing-1.cer`);
    const { toBeSigned } = openSigned(ca);
    expect(await refusal(ask('certificate', 'signing-1', toBeSigned))).toMatch(
      /refused: a certificate of kind authority is signed by a command of the operator/,
    );
  });

  it('no digest with a CA’s key, and with no key what is another’s purpose', async () => {
    const hash = digest('sha256', Buffer.from('anything'));
    for (const [purpose, key] of [
      ['certificate', 'signing-1'],
      ['crl', 'signing-1'],
      ['certificate', 'operations-1'],
    ] as const)
      expect(await refusal(ask(purpose, key, hash, 'digest'))).toBe(`refused: key ${key} signs no digests`);
    for (const [purpose, key] of [
      ['audit', 'signing-1'],
      ['message', 'authentication-1'],
      ['crl', 'operations-1'],
      ['certificate', 'audit-1'],
      ['message', 'audit-1'],
      ['audit', 'record-1'],
    ] as const)
      expect(await refusal(ask(purpose, key, hash, 'digest'))).toBe(
        `refused: key ${key} does not sign for ${purpose}`,
      );
    expect(await refusal(ask('ocsp', 'signing-1', hash, 'digest'))).toMatch(
      /^failed: a signer has no keys of responders/,
    );
  });

  it('no CRL whose number does not go up, or that is another’s', async () => {
    const { api } = service as TestService;
    const holder = await issueCard(api);
    const address = crlAddress(derOf(pemOf(holder.card, 'card-signing')));
    const { toBeSigned, number } = parseCrl(await vi.waitFor(() => fetchCrl(address), { timeout: 10_000 }));
    // The same once more; the same number for something else; a lower one.
    expect(await refusal(ask('crl', 'signing-1', toBeSigned))).toBe('it was signed');
    const of = (value: number): Bytes => {
      const encoded = Buffer.from(number.toString(16).padStart(12, '0'), 'hex');
      const next = Buffer.from(toBeSigned);
      const place = next.indexOf(encoded);
      expect(place).toBeGreaterThan(0);
      next.write(value.toString(16).padStart(12, '0'), place, 'hex');
      return next;
    };
    const altered = Buffer.from(toBeSigned);
    const time = altered.indexOf(Buffer.from('170d', 'hex')) + 13;
    altered[time] = (altered[time] ?? 0) ^ 1;
    expect(await refusal(ask('crl', 'signing-1', altered))).toMatch(
      /refused: crl\/card-signing\/\S+\/complete\/\d+: its number does not go up/,
    );
    expect(await refusal(ask('crl', 'signing-1', of(number - 1)))).toMatch(/its number does not go up/);
    expect(await refusal(ask('crl', 'signing-1', of(number + 1)))).toBe('it was signed');
    expect(await refusal(ask('crl', 'authentication-1', of(number + 2)))).toMatch(
      /refused: a CRL of another issuer/,
    );
  });

  it('no CRL of another form, shard, scope or time than ours', async () => {
    const { api } = service as TestService;
    const holder = await issueCard(api);
    const address = crlAddress(derOf(pemOf(holder.card, 'card-signing')));
    const { toBeSigned, number } = parseCrl(await vi.waitFor(() => fetchCrl(address), { timeout: 10_000 }));
    const tbs = new DerReader(toBeSigned).enter(tag.sequence);
    const head = [tbs.whole(tag.integer), tbs.whole(tag.sequence), tbs.whole(tag.sequence)];
    const [thisUpdate, nextUpdate] = [tbs.time(), tbs.time()];
    const extensions = new DerReader(tbs.whole(context(0))).enter(context(0)).enter(tag.sequence);
    const all: Bytes[] = [];
    while (!extensions.atEnd) all.push(extensions.whole(tag.sequence));
    const idOf = (dotted: string): string => Buffer.from(objectIdentifier(dotted)).toString('hex');
    const isOf = (dotted: string) => (each: Bytes) =>
      Buffer.from(each).toString('hex').includes(idOf(dotted));
    let next = number + 10;
    /** The CRL with another number, and whatever else is to be another. */
    const made = (
      of: { times?: [number, number]; idp?: (idp: Buffer) => Bytes; more?: Bytes[]; number?: number } = {},
    ): Bytes => {
      next += 1;
      const value = Buffer.from((of.number ?? next).toString(16).padStart(12, '0'), 'hex');
      const kept = all.filter(
        (each) => !isOf(oid.cRLNumber)(each) && !isOf(oid.issuingDistributionPoint)(each),
      );
      const idp = new DerReader(all.find(isOf(oid.issuingDistributionPoint)) ?? new Uint8Array()).enter(
        tag.sequence,
      );
      idp.objectIdentifier();
      idp.boolean();
      const content = Buffer.from(idp.content(tag.octetString));
      const point = of.idp ? of.idp(content) : content;
      const times = (of.times ?? [thisUpdate, nextUpdate]).map(time);
      return sequence(
        ...head,
        ...times,
        explicit(
          0,
          sequence(
            ...kept,
            extension(oid.cRLNumber, unsignedInteger(value)),
            ...(point.length === 0 ? [] : [extension(oid.issuingDistributionPoint, point, 'critical')]),
            ...(of.more ?? []),
          ),
        ),
      );
    };
    const asked = (of: Parameters<typeof made>[0]) => refusal(ask('crl', 'signing-1', made(of)));
    expect(await asked({})).toBe('it was signed');
    const day = 86_400_000;
    const number7 = extension(oid.cRLNumber, integer(7));
    for (const [of, why] of [
      [{ more: [number7] }, 'an extension twice'],
      [{ more: [extension('1.2.3.4', integer(1))] }, 'with an extension that ours do not have'],
      [{ idp: () => Buffer.alloc(0) }, 'malformed'],
      // indirectCRL [4] TRUE behind the scope.
      [{ idp: (idp: Buffer) => sequence(idp.subarray(2), Buffer.from('8401ff', 'hex')) }, 'malformed'],
      [
        { idp: (idp: Buffer) => Buffer.from(idp.toString('hex').replace(/8101ff$/, '8201ff'), 'hex') },
        'of other certificates',
      ],
      [
        {
          idp: (idp: Buffer) =>
            Buffer.from(idp.toString('latin1').replace('card-signing', 'card-sighing'), 'latin1'),
        },
        'no shard of that distribution point',
      ],
      [{ times: [thisUpdate, thisUpdate + 30 * day] }, 'holds for longer'],
      [{ times: [thisUpdate + day, thisUpdate + 2 * day] }, 'a time to come'],
      [{ number: 2 ** 47 }, 'a time to come'],
    ] as const)
      expect(await asked(of as Parameters<typeof made>[0]), why).toMatch(new RegExp(`^refused: .*${why}`));
    expect(await asked({})).toBe('it was signed');
  });

  it('and lives, whatever it is sent: long names, wrong digests, empty secrets, half requests, and answers that are not read', async () => {
    const long = sequence(
      explicit(0, integer(2)),
      tlv(tag.integer, Buffer.alloc(40_000, 0x55)),
      new Uint8Array(),
    );
    expect(await refusal(ask('certificate', 'operations-1', long))).toMatch(/^refused: /);
    expect((await refusal(ask('certificate', 'signing-1', long))).length).toBeLessThan(600);
    expect(await refusal(ask('message', 'outbox-1', Buffer.alloc(2 ** 20), 'digest'))).toMatch(
      /has another length/,
    );
    const port = attacker().token(tokenLabel());
    for (const octets of [0, 1, 12, 28])
      await expect(port.keyWrapper('record-1').unwrap('one', Buffer.alloc(octets))).rejects.toBeInstanceOf(
        PkiError,
      );
    await expect(port.keyWrapper('record-1').wrap('one', new Uint8Array())).rejects.toMatchObject({
      code: 'forbidden',
    });
    expect(await port.memory().recall('probe')).toBeGreaterThanOrEqual(0);
    const ended = [encodeFrame({ id: 1, type: 'heal' }).subarray(0, 9)].map(async (octets) => {
      const socket = createConnection(signer.address);
      socket.on('error', () => undefined);
      socket.write(octets);
      await new Promise((resolve) => socket.once('close', resolve));
    });
    const deaf = createConnection(signer.address);
    deaf.on('error', () => undefined);
    deaf.pause();
    const question = encodeFrame(
      { id: 1, type: 'wrap', token: tokenLabel(), key: 'record-1', context: 'x' },
      [Buffer.alloc(4096)],
    );
    for (let i = 0; i < 2000; i++) deaf.write(question);
    await Promise.all(ended);
    deaf.destroy();
    expect((await issueCard((service as TestService).api)).card.certificates).toHaveLength(2);
  }, 30_000);

  it('and unwraps, remembers and finds only what is the service’s', async () => {
    const port = attacker().token(tokenLabel());
    const wrapped = await port.keyWrapper('record-1').wrap('one', Buffer.alloc(32, 7));
    expect(await port.keyWrapper('record-1').unwrap('one', wrapped)).toEqual(new Uint8Array(32).fill(7));
    await expect(port.keyWrapper('record-1').unwrap('two', wrapped)).rejects.toMatchObject({
      code: 'token-unavailable',
    });
    await expect(port.keyWrapper('signing-1').wrap('one', Buffer.alloc(32))).rejects.toThrow(
      'key signing-1 wraps nothing',
    );
    await expect(port.memory().remember('signer:signed', 1e9)).rejects.toThrow('the signer’s own');
    await port.memory().remember('probe', 5);
    expect(await port.memory().recall('probe')).toBe(5);
    await expect(port.findKeyPair('no-such', suites['p256-sha256'])).rejects.toMatchObject({
      code: 'token-unavailable',
    });
    await expect(attacker().token('other').memory().recall('probe')).rejects.toThrow(
      'the signer has no token other',
    );
  });

  it.each([
    ['a length beyond all frames', Buffer.from('ffffffff00000000', 'hex')],
    ['a head beyond the frame', Buffer.from('00000004000000ff', 'hex')],
    ['no JSON', Buffer.from('0000000800000004'.concat('7b7b7b7b'), 'hex')],
    ['JSON that is no object', encodeFrame([] as object)],
    ['a request of no type', encodeFrame({ id: 1, type: 'sing' })],
    ['a request without an id', encodeFrame({ type: 'heal' })],
    [
      'lengths that are none',
      Buffer.concat([Buffer.from('00000013000000' + '0f', 'hex'), Buffer.from('{"parts":[-1]} ')]),
    ],
  ])('and ends a connection that sends %s, and no other', async (_, octets) => {
    await attacker().token(tokenLabel()).memory().recall('probe');
    const socket = createConnection(signer.address);
    const ended = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
    socket.write(octets);
    await ended;
    expect((await issueCard((service as TestService).api)).card.certificates).toHaveLength(2);
  });
});

describe('the signer’s log', () => {
  beforeEach(begin);
  afterEach(end);

  it('is an alarm where the record lacks what was signed, within ten seconds', async () => {
    service = await startTestService({ folder });
    const first = await issueCard(service.api);
    const { record } = layout(folder);
    const database = new DatabaseSync(record);
    database.exec(`VACUUM INTO '${record}.before'`);
    database.close();
    const { card } = await issueCard(service.api);
    // Repetitions of what is on record push out nothing.
    const again = tbsOf(pemOf(first.card, 'card-signing'));
    for (let i = 0; i < 250; i++) await ask('certificate', 'signing-1', again);
    expect(card.certificates).toHaveLength(2);
    await service.close();
    service = undefined;
    expect(log()).not.toContain('ALARM');
    for (const name of ['-wal', '-shm']) rmSync(`${record}${name}`, { force: true });
    // In the same file, as a copy command does.
    writeFileSync(record, readFileSync(`${record}.before`));
    await vi.waitFor(
      () => expect(log()).toContain('ALARM: the signer has signed certificates that are not on record'),
      {
        timeout: 10_000,
      },
    );
    expect(log()).toContain('"signatures":2');
  });

  it('is an alarm where the record is away', async () => {
    service = await startTestService({ folder });
    await issueCard(service.api);
    await service.close();
    service = undefined;
    rmSync(layout(folder).record);
    const alarm = 'ALARM: the signer’s log cannot be compared with the record';
    await vi.waitFor(() => expect(log()).toContain(alarm), { timeout: 12_000 });
  }, 20_000);

  it('refuses the start where a line was altered, and is an alarm where lines are gone', async () => {
    service = await startTestService({ folder });
    await issueCard(service.api);
    await service.close();
    service = undefined;
    await signer.close();
    const place = join(layout(folder).signer, 'log');
    const file = join(place, readdirSync(place)[0] ?? '');
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.replace(' certificate signing-1', ' certificate signing-2'));
    await expect(startSigner({ folder, clock: systemClock, logger })).rejects.toThrow(LogAltered);
    // Half a line is of a process that died as it wrote it.
    writeFileSync(file, text);
    writeFileSync(file, `${text}99 half a li`);
    signer = await startSigner({ folder, clock: systemClock, logger });
    await signer.close();
    expect(readFileSync(file, 'utf8')).toBe(text);
    truncateSync(file, text.indexOf('\n') + 1);
    signer = await startSigner({ folder, clock: systemClock, logger });
    expect(log()).toContain('ALARM: lines of the signer’s log are gone');
  });
});

describe('a signing log', () => {
  it('goes on in another file where one is full, and both are verified', () => {
    const place = scratch();
    const entry = {
      purpose: 'certificate',
      key: 'signing-1',
      subject: 'signing-1/1/1',
      digest: 'ab'.repeat(32),
    } as const;
    const first = new SigningLog(place);
    first.append(
      Array.from({ length: 250_000 }, () => entry),
      0,
    );
    first.append([entry, entry], 0);
    first.close();
    expect(readdirSync(place).sort()).toEqual(['signed-000000000001.log', 'signed-000000250001.log']);
    const second = new SigningLog(place);
    expect([second.sequence, second.found.length]).toEqual([250_002, 2]);
    second.append([entry], 0);
    second.close();
    expect(verifySigningLog(place)).toBe(250_003);
    // The first of them is not read at each start, and is verified all the same where the second begins.
    const file = join(place, 'signed-000000000001.log');
    truncateSync(file, statSync(file).size - 10);
    expect(() => new SigningLog(place)).toThrow(LogAltered);
  });
});

describe('frames', () => {
  it('come through whatever pieces the stream has', () => {
    const frames = [
      { head: { id: 1, text: 'ü' }, parts: [Buffer.from('one'), Buffer.alloc(0), Buffer.alloc(100_000, 3)] },
      { head: { id: 2 }, parts: [] },
    ];
    const octets = Buffer.concat(frames.map(({ head, parts }) => encodeFrame(head, parts)));
    for (const size of [1, 7, 4096, octets.length]) {
      const reader = new FrameReader();
      const read = [];
      for (let at = 0; at < octets.length; at += size)
        read.push(...reader.push(octets.subarray(at, at + size)));
      expect(read.map(({ head }) => head.id)).toEqual([1, 2]);
      expect(read[0]?.parts.map((part) => part.length)).toEqual([3, 0, 100_000]);
      expect(Buffer.from(read[0]?.parts[0] ?? []).toString()).toBe('one');
    }
  });
});
