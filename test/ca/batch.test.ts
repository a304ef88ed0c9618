import { createHash, createPublicKey } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runBatch } from '../../ca/client/batch-command.ts';
import type { BatchAnswer, BatchLine, Changed } from '../../ca/client/client.ts';
import { type ChipKey, cardRequest, until } from '../support/actors.ts';
import {
  addClient,
  fileOf,
  fixture,
  issueCard,
  issuePhone,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { factoryOf } from '../support/primes.ts';

let test: TestService;
const keys = factoryOf('batches');

beforeAll(async () => {
  test = await startTestService();
});

afterAll(async () => {
  await test.close();
  removeScratch();
});

let cards = 0;
function line(overrides: object = {}, pair: { signing?: ChipKey; authentication?: ChipKey } = {}): BatchLine {
  cards += 1;
  const chip = { signing: keys.next(), authentication: keys.next(), ...pair };
  const card = cardRequest(chip, { holderId: `batch-${cards}`, cardId: `batch-${cards}`, ...overrides });
  return { idempotencyKey: `line-${cards}`, card: card as BatchLine['card'] };
}

async function answersTo(lines: Iterable<BatchLine>, client = test.api): Promise<BatchAnswer[]> {
  const answers: BatchAnswer[] = [];
  for await (const answer of client.issueToCards(lines)) answers.push(answer);
  return answers.sort((a, b) => a.line - b.line);
}

describe('a batch', () => {
  it('answers each line with the certificates it asked for', async () => {
    const lines = Array.from({ length: 40 }, () => line());
    const answers = await answersTo(lines);
    expect(answers.map(({ status, idempotencyKey }) => [status, idempotencyKey])).toEqual(
      lines.map(({ idempotencyKey }) => [201, idempotencyKey]),
    );
    const issued = answers.map((answer) => answer.issued);
    expect(issued.map((each) => each?.holderId)).toEqual(lines.map(({ card }) => card.holderId));
    for (const each of issued)
      expect(each?.certificates.map(({ kind }) => kind)).toEqual(['card-signing', 'card-authentication']);
    const serials = issued.flatMap(
      (each) => each?.certificates.map(({ serialNumber }) => serialNumber) ?? [],
    );
    expect(new Set(serials).size).toBe(80);
  });

  it('sent again gives the answers of the first time, and issues nothing', async () => {
    const lines = [line(), line()];
    const first = await answersTo(lines);
    const again = await answersTo(lines);
    expect(again.map(({ replayed }) => replayed)).toEqual([true, true]);
    expect(again.map(({ issued }) => issued)).toEqual(first.map(({ issued }) => issued));
    const [one] = lines;
    const { body } = await test.api.get<{ certificates: object[] }>(`/holders/${one?.card.holderId}`);
    expect(body.certificates).toHaveLength(2);
  });

  it('refuses the lines that are wrong, each with its reason, and issues the others', async () => {
    const twice = line();
    const good = line();
    const unknownMember = line();
    const cases: [object, number, string][] = [
      [{ ...unknownMember, more: 1 }, 400, 'bad-request'],
      [{ idempotencyKey: 'with blank', card: line().card }, 400, 'bad-request'],
      [
        line({ basicFour: { name: 'x', address: 'y', birthDate: '1990-04-01', sex: 'male' } }),
        400,
        'bad-request',
      ],
      [
        line({}, { authentication: { ...keys.next(), request: Buffer.from('not a request') } }),
        400,
        'bad-request',
      ],
      [line({ municipalityCode: '99999' }), 400, 'bad-request'],
      [line({ cardExpiresOn: '2020-01-01' }), 400, 'bad-request'],
      [{ ...line(), idempotencyKey: twice.idempotencyKey }, 409, 'idempotency-key-reused'],
    ];
    await answersTo([twice]);
    const answers = await answersTo([...cases.map(([wrong]) => wrong as BatchLine), good]);
    expect(answers.map(({ status, problem }) => [status, problem?.title])).toEqual([
      ...cases.map(([, status, code]) => [status, code]),
      [201, undefined],
    ]);
    // An entry whose key can be read is answered with it; nothing repeats what was sent.
    expect(answers[0]?.idempotencyKey).toBe(unknownMember.idempotencyKey);
    expect(answers[1]?.idempotencyKey).toBeNull();
    expect(answers[2]?.problem?.detail).not.toContain('x');
  });

  it('certifies a key once, also where two lines of it hold the same', async () => {
    const chip = keys.next();
    const answers = await answersTo([line({}, { signing: chip }), line({}, { signing: chip })]);
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409]);
    expect(answers.find(({ status }) => status === 409)?.problem?.title).toBe('already-certified');
  });

  it('says of octets that are no line what they are not, and goes on', async () => {
    const send = async function* () {
      yield Buffer.from('not JSON\n\n[]\n');
      // A line in three pieces, and the last without its line feed.
      const octets = Buffer.from(JSON.stringify(line()));
      yield octets.subarray(0, 10);
      yield octets.subarray(10, 1000);
      yield octets.subarray(1000);
    };
    const answers: BatchAnswer[] = [];
    for await (const answer of test.api.batch(send()))
      answers.push(JSON.parse(answer.toString('utf8')) as BatchAnswer);
    expect(answers.sort((a, b) => a.line - b.line).map(({ status }) => status)).toEqual([400, 400, 201]);
  });

  it('breaks off at a line that is too long, after answering those before it', async () => {
    const answers: BatchAnswer[] = [];
    const send = async function* () {
      yield Buffer.from(`${JSON.stringify(line())}\n`);
      yield Buffer.alloc(70_000, 0x20);
    };
    const reading = (async () => {
      for await (const answer of test.api.batch(send()))
        answers.push(JSON.parse(answer.toString('utf8')) as BatchAnswer);
    })();
    // Its connection ends, whether or not the sender had got so far.
    await reading.catch((error: unknown) => expect(error).toBeInstanceOf(Error));
    expect(answers.map(({ line: number, status }) => [number, status]).sort()).toEqual([
      [1, 201],
      [2, 413],
    ]);
  });

  it('is for issuers, and for their desks', async () => {
    const { client } = await addClient(test, 'batch-issuer', { roles: ['issuer'], desks: ['DESK00002'] });
    const [answer] = await answersTo([line()], client);
    expect(answer).toMatchObject({ status: 403, problem: { title: 'desk-not-allowed' } });
    await client.close();
    const { client: reader } = await addClient(test, 'batch-reader', { roles: ['reader'] });
    await expect(answersTo([line()], reader)).rejects.toMatchObject({ problem: { title: 'forbidden' } });
    await reader.close();
  });

  it('is read no faster than it is signed: what waits stays with its sender', async () => {
    let sent = 0;
    const answers: BatchAnswer[] = [];
    const endless = async function* () {
      for (;;) {
        sent += 1;
        yield Buffer.from(`${JSON.stringify({ idempotencyKey: `wrong-${sent}`, pad: 'x'.repeat(2000) })}\n`);
      }
    };
    // Answers are not read, so that lines are soon not read either.
    const stream = test.api.batch(endless())[Symbol.asyncIterator]();
    const { value } = await stream.next();
    answers.push(JSON.parse(String(value)) as BatchAnswer);
    await until('the sender is held up', async () => {
      const before = sent;
      await new Promise((resolve) => setTimeout(resolve, 200));
      return sent === before;
    });
    expect(sent).toBeLessThan(20_000);
    await stream.return?.();
    expect((await test.api.get('/health')).status).toBe(200);
  });
});

