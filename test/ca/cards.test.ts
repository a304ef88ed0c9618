import 'reflect-metadata';
import { execFileSync } from 'node:child_process';
import { webcrypto } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { importTowns } from '../../ca/node/towns-import.ts';
import { myNumberCheckDigit } from '../../ca/request/holder-id.ts';
import { townCheckDigit } from '../../ca/request/towns.ts';
import { parseCertificate } from '../../core/asn1/certificate-reader.ts';
import { namesIn } from '../../core/asn1/name.ts';
import { derOf } from '../support/actors.ts';
import {
  dayInJapan,
  removeScratch,
  scratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';
import { dayMs, expectRefusal, good, Person } from '../support/holder-rules.ts';

// Cards: their last days, whose they can be, what they are called, and the towns that issue them.

let test: TestService;
beforeAll(async () => {
  test = await startTestService();
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

const ended = (reason: string): string[] => [`authentication ${reason}`, `signing ${reason}`];
const four = (overrides: object = {}) => ({
  name: '番号　花子',
  address: '東京都渋谷区例町一丁目１番地',
  birthDate: '1990-04-01',
  sex: 'female',
  ...overrides,
});
/** A day some years and days from now. */
const dayIn = (years: number, days = 0): string => {
  const [year = '', ...monthAndDay] = dayInJapan(test.clock.wallMs() + days * dayMs).split('-');
  return [Number(year) + years, ...monthAndDay].join('-');
};

describe('an exchanged card', () => {
  it('is no renewal and no loss: no window, the fifth birthday, the phone goes with the old card', async () => {
    const person = await Person.withCard(test);
    const [old, end] = [person.cardId, await person.endOf('card-signing')];
    await person.enrol(`${old}-p`);
    const exchange = { cardId: `${old}-2`, replacesCardId: old, event: 'card-exchanged' };
    expect((await person.atDesk(exchange)).status).toBe(201);
    expect(await person.onCard(old)).toEqual(ended('superseded'));
    expect(await person.onPhone(`${old}-p`)).toEqual(ended('superseded'));
    expect(await person.endOf('card-signing')).toBe(end);
  });
});

describe('a card’s last day', () => {
  it('is no later than the tenth birthday after issue, the fifth of a minor, one more for a successor', async () => {
    const born = dayIn(-30, 50);
    const [adult, minor] = [four({ birthDate: born }), four({ birthDate: dayIn(-16, 50) })];
    const ask = (basicFour: object, cardExpiresOn: string) =>
      new Person(test).atDesk({ basicFour, cardExpiresOn });
    // The next birthday is in fifty days: the tenth is nine years after that.
    expectRefusal(await ask(adult, dayIn(9, 51)), 400, 'bad-request', /cardExpiresOn: later/);
    expect((await ask(adult, dayIn(9, 50))).status).toBe(201);
    expectRefusal(await ask(minor, dayIn(4, 51)), 400, 'bad-request', /cardExpiresOn: later/);
    expect((await ask(minor, dayIn(4, 50))).status).toBe(201);
    const person = await Person.withCard(test, { basicFour: adult, cardExpiresOn: dayIn(0, 60) });
    const renewal = { basicFour: adult, cardId: `${person.cardId}-2`, replacesCardId: person.cardId };
    const late = await person.atDesk({ ...renewal, event: 'card-renewed', cardExpiresOn: dayIn(10, 51) });
    expectRefusal(late, 400, 'bad-request', /cardExpiresOn: later/);
    const right = await person.atDesk({ ...renewal, event: 'card-renewed', cardExpiresOn: dayIn(10, 50) });
    expect(right.status).toBe(201);
  });

  it('of a foreign resident moves to later on the same card: certificates stay, renewal is open at once', async () => {
    const person = await Person.withCard(test, { cardExpiresOn: dayIn(1) });
    const end = await person.endOf('card-signing');
    const extended = { event: 'card-extended', cardId: person.cardId, cardExpiresOn: dayIn(3) };
    expectRefusal(await person.atDesk({ cardExpiresOn: dayIn(1), event: 'card-renewed' }), 409, 'not-due');
    const plan = await person.report({ ...extended, dryRun: true });
    expect(plan.body).toMatchObject({ changes: [], cardExpiresAt: expect.stringContaining(dayIn(3)) });
    expect((await person.report(extended)).status).toBe(200);
    expect(await person.onCard()).toEqual(good);
    expect(await person.endOf('card-signing')).toBe(end);
    const { body } = await test.api.get<{ certificates: { holderId: string; opensAt: string }[] }>(
      '/renewals?days=400',
    );
    const own = body.certificates.filter(({ holderId }) => holderId === person.holderId);
    expect(own.every(({ opensAt }) => Date.parse(opensAt) <= test.clock.wallMs())).toBe(true);
    const renewed = await person.atDesk({ cardExpiresOn: dayIn(3), event: 'card-renewed' });
    expect(renewed.status).toBe(201);
    expect(await person.endOf('card-signing')).toContain(dayIn(3));
    // Once: what was renewed is not open again.
    expectRefusal(await person.atDesk({ cardExpiresOn: dayIn(3), event: 'card-renewed' }), 409, 'not-due');
  });

  it('that moves to earlier ends what outlives the card, at that day’s end, the phone with it, and /renewals says so', async () => {
    const person = await Person.withCard(test, { cardExpiresOn: dayIn(2) });
    const deviceId = `${person.holderId}-p`;
    await person.enrol(deviceId);
    const last = dayIn(0, 20);
    const event = { event: 'card-extended', cardId: person.cardId, cardExpiresOn: last };
    expect((await person.report(event)).body.changes).toEqual([]);
    const { body } = await test.api.get<{
      certificates: { holderId: string; kind: string; endsAt: string }[];
    }>('/renewals?days=30');
    const own = body.certificates.filter(({ holderId }) => holderId === person.holderId);
    expect(own).toHaveLength(4);
    for (const { endsAt } of own) expect(endsAt).toContain(last);
    test.clock.advance(19 * dayMs);
    expect(await person.onCard()).toEqual(good);
    test.clock.advance(2 * dayMs);
    await expect.poll(() => person.onCard(), { timeout: 15_000 }).toEqual(ended('cessationOfOperation'));
    expect(await person.onPhone(deviceId)).toEqual(ended('cessationOfOperation'));
  });

  it('that moved to earlier and back again ends nothing', async () => {
    const person = await Person.withCard(test, { cardExpiresOn: dayIn(2) });
    const move = (cardExpiresOn: string) =>
      person.report({ event: 'card-extended', cardId: person.cardId, cardExpiresOn });
    await move(dayIn(0, 5));
    await move(dayIn(2));
    test.clock.advance(7 * dayMs);
    await new Promise((resolve) => setTimeout(resolve, 6000));
    expect(await person.onCard()).toEqual(good);
  });

  it('that was wrong is corrected before delivery, in one act with the certificates, and not afterwards', async () => {
    const person = await Person.withCard(test, { cardExpiresOn: dayIn(8) });
    const wrong = await person.atDesk({ cardExpiresOn: dayIn(7), event: 'card-exchanged' });
    expectRefusal(wrong, 400, 'bad-request', /not the day on record/);
    const correction = { cardExpiresOn: dayIn(2), event: 'card-last-day-corrected' };
    expect((await person.atDesk(correction)).status).toBe(201);
    expect(await person.endOf('card-signing')).toContain(dayIn(2));
    expect(await person.onCard()).toEqual([
      'authentication good',
      'authentication superseded',
      'signing good',
      'signing superseded',
    ]);
    await person.report({ event: 'card-delivered', cardId: person.cardId });
    expectRefusal(
      await person.atDesk({ ...correction, cardExpiresOn: dayIn(3) }),
      409,
      'illegal-transition',
      /delivered/,
    );
    const alone = await person.report({
      event: 'card-last-day-corrected',
      cardId: person.cardId,
      cardExpiresOn: dayIn(3),
    });
    expectRefusal(alone, 400, 'bad-request', /comes with the new certificates/);
    expectRefusal(
      await person.report({ event: 'card-extended', cardId: person.cardId }),
      400,
      'bad-request',
      /cardExpiresOn/,
    );
    const other = await person.report({ event: 'card-lost', cardId: person.cardId, cardExpiresOn: dayIn(3) });
    expectRefusal(other, 400, 'bad-request', /does not move/);
  });
});

describe('a person', () => {
  it.each([
    ['birth date', { birthDate: '1990-04-02' }, /birthDate/],
    ['sex', { sex: 'male' }, /sex/],
  ])('has the same %s after a move, unless the register corrects it', async (_what, change, detail) => {
    const person = await Person.withCard(test);
    const basicFour = four(change);
    expectRefusal(
      await person.atDesk({ event: 'moved', basicFour }, ['signing']),
      400,
      'bad-request',
      detail,
    );
    expect(await person.onCard()).toEqual(good);
    expect((await person.atDesk({ event: 'register-corrected', basicFour }, ['signing'])).status).toBe(201);
  });

  it('has no signing certificate below the age that is configured', async () => {
    const child = new Person(test);
    const basicFour = four({ birthDate: dayIn(-15, 1) });
    const cardExpiresOn = dayIn(4);
    expectRefusal(await child.atDesk({ basicFour, cardExpiresOn }), 409, 'signing-not-allowed', /age of 15/);
    const alone = { basicFour, cardExpiresOn, authenticationOnly: true };
    expect((await child.atDesk(alone, ['authentication'])).status).toBe(201);
    test.clock.advance(2 * dayMs);
    expect((await child.atDesk({ basicFour, cardExpiresOn }, ['signing'])).status).toBe(201);
  });

  it('is not called by a My Number or a resident code', async () => {
    const digits = '12345678901';
    const myNumber = `${digits}${myNumberCheckDigit(digits)}`;
    // The example of the ordinance's arithmetic that public guides give.
    expect(myNumberCheckDigit('98320567321')).toBe(4);
    for (const holderId of [myNumber, '12345678901'])
      expectRefusal(await new Person(test, holderId).atDesk(), 400, 'bad-request', /holderId: reads as a/);
    const wrong = `${digits}${(myNumberCheckDigit(digits) + 1) % 10}`;
    expect((await new Person(test, wrong).atDesk()).status).toBe(201);
  });

  it('is called as the register spells it: one word, a reading, a Roman form, and no space at either end', async () => {
    const ask = (overrides: object) => new Person(test).atDesk({ basicFour: four(overrides) });
    expect((await ask({ name: 'マリア' })).status).toBe(201);
    expect((await ask({ nameReading: 'バンゴウ ハナコ', nameRoman: 'BANGO Hanako' })).status).toBe(201);
    for (const name of ['　花子', '花子　', '番号　　花子', ' 花子', '花子 '])
      expectRefusal(await ask({ name }), 400, 'bad-request', /basicFour.name/);
    expectRefusal(await ask({ nameReading: '花子' }), 400, 'bad-request', /nameReading/);
    expectRefusal(await ask({ nameRoman: 'Hanako ' }), 400, 'bad-request', /nameRoman/);
    expect((await ask({ birthDate: '1990-04-00' })).status).toBe(201);
  });
});

describe('a pair', () => {
  it('of two suites on one card is refused, unless the event replaces both', async () => {
    const service = await startTestService();
    try {
      const main = new URL('../../ca/main.ts', import.meta.url).pathname;
      execFileSync(process.execPath, [
        main,
        'generation',
        '--suite',
        'p384-sha384',
        '--data',
        service.folder,
      ]);
      const person = await Person.withCard(service);
      const algorithm = { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' } as const;
      const request = async () => {
        const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
        const options = { name: 'CN=ignored', keys, signingAlgorithm: algorithm };
        const made = await Pkcs10CertificateRequestGenerator.create(options, webcrypto);
        return Buffer.from(made.rawData).toString('base64');
      };
      const ready = async () =>
        (await person.atDesk({ event: 'moved', requests: { signing: await request() } }, []))
          .body as unknown as { detail?: string };
      await expect
        .poll(async () => (await ready()).detail, { timeout: 15_000 })
        .toMatch(/with a key of rsa2048-sha256/);
      const both = { signing: await request(), authentication: await request() };
      const exchanged = await person.atDesk({ event: 'card-exchanged', requests: both }, []);
      expect(exchanged.status).toBe(201);
    } finally {
      await service.close();
    }
  });
});

describe('a town', () => {
  it('is named with or without its check digit, and not with a wrong one', async () => {
    expect(townCheckDigit('13113')).toBe(0);
    expect(townCheckDigit('01100')).toBe(2);
    expect((await new Person(test).atDesk({ municipalityCode: '131130' })).status).toBe(201);
    expectRefusal(
      await new Person(test).atDesk({ municipalityCode: '131131' }),
      400,
      'bad-request',
      /check digit/,
    );
    expectRefusal(
      await new Person(test).atDesk({ municipalityCode: '99999' }),
      400,
      'bad-request',
      /not configured/,
    );
  });

  const townsOf = (pem: string): string[] =>
    namesIn(parseCertificate(derOf(pem)).subject)
      .filter(({ type }) => type === 'L')
      .map(({ value }) => value);

  it('that was merged, or is configured no more, stays known for what it issued', async () => {
    const before = [
      { code: '13113', prefecture: 'Tokyo-to', municipality: 'Shibuya-ku' },
      { code: '22130', prefecture: 'Shizuoka-ken', municipality: 'Hamamatsu-shi Naka-ku' },
      { code: '01601', prefecture: 'Hokkaido', municipality: 'Hidaka-cho' },
    ];
    const first = await startTestService({
      overrides: { municipalities: before } as unknown as Record<string, object>,
    });
    const [merged, closed] = [new Person(first), new Person(first)];
    await merged.atDesk({ municipalityCode: '22130' });
    await closed.atDesk({ municipalityCode: '01601' });
    await first.close();
    const file = join(first.folder, 'warifu.json');
    const config = JSON.parse(readFileSync(file, 'utf8')) as object;
    const after = [
      before[0],
      { ...before[1], mergedInto: '22138' },
      { code: '22138', prefecture: 'Shizuoka-ken', municipality: 'Hamamatsu-shi Chuo-ku' },
    ];
    writeFileSync(file, JSON.stringify({ ...config, municipalities: after }));
    const second = await startTestService({ folder: first.folder });
    try {
      const on = (person: Person) =>
        Object.assign(new Person(second, person.holderId), {
          card: person.card,
          cardSigning: person.cardSigning,
          cardId: person.cardId,
        });
      const [a, b] = [on(merged), on(closed)];
      // Its holders enrol, move and renew: under the town that it is part of now.
      const phone = await a.enrol(`${a.holderId}-p`);
      expect(phone.status).toBe(201);
      expect(townsOf(phone.body.certificates[0]?.certificate ?? '')).toEqual([
        'Shizuoka-ken',
        'Hamamatsu-shi Chuo-ku',
      ]);
      const moved = await a.atDesk({ municipalityCode: '22130', event: 'moved' }, ['signing']);
      expect(townsOf(moved.body.certificates[0]?.certificate ?? '')).toEqual([
        'Shizuoka-ken',
        'Hamamatsu-shi Chuo-ku',
      ]);
      // Of a town of which no list says anything any more, by what the card's certificate says.
      const old = await b.enrol(`${b.holderId}-p`);
      expect(old.status).toBe(201);
      expect(townsOf(old.body.certificates[0]?.certificate ?? '')).toEqual(['Hokkaido', 'Hidaka-cho']);
      expect((await b.atDesk({ municipalityCode: '13113', event: 'moved' }, ['signing'])).status).toBe(201);
    } finally {
      await second.close();
    }
  });

  const codes = [
    '団体コード,都道府県名（漢字）,市区町村名（漢字）,都道府県名（カナ）,市区町村名（カナ）',
    '010006,北海道,,ﾎｯｶｲﾄﾞｳ,',
    '011002,北海道,札幌市,ﾎｯｶｲﾄﾞｳ,ｻｯﾎﾟﾛｼ',
    '011011,北海道,札幌市中央区,ﾎｯｶｲﾄﾞｳ,ｻｯﾎﾟﾛｼﾁｭｳｵｳｸ',
    '013951,北海道,ニセコ町,ﾎｯｶｲﾄﾞｳ,ﾆｾｺﾁｮｳ',
    '131130,東京都,渋谷区,ﾄｳｷｮｳﾄ,ｼﾌﾞﾔｸ',
    '133817,東京都,三宅村,ﾄｳｷｮｳﾄ,ﾐﾔｹﾑﾗ',
    '131041,東京都,新宿区,ﾄｳｷｮｳﾄ,ｼﾝｼﾞﾕｸｸ',
    '131050,東京都,文京区,ﾄｳｷｮｳﾄ,ﾌﾞﾝｷｮｳｸ',
  ].join('\r\n');
  const romanized = [
    '"0600000","北海道","札幌市　中央区","以下に掲載がない場合","HOKKAIDO","SAPPORO SHI CHUO KU","IKANIKEISAIGANAIBAAI"',
    '"0481500","北海道","虻田郡　ニセコ町","以下に掲載がない場合","HOKKAIDO","ABUTA GUN NISEKO CHO","IKANIKEISAIGANAIBAAI"',
    '"1500001","東京都","渋谷区","神宮前","TOKYO TO","SHIBUYA KU","JINGUMAE"',
    '"1500002","東京都","渋谷区","渋谷","TOKYO TO","SHIBUYA KU","SHIBUYA"',
    '"1001211","東京都","三宅島　三宅村","坪田","TOKYO TO","MIYAKEJIMA MIYAKE MURA","TSUBOTA"',
    '"1600001","東京都","新宿区","片町","TOKYO TO","SHINJUKU KU","KATAMACHI"',
    '"1600002","東京都","新宿区","四谷坂町","TOKYO TO","SHINJUKU WARD","YOTSUYASAKAMACHI"',
  ].join('\r\n');

  it('is read from the public lists, refused where its name is not there or not one, and never guessed', () => {
    const report = importTowns({ codes: Buffer.from(codes), romanized: Buffer.from(romanized) }, [
      { code: '22130', prefecture: 'Shizuoka-ken', municipality: 'Hamamatsu-shi Naka-ku' },
    ]);
    expect(report.towns).toEqual([
      { code: '01101', prefecture: 'Hokkaido', municipality: 'Sapporo-shi Chuo-ku' },
      { code: '01395', prefecture: 'Hokkaido', municipality: 'Niseko-cho' },
      { code: '13113', prefecture: 'Tokyo-to', municipality: 'Shibuya-ku' },
      { code: '13381', prefecture: 'Tokyo-to', municipality: 'Miyake-mura' },
      { code: '22130', prefecture: 'Shizuoka-ken', municipality: 'Hamamatsu-shi Naka-ku' },
    ]);
    expect(report.refused.map(({ code, why }) => `${code} ${why}`)).toEqual([
      '01100 has no romanized name',
      '13104 has 2 romanized names: Tokyo-to|Shinjuku-ku, Tokyo-to|Shinjuku Ward',
      '131050 its code has a wrong check digit',
    ]);
    expect(report.kept.map(({ code }) => code)).toEqual(['22130']);
  });

  it('is imported by a command, with a report, into a file that the service starts with', async () => {
    const folder = join(scratch(), 'data');
    mkdirSync(folder);
    // The ministry's file comes in Shift_JIS as well; this one is UTF-8, the other as the post office has it.
    writeFileSync(join(folder, 'codes.csv'), codes);
    writeFileSync(join(folder, 'rome.csv'), romanized);
    writeFileSync(join(folder, 'warifu.json'), '{}');
    const main = new URL('../../ca/main.ts', import.meta.url).pathname;
    const run = (...args: string[]) => {
      try {
        return execFileSync(process.execPath, [main, 'towns', 'import', ...args, '--data', folder], {
          encoding: 'utf8',
          stdio: 'pipe',
        });
      } catch (error) {
        const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string };
        return `${status}: ${stdout}${stderr}`;
      }
    };
    const said = run(join(folder, 'codes.csv'), '--romanized', join(folder, 'rome.csv'));
    expect(said).toMatch(/^1: refused: 01100 北海道札幌市 has no romanized name/);
    expect(said).toMatch(/\d+ towns in .*towns\.json, 3 refused/);
    writeFileSync(join(folder, 'warifu.json'), JSON.stringify({ municipalitiesFile: 'towns.json' }));
    const { readConfig } = await import('../../ca/config/config.ts');
    const { municipalities } = readConfig(join(folder, 'warifu.json'));
    expect(municipalities).toContainEqual({
      code: '13381',
      prefecture: 'Tokyo-to',
      municipality: 'Miyake-mura',
    });
    expect(run(join(folder, 'none.csv'), '--romanized', join(folder, 'rome.csv'))).toMatch(
      /none.csv cannot be read/,
    );
    expect(run(join(folder, 'rome.csv'), '--romanized', join(folder, 'rome.csv'))).toMatch(
      /has no row of a town/,
    );
  });

  it('is refused in a configuration that leads nowhere or around', async () => {
    const { parseConfig } = await import('../../ca/config/config.ts');
    const town = (code: string, mergedInto?: string) => ({
      code,
      prefecture: 'A',
      municipality: `T${code}`,
      ...(mergedInto ? { mergedInto } : {}),
    });
    expect(() => parseConfig({ municipalities: [town('13113', '13114')] })).toThrow(
      /merged into 13114, which is not/,
    );
    expect(() => parseConfig({ municipalities: [town('13113', '13114'), town('13114', '13113')] })).toThrow(
      /into itself/,
    );
  });
});
