import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, CaClient, Issued } from '../../ca/client/client.ts';
import { requestsHash } from '../../ca/issue/signed-change.ts';
import { encodeCardChange } from '../../ca/request/card-change.ts';
import { townCheckDigit } from '../../ca/request/towns.ts';
import { digest } from '../../core/runtime/bytes.ts';
import {
  base64,
  type ChipKey,
  cardRequest,
  derOf,
  type EnrolmentParts,
  makeChipKey,
  pemOf,
  signEnrolment,
} from '../support/actors.ts';
import { removeScratch } from '../support/harness.ts';
import { expectRefusal } from '../support/holder-rules.ts';
import { type Enrolled, type ProductionService, startProduction } from '../support/production.ts';

// Desks on record: what each may do, for holders of which municipalities; and that to others there are no such holders.

const [shibuya, nakano, suginami] = ['13113', '13114', '13115'] as const;

const municipalities = [
  { code: shibuya, prefecture: 'Tokyo-to', municipality: 'Shibuya-ku' },
  { code: nakano, prefecture: 'Tokyo-to', municipality: 'Nakano-ku' },
  { code: suginami, prefecture: 'Tokyo-to', municipality: 'Suginami-ku' },
];

let test: ProductionService;
let administrator: CaClient;
const clients = new Map<string, Enrolled>();
const client = (name: string): CaClient => clients.get(name)?.client as CaClient;

const desks = {
  counter: { deskCode: 'SHIBUYA01', kind: 'counter', municipalityCode: shibuya },
  other: { deskCode: 'NAKANO001', kind: 'counter', municipalityCode: nakano },
  post: { deskCode: 'POST00001', kind: 'post-office', municipalityCode: shibuya },
  visit: { deskCode: 'VISIT0001', kind: 'visit', municipalityCode: shibuya },
  factory: { deskCode: 'FACTORY01', kind: 'factory' },
  online: { deskCode: 'ONLINE001', kind: 'online' },
  loss: { deskCode: 'LOSS00001', kind: 'loss-line' },
} as const;

const record = (body: object) => test.approved<object>('/desks', body);