it('a client that is shut out sends no further lines of its batch', async () => {
  const { client, fingerprint } = await addClient(test, 'batch-shut-out', {
    roles: ['issuer'],
    desks: ['*'],
  });
  const statuses: (string | number)[] = [];
  const lines = async function* () {
    yield line();
    await until('the first line is answered', async () => statuses.length === 1);
    await test.api.post(`/clients/${fingerprint}/revocation`, {});
    test.clock.advance(2000);
    await new Promise((resolve) => setTimeout(resolve, 1100));
    yield line();
    await until('the second line is answered', async () => statuses.length === 2);
  };
  const reading = (async () => {
    for await (const { status, problem } of client.issueToCards(lines()))
      statuses.push(problem?.title ?? status);
  })();
  await reading.catch((error: unknown) => expect(error).toBeInstanceOf(Error));
  expect(statuses).toEqual([201, 'unauthenticated']);
  await client.close();
});

describe('the command', () => {
  it('issues a file of lines, and run again goes on with what has no answer', async () => {
    const lines = [line(), line({ municipalityCode: '99999' }), line(), line()];
    const file = fileOf(lines.map((each) => `${JSON.stringify(each)}\n`).join(''), 'lines.ndjson');
    const answers = `${file}.answers`;
    const seen: string[] = [];
    const run = () =>
      runBatch({ client: test.api, file, answers, progress: (done, total) => seen.push(`${done}/${total}`) });
    const none = { issued: 0, refused: 0, before: 0, refusedBefore: 0, left: 0 };
    expect(await run()).toMatchObject({ ...none, issued: 3, refused: 1 });
    expect(seen).toEqual(['0/4', '1/4', '2/4', '3/4', '4/4']);
    const again = await run();
    expect(again).toMatchObject({ ...none, before: 3, refusedBefore: 1 });
    // Which it was, and why.
    expect(again.refusals).toEqual([
      { idempotencyKey: lines[1]?.idempotencyKey, detail: expect.stringContaining('99999') },
    ]);
    // Corrected, it is sent; the others are not.
    const corrected = lines.map((each, i) =>
      i === 1 ? { ...line(), idempotencyKey: each.idempotencyKey } : each,
    );
    writeFileSync(file, corrected.map((each) => `${JSON.stringify(each)}\n`).join(''));
    expect(await run()).toMatchObject({ ...none, issued: 1, before: 3 });
    expect(await run()).toMatchObject({ ...none, before: 4, refusals: [] });
    // Interrupted in the middle of an answer: that one is asked for again, and is a replay.
    const issued = readFileSync(answers, 'utf8')
      .split('\n')
      .filter((each) => each.includes('"status":201'));
    const [first = '', second = ''] = issued;
    writeFileSync(answers, `${first}\n${second.slice(0, 50)}`);
    expect(await run()).toMatchObject({ before: 1, left: 0 });
  });

  it('says which line is wrong before it sends any', async () => {
    const twice = JSON.stringify(line());
    for (const [text, message] of [
      ['{}\n', /line 1 has no idempotencyKey/],
      [`${twice}\nx\n`, /line 2 is not JSON/],
      [`${twice}\n${twice}\n`, /line 2: its idempotencyKey stands before it/],
    ] as const) {
      const file = fileOf(text, 'wrong.ndjson');
      const run = runBatch({ client: test.api, file, answers: `${file}.answers`, progress: () => undefined });
      await expect(run).rejects.toThrow(message);
    }
  });
});