beforeAll(async () => {
  test = await startProduction({ municipalities, approvals: { acts: { 'bulk-export': 'off' } } });
  [administrator] = test.administrators;
  for (const desk of Object.values(desks)) expect((await record(desk)).status).toBe(200);
  const system = async (name: string, roles: string[], more: object) =>
    clients.set(name, await test.enrol({ name, kind: 'system', roles, ...more }));
  for (const [name, { deskCode }] of Object.entries(desks))
    await system(name, name === 'loss' ? ['revoker'] : ['issuer'], { desks: [deskCode] });
  await system('shibuya revoker', ['revoker', 'reader'], { municipalities: [shibuya] });
  await system('nakano revoker', ['revoker', 'reader'], {
    municipalities: [`${nakano}${townCheckDigit(nakano)}`],
  });
  await system('register', ['revoker', 'reader'], { municipalities: ['*'] });
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

interface Person {
  readonly holderId: string;
  readonly cardId: string;
  readonly signing: ChipKey;
  readonly issued: Issued;
}

let people = 0;
/** A person of her own: those who look the same wait for a second person. */
const ids = () => {
  people += 1;
  const basicFour = {
    ...{ name: '番号　花子', birthDate: '1990-04-01', sex: 'female' },
    address: `東京都渋谷区例町${'一'.repeat(people)}丁目`,
  };
  return { holderId: `person-${people}`, cardId: `card-${people}`, basicFour };
};

async function ask(by: string, overrides: object): Promise<Answer<Issued>> {
  const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
  const { deskCode } = desks[by as keyof typeof desks];
  return client(by).post<Issued>(
    '/card-certificates',
    cardRequest(keys, { deskCode, municipalityCode: shibuya, ...overrides }),
  );
}

/** A resident of Shibuya, with a card. */
async function resident(): Promise<Person> {
  const [signing, authentication] = [await makeChipKey(), await makeChipKey()];
  const at = { ...ids(), deskCode: desks.counter.deskCode, municipalityCode: shibuya };
  const answer = await client('counter').post<Issued>(
    '/card-certificates',
    cardRequest({ signing, authentication }, at),
  );
  expect(answer.status).toBe(201);
  return { ...at, signing, issued: answer.body };
}

const serialOf = ({ issued }: Person, kind = 'card-signing'): string => {
  const found = issued.certificates.find((each) => each.kind === kind);
  return `${found?.authority}/${found?.serialNumber}`;
};

describe('a desk', () => {
  it('issues to holders of its municipality, and to no other’s', async () => {
    expect((await ask('counter', ids())).status).toBe(201);
    expectRefusal(
      await ask('counter', { ...ids(), municipalityCode: nakano }),
      403,
      'desk-not-allowed',
      /SHIBUYA01 does not act for municipality 13114/,
    );
    expect((await ask('factory', { ...ids(), municipalityCode: nakano })).status).toBe(201);
  });

  it('of phones issues to no card', async () => {
    expectRefusal(
      await ask('online', ids()),
      403,
      'desk-not-allowed',
      /ONLINE001 does not issue: it may phone/,
    );
  });

  it('of the post acts for the municipality that delegated to it, and replaces no card', async () => {
    const person = await resident();
    expect((await ask('post', ids())).status).toBe(201);
    const exchange = {
      ...person,
      event: 'card-exchanged',
      cardId: `${person.cardId}-b`,
      replacesCardId: person.cardId,
    };
    const { holderId, cardId, event, replacesCardId } = exchange;
    expectRefusal(
      await ask('post', { holderId, cardId, event, replacesCardId }),
      403,
      'desk-not-allowed',
      /POST00001 does not replace/,
    );
    const wide = { ...desks.post, deskCode: 'POST00002', municipalities: [shibuya, nakano] };
    expectRefusal(await record(wide), 400, 'bad-request', /acts for the one that delegated/);
  });

  it('is one that its client is bound to, and that is on record', async () => {
    const { deskCode } = desks.other;
    expectRefusal(
      await ask('counter', { ...ids(), deskCode }),
      403,
      'desk-not-allowed',
      /does not act for desk/,
    );
    const everywhere = await test.enrol({
      name: 'all desks',
      kind: 'system',
      roles: ['issuer'],
      desks: ['*'],
    });
    const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
    const body = cardRequest(keys, { ...ids(), deskCode: 'NOTTHERE1', municipalityCode: shibuya });
    expectRefusal(
      await everywhere.client.post('/card-certificates', body),
      403,
      'desk-not-allowed',
      /is not on record/,
    );
  });

  it('may do what was allowed of what its kind may, and not more', async () => {
    const body = { ...desks.visit, deskCode: 'VISIT0002', functions: ['renew'] };
    expect(await record(body)).toMatchObject({ status: 200, body: { functions: ['renew'] } });
    const narrow = await test.enrol({
      name: 'narrow',
      kind: 'system',
      roles: ['issuer'],
      desks: ['VISIT0002'],
    });
    const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
    const request = cardRequest(keys, { ...ids(), deskCode: 'VISIT0002', municipalityCode: shibuya });
    expectRefusal(
      await narrow.client.post('/card-certificates', request),
      403,
      'desk-not-allowed',
      /does not issue/,
    );
    for (const [unfit, detail] of [
      [{ ...desks.post, functions: ['move'] }, /functions: a desk of the kind post-office may/],
      [{ ...desks.counter, kind: 'online' }, /ONLINE001, and no other desk, is online/],
      [{ ...desks.online, kind: 'factory' }, /ONLINE001, and no other desk, is online/],
      [{ deskCode: 'COUNTER01', kind: 'counter' }, /municipalityCode: belongs to/],
      [{ ...desks.factory, municipalityCode: shibuya }, /municipalityCode: is none of/],
      [{ ...desks.counter, municipalities: ['*'] }, /\* is for desks of no municipality/],
      [{ ...desks.counter, municipalityCode: '99999' }, /is not configured/],
      [
        { ...desks.counter, validFrom: '2030-01-01T00:00:00Z', validTo: '2029-01-01T00:00:00Z' },
        /is not after/,
      ],
    ] as const)
      expectRefusal(await record(unfit), 400, 'bad-request', detail);
  });

  it('does nothing from the moment on at which it is suspended, or no more open', async () => {
    const suspend = (path: string) => test.approved(`/desks/${desks.visit.deskCode}/${path}`, undefined);
    expect((await ask('visit', ids())).status).toBe(201);
    expect(await suspend('suspension')).toMatchObject({
      status: 200,
      body: { suspendedAt: expect.any(String) },
    });
    expectRefusal(await ask('visit', ids()), 403, 'desk-not-allowed', /is suspended/);
    // Recorded again it stays so.
    expect(await record(desks.visit)).toMatchObject({ body: { suspendedAt: expect.any(String) } });
    expectRefusal(await ask('visit', ids()), 403, 'desk-not-allowed', /is suspended/);
    expect((await suspend('resumption')).status).toBe(200);
    expect((await ask('visit', ids())).status).toBe(201);
    const [later, past] = ['2099-01-01T00:00:00Z', '2001-01-01T00:00:00Z'];
    await record({ ...desks.visit, validFrom: later });
    expectRefusal(await ask('visit', ids()), 403, 'desk-not-allowed', /is not open/);
    await record({ ...desks.visit, validFrom: '2000-01-01T00:00:00Z', validTo: past });
    expectRefusal(await ask('visit', ids()), 403, 'desk-not-allowed', /is not open/);
    await record(desks.visit);
    const none = await administrator.post('/desks/NOTTHERE1/suspension', undefined);
    expectRefusal(none, 404, 'not-found');
  });

  it('does as many acts in one day as it may', async () => {
    await record({ ...desks.visit, actsPerDay: 2 });
    const answers = await Promise.all([1, 2, 3, 4].map(() => ask('visit', ids())));
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 201, 409, 409]);
    expectRefusal(await ask('visit', ids()), 409, 'quota-exceeded', /VISIT0001 has done 2 acts today/);
    await record(desks.visit);
  });

  it('is listed for administrators, and recorded by them alone', async () => {
    const listed = (
      await administrator.get<{ desks: { deskCode: string; municipalityCode: string | null }[] }>('/desks')
    ).body;
    expect(listed.desks).toContainEqual(
      expect.objectContaining({
        deskCode: 'SHIBUYA01',
        municipalityCode: shibuya,
        municipalities: [shibuya],
      }),
    );
    expectRefusal(await client('counter').post('/desks', desks.counter), 403, 'forbidden');
  });
});