describe('a blocked key', () => {
  it('is not certified any more', async () => {
    const chip = keys.next();
    const publicKey = createPublicKey(chip.privateKey)
      .export({ format: 'der', type: 'spki' })
      .toString('base64');
    const blocked = await test.api.post<Changed>('/blocked-keys', { publicKey });
    expect(blocked).toMatchObject({ status: 200, body: { changes: [], orders: [] } });
    const [answer] = await answersTo([line({}, { signing: chip })]);
    expect(answer).toMatchObject({ status: 400, problem: { title: 'invalid-key' } });
    expect(answer?.problem?.detail).toContain('blocked');
  });

  it('has what it certifies revoked for keyCompromise, with its cascade, and the cause on record', async () => {
    const holder = await issueCard(test.api);
    const { phone } = await issuePhone(test.api, holder);
    const publicKey = createPublicKey(holder.cardSigning.privateKey).export({ format: 'der', type: 'spki' });
    const jwk = createPublicKey(holder.cardSigning.privateKey).export({ format: 'jwk' });
    const keyHash = createHash('sha256')
      .update(Buffer.from(String(jwk.n), 'base64url'))
      .update(Buffer.from(String(jwk.e), 'base64url'))
      .digest('hex');
    const { body } = await test.api.post<Changed>('/blocked-keys', { keyHash }, 'block');
    expect(body.changes.map(({ kind, to, cause }) => [kind, to.state, to.reason, cause.event])).toEqual([
      ['card-signing', 'revoked', 'keyCompromise', 'key-blocked'],
      ['phone-signing', 'revoked', 'keyCompromise', 'key-blocked'],
      ['phone-authentication', 'revoked', 'keyCompromise', 'key-blocked'],
    ]);
    expect(body.orders).toHaveLength(2);
    const replay = await test.api.post<Changed>('/blocked-keys', { keyHash }, 'block');
    expect(replay).toMatchObject({ replayed: true, body });
    // By another name of the same key nothing more happens.
    const again = await test.api.post<Changed>('/blocked-keys', { publicKey: publicKey.toString('base64') });
    expect(again.body.changes).toEqual([]);
    expect(phone.certificates).toHaveLength(2);
  });

  it.each([
    ['neither', {}],
    ['both', { keyHash: '0'.repeat(64), publicKey: 'AAAA' }],
    ['a public key that is none', { publicKey: 'AAAA' }],
    [
      'a compressed point',
      { publicKey: readFileSync(fixture('keys/p384-compressed.der')).toString('base64') },
    ],
  ])('is not named by %s', async (_what, body) => {
    expect(await test.api.post('/blocked-keys', body)).toMatchObject({
      status: 400,
      body: { title: 'bad-request' },
    });
  });
});