describe('a client of a municipality', () => {
  it('acts on its own holders, and finds no others', async () => {
    const person = await resident();
    const report = (by: string, body: object) => client(by).post('/events', body);
    const paths = [
      `/holders/${person.holderId}`,
      `/holders/${person.holderId}/history`,
      `/holders/${person.holderId}/media`,
      `/certificates/${serialOf(person)}`,
      `/certificates/${serialOf(person)}/history`,
    ];
    for (const path of paths) {
      expect([path, (await client('shibuya revoker').get(path)).status]).toEqual([path, 200]);
      const hidden = await client('nakano revoker').get<object>(path);
      const none = await client('nakano revoker').get<object>(
        path.replace(/person-\d+|[0-9a-f]{34}/, (id) => id.replace(/./g, '0')),
      );
      expect(hidden.status).toBe(404);
      expect(hidden.body).toEqual({ ...none.body, instance: expect.any(String) });
    }
    const acts: [path: string, body: object, none: object][] = [
      ['/events', { event: 'card-lost', cardId: person.cardId }, { event: 'card-lost', cardId: 'nowhere' }],
      ['/events', { event: 'died', holderId: person.holderId }, { event: 'died', holderId: 'nowhere' }],
      [
        '/events',
        { event: 'guardianship-began', holderId: person.holderId },
        { event: 'guardianship-began', holderId: 'nowhere' },
      ],
    ];
    for (const [path, body, none] of acts)
      for (const dryRun of [true, false]) {
        const hidden = await client('nakano revoker').post<object>(path, { ...body, dryRun });
        const absent = await client('nakano revoker').post<object>(path, { ...none, dryRun });
        expect(hidden.status).toBe(404);
        expect(hidden.body).toEqual({ ...absent.body, instance: expect.any(String) });
      }
    const change = (by: string) =>
      client(by).post(`/certificates/${serialOf(person)}/changes`, { action: 'hold' });
    expectRefusal(await change('nakano revoker'), 404, 'not-found', /no such certificate/);
    const correction = await client('nakano revoker').post(`/holders/${person.holderId}/corrections`, {
      note: 'x',
    });
    expectRefusal(correction, 404, 'not-found', /no such holder/);
    expect((await report('shibuya revoker', { event: 'card-lost', cardId: person.cardId })).status).toBe(200);
  });

  it('sees its own holders alone among what is to be renewed', async () => {
    const person = await resident();
    const listed = async (by: string) => {
      const { body } = await client(by).get<{ certificates: { holderId: string }[] }>('/renewals?days=9999');
      return body.certificates.map(({ holderId }) => holderId);
    };
    expect(await listed('shibuya revoker')).toContain(person.holderId);
    expect(await listed('nakano revoker')).not.toContain(person.holderId);
  });

  it('does nothing that concerns the nation', async () => {
    const match = { platform: 'android' };
    const acts: [string, object][] = [
      ['/restrictions', { match, note: 'x' }],
      ['/restrictions/preview', match],
      ['/blocked-keys', { keyHash: '0'.repeat(64) }],
    ];
    for (const by of ['shibuya revoker', 'loss'])
      for (const [path, body] of acts)
        expectRefusal(await client(by).post(path, body), 403, 'forbidden', /concerns the nation/);
    expect((await client('register').post('/restrictions/preview', match)).status).toBe(200);
    expectRefusal(await client('shibuya revoker').get('/certificates?adopted'), 403, 'forbidden', /nation/);
  });

  it('is bound to municipalities, or to the nation, in so many words', async () => {
    const own = { name: 'unbound', kind: 'person' as const, municipalities: [] };
    await expect(test.enrol({ ...own, roles: ['reader'] })).rejects.toThrow(/municipalities/);
    await expect(test.enrol({ ...own, roles: ['issuer'], municipalities: [shibuya] })).rejects.toThrow(
      /belong to the roles revoker and reader/,
    );
    const fingerprint = clients.get('counter')?.fingerprint;
    const bound = await test.approved(`/clients/${fingerprint}/binding`, {
      roles: ['issuer', 'reader'],
    });
    expectRefusal(bound, 400, 'bad-request', /production wants them/);
  });

  it('acts on a holder from the moment on at which its binding says so, and no longer', async () => {
    const person = await resident();
    const mover = await test.enrol({
      name: 'mover',
      kind: 'person',
      roles: ['reader'],
      ...{ municipalities: [suginami] },
    });
    const look = () => mover.client.get(`/holders/${person.holderId}`);
    expect((await look()).status).toBe(404);
    const bind = (municipalities: string[]) =>
      test.approved(`/clients/${mover.fingerprint}/binding`, { municipalities });
    expect(await bind([shibuya])).toMatchObject({
      status: 200,
      body: { municipalities: [shibuya], roles: ['reader'] },
    });
    expect((await look()).status).toBe(200);
    await bind([suginami]);
    expect((await look()).status).toBe(404);
  });
});

describe('the loss line', () => {
  it('holds nationwide, looks up what a hold needs, and does no more', async () => {
    const person = await resident();
    const media = await client('loss').get(`/holders/${person.holderId}/media`);
    expect(media.body).toEqual({
      media: [{ type: 'card', id: person.cardId, platform: null, model: null, isHeld: false }],
    });
    expectRefusal(await client('loss').get(`/holders/${person.holderId}`), 403, 'forbidden');
    const report = (body: object) => client('loss').post('/events', body);
    for (const event of ['card-returned', 'card-expired'])
      expectRefusal(
        await report({ event, cardId: person.cardId }),
        403,
        'desk-not-allowed',
        /LOSS00001 does not report/,
      );
    expectRefusal(await report({ event: 'died', holderId: person.holderId }), 403, 'desk-not-allowed');
    expect((await report({ event: 'card-lost', cardId: person.cardId })).status).toBe(200);
    const changes = `/certificates/${serialOf(person)}/changes`;
    for (const action of ['revoke', 'release'])
      expectRefusal(await client('loss').post(changes, { action }), 403, 'desk-not-allowed');
    expectRefusal(
      await report({ event: 'card-found', cardId: person.cardId }),
      403,
      'desk-not-allowed',
      /does not release/,
    );
    expect(await client('loss').get(`/holders/${person.holderId}/media`)).toMatchObject({
      body: { media: [{ isHeld: true }] },
    });
    const history = await client('register').get<{ entries: { actor: { desk?: string } }[] }>(
      `/holders/${person.holderId}/history`,
    );
    expect(history.body.entries.at(-1)?.actor.desk).toBe('LOSS00001');
  });
});

describe('a move', () => {
  /** A request for a new signing certificate at a counter, as the card has signed for it. */
  async function signedRequest(
    person: Person,
    { to = nakano as string, by = 'other', key = person.signing, event = 'moved', at = {} as object } = {},
  ) {
    const { deskCode } = desks[by as keyof typeof desks];
    const { holderId, cardId } = person;
    const asked = await client(by).post<{ challenge: string }>('/card-challenges', { deskCode });
    const cardSigningCertificate = derOf(pemOf(person.issued, 'card-signing'));
    const request = cardRequest(
      { signing: await makeChipKey() },
      { holderId, cardId, deskCode, municipalityCode: to, event, ...at },
    );
    const content = encodeCardChange({
      certificate: digest('sha256', cardSigningCertificate),
      challenge: Buffer.from(asked.body.challenge, 'base64'),
      ...{ municipalityCode: to, event, cardId },
      requests: requestsHash((request as { requests: object }).requests),
    });
    const parts = { cardSigningKey: key.privateKey, cardSigningCertificate } as EnrolmentParts;
    const signed = base64(signEnrolment(content, parts, { contentType: '1.3.6.1.4.1.32473.8.5' }));
    return { ...request, signedChange: signed };
  }

  const send = (body: object, by = 'other') => client(by).post<Issued>('/card-certificates', body);

  async function moveTo(person: Person, overrides: object = {}, by = 'other'): Promise<Answer<Issued>> {
    const { deskCode } = desks[by as keyof typeof desks];
    const { holderId, cardId } = person;
    const at = { holderId, cardId, deskCode, municipalityCode: nakano, event: 'moved', ...overrides };
    return send(cardRequest({ signing: await makeChipKey() }, at), by);
  }

  const see = async (by: string, { holderId }: Person) =>
    (await client(by).get(`/holders/${holderId}`)).status;

  it('lets the new town act on the card’s signature, for the move alone; the holder is its own, and the old town is told', async () => {
    const person = await resident();
    expectRefusal(await moveTo(person), 403, 'desk-not-allowed', /the card on record signs for it/);
    const right = await signedRequest(person);
    expectRefusal(
      await send(await signedRequest(person, { event: 'renamed' })),
      403,
      'desk-not-allowed',
      /not of that municipality/,
    );
    const unfit: [object, RegExp][] = [
      [{ ...right, event: undefined }, /requires the event/],
      [{ ...right, cardId: `${person.cardId}-new` }, /not signed by the card that is replaced/],
      [
        await signedRequest(person, { to: suginami, at: { municipalityCode: nakano } }),
        /another municipality/,
      ],
      [{ ...right, requests: (await signedRequest(person)).requests }, /signed for other keys/],
      [await signedRequest(person, { key: await makeChipKey() }), /signature/],
    ];
    for (const [body, detail] of unfit)
      expect(await send(body)).toMatchObject({
        status: 400,
        body: { detail: expect.stringMatching(detail) },
      });
    expect([await see('shibuya revoker', person), await see('nakano revoker', person)]).toEqual([200, 404]);
    expect((await send(right)).status).toBe(201);
    expect([await see('shibuya revoker', person), await see('nakano revoker', person)]).toEqual([404, 200]);
    // Signed once, for one move.
    expectRefusal(await send(right), 409, 'challenge-not-usable');
    const { body } = await administrator.get<{
      messages: { type: string; destination: string; occasion: string }[];
    }>('/outbox?state=waiting');
    expect(body.messages).toContainEqual(
      expect.objectContaining({ type: 'town-notice', destination: 'towns', occasion: 'moved-out' }),
    );
  });

  it('is reported by the register, or the old town, with the new one, which then issues', async () => {
    for (const by of ['register', 'shibuya revoker']) {
      const person = await resident();
      const report = { event: 'moved', holderId: person.holderId, municipalityCode: nakano };
      expectRefusal(
        await client('nakano revoker').post('/events', report),
        404,
        'not-found',
        /no such holder/,
      );
      expect((await client(by).post('/events', report)).status).toBe(200);
      expect([await see('shibuya revoker', person), await see('nakano revoker', person)]).toEqual([404, 200]);
      const { basicFour } = ids();
      expect((await moveTo(person, { event: undefined, basicFour })).status).toBe(201);
      expectRefusal(
        await ask('counter', { holderId: person.holderId, cardId: person.cardId }),
        403,
        'desk-not-allowed',
      );
    }
    const stays = { event: 'died', holderId: 'person-1', municipalityCode: nakano };
    expectRefusal(await client('register').post('/events', stays), 400, 'bad-request', /moves no holder/);
  });

  it('is wanted before anything is said of the holder: nothing shows of an end, or of who it is', async () => {
    const person = await resident();
    for (const [event, replaced] of [
      ['card-renewed', {}],
      ['moved', { basicFour: { ...ids().basicFour, birthDate: '1991-04-01' } }],
    ] as const)
      expectRefusal(
        await moveTo(person, { event, ...replaced }),
        403,
        'desk-not-allowed',
        /not of that municipality/,
      );
  });

  it('is made by a desk of both towns for the function move alone, else it is not the holder’s', async () => {
    const both = { municipalities: [shibuya, nakano] };
    await record({ deskCode: 'BOTH00001', kind: 'factory', ...both });
    await record({ deskCode: 'BOTH00002', kind: 'counter', municipalityCode: nakano, ...both });
    const at = { kind: 'system', roles: ['issuer'] } as const;
    const desksOfBoth = { ...at, name: 'both', roles: ['issuer'], desks: ['BOTH00001', 'BOTH00002'] };
    const { client: of } = await test.enrol(desksOfBoth);
    const person = await resident();
    const { holderId, cardId } = person;
    const keys = { signing: await makeChipKey() };
    for (const [deskCode, event, status] of [
      ['BOTH00001', 'renamed', 403],
      ['BOTH00002', 'renamed', 403],
      ['BOTH00001', undefined, 403],
    ] as const)
      expect(
        await of.post(
          '/card-certificates',
          cardRequest(keys, { holderId, cardId, deskCode, municipalityCode: nakano, event }),
        ),
      ).toMatchObject({ status, body: { title: 'desk-not-allowed' } });
    expect(await see('shibuya revoker', person)).toBe(200);
  });

  it('takes no challenge of another client, nor a card that is held or another’s', async () => {
    const [person, thief] = [await resident(), await resident()];
    const stolen = await signedRequest(person, { by: 'counter' });
    expectRefusal(await send({ ...stolen, deskCode: desks.other.deskCode }), 409, 'challenge-not-usable');
    const own = await signedRequest(thief);
    const taken = { ...own, holderId: person.holderId, cardId: person.cardId };
    expectRefusal(await send(taken), 400, 'invalid-signed-request', /not signed by the card/);
    await client('loss').post('/events', { event: 'card-lost', cardId: person.cardId });
    const held = await signedRequest(person);
    expectRefusal(await send(held), 400, 'invalid-signed-request', /is held/);
  });
});
