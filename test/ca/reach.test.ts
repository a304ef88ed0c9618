import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openApiDocument } from '../../ca/api/openapi.ts';
import type { Answer, CaClient } from '../../ca/client/client.ts';
import { addClient, removeScratch, startTestService, type TestService } from '../support/harness.ts';
import { Person } from '../support/holder-rules.ts';

// What another municipality's holder has is, to who does not act for that one, what does not exist: of every route that names a holder, or
// what a holder has. A route that is added stands in one of these lists, or the test says so.

const [shibuya, nakano] = ['13113', '13114'];
const overrides = {
  municipalities: [
    { code: shibuya, prefecture: 'Tokyo-to', municipality: 'Shibuya-ku' },
    { code: nakano, prefecture: 'Tokyo-to', municipality: 'Nakano-ku' },
  ] as never,
};

/** What a route is asked about. */
interface Named {
  readonly holderId: string;
  /** Who was closed, and for whom a correction is proposed. */
  readonly closedId: string;
  readonly cardId: string;
  readonly deviceId: string;
  readonly serialNumber: string;
  readonly correctionId: string;
}

type Ask = (by: CaClient, of: Named) => Promise<Answer<unknown>>;

const get =
  (path: (of: Named) => string): Ask =>
  (by, of) =>
    by.get(path(of));
const post =
  (path: (of: Named) => string, body: (of: Named) => unknown): Ask =>
  (by, of) =>
    by.post(path(of), body(of));
const report = (body: (of: Named) => object): Ask =>
  post(
    () => '/events',
    (of) => ({ ...body(of), dryRun: true }),
  );

/** Each route with every way to name what is another's, as a revoker and reader, or at a desk. */
const asked: Readonly<Record<string, readonly Ask[]>> = {
  'GET /holders/{holderId}': [get(({ holderId }) => `/holders/${holderId}`)],
  'GET /cards/{id}': [get(({ cardId }) => `/cards/${cardId}`)],
  'GET /phones/{id}': [get(({ deviceId }) => `/phones/${deviceId}`)],
  'GET /holders/{holderId}/media': [get(({ holderId }) => `/holders/${holderId}/media`)],
  'GET /holders/{holderId}/history': [get(({ holderId }) => `/holders/${holderId}/history`)],
  'GET /holders/{holderId}/corrections': [get(({ closedId }) => `/holders/${closedId}/corrections`)],
  'GET /certificates/{authority}/{serialNumber}': [
    get(({ serialNumber }) => `/certificates/${serialNumber}`),
  ],
  'GET /certificates/{authority}/{serialNumber}/history': [
    get(({ serialNumber }) => `/certificates/${serialNumber}/history`),
  ],
  'POST /certificates/{authority}/{serialNumber}/changes': ['hold', 'release', 'revoke'].map((action) =>
    post(
      ({ serialNumber }) => `/certificates/${serialNumber}/changes`,
      () => ({ action, ...(action === 'revoke' ? { reason: 'keyCompromise' } : {}), dryRun: true }),
    ),
  ),
  'POST /events': [
    report(({ cardId }) => ({ event: 'card-lost', cardId })),
    report(({ cardId }) => ({ event: 'card-found', cardId })),
    report(({ cardId }) => ({ event: 'card-returned', cardId })),
    report(({ deviceId }) => ({ event: 'phone-lost', deviceId })),
    report(({ deviceId }) => ({ event: 'phone-found', deviceId })),
    report(({ holderId }) => ({ event: 'died', holderId })),
    report(({ holderId }) => ({ event: 'renamed', holderId })),
    report(({ holderId }) => ({ event: 'moved', holderId })),
    report(({ holderId }) => ({ event: 'moved', holderId, municipalityCode: nakano })),
    report(({ holderId }) => ({ event: 'guardianship-began', holderId })),
  ],
  'POST /holders/{holderId}/corrections': [
    post(
      ({ holderId }) => `/holders/${holderId}/corrections`,
      () => ({ note: 'x' }),
    ),
  ],
  'GET /holders/{holderId}/consents': [get(({ holderId }) => `/holders/${holderId}/consents`)],
  'POST /holders/{holderId}/withholding': [
    post(
      ({ holderId }) => `/holders/${holderId}/withholding`,
      () => ({ withheld: true }),
    ),
  ],
  'POST /corrections/{correctionId}/approval': [
    post(
      ({ correctionId }) => `/corrections/${correctionId}/approval`,
      () => undefined,
    ),
  ],
  'POST /corrections/{correctionId}/withdrawal': [
    post(
      ({ correctionId }) => `/corrections/${correctionId}/withdrawal`,
      () => undefined,
    ),
  ],
};

/** Routes that name what holders have, and why they are not asked here. */
const otherwise: Readonly<Record<string, string>> = {
  'POST /card-certificates': 'issuing: test/ca/desks.test.ts; a desk learns that a holder is another town’s',
  'POST /card-certificate-batches': 'the same',
  'GET /holders/{holderId}/accesses': 'with the holder’s signature, or an export: test/ca/readings.test.ts',
  'POST /exports': 'the same',
  'POST /card-orders': 'what they are for is refused as it is issued',
  'POST /enrolment-codes': 'the same',
  'POST /clock/corrections/{correctionId}/approval': 'of the record’s time, by administrators',
  'POST /phone-certificates': 'the card has signed, wherever its holder lives',
  'POST /holders/{holderId}/notices': 'the holder has signed',
  'POST /holders/{holderId}/notices/confirmation': 'by a code that the holder has got',
  'POST /certificates/{authority}/{serialNumber}/watches': 'verifiers act for the nation',
  'POST /certificates/{authority}/{serialNumber}/watches/end': 'a verifier ends what it watches itself',
  'POST /watch-intakes/{intakeId}/entries': 'verifiers act for the nation',
  'POST /certificates/{authority}/{serialNumber}/uses': 'verifiers act for the nation',
  'POST /certificates/{authority}/{serialNumber}/holder': 'administrators act for the nation',
};

describe('what is another municipality’s', () => {
  let test: TestService;
  let own: CaClient;
  let other: CaClient;
  let known: Named;
  const none: Named = {
    holderId: 'no-holder',
    closedId: 'no-one',
    cardId: 'no-card',
    deviceId: 'no-phone',
    serialNumber: '',
    correctionId: crypto.randomUUID(),
  };
  let absent: Named;

  beforeAll(async () => {
    test = await startTestService({ overrides });
    const roles = ['revoker', 'reader'];
    const bound = (municipality: string) => ({ roles, municipalities: [municipality] });
    own = (await addClient(test, 'shibuya', bound(shibuya))).client;
    other = (await addClient(test, 'nakano', bound(nakano))).client;
    const person = await Person.withCard(test, { municipalityCode: shibuya });
    const deviceId = 'phone-of-person';
    expect((await person.enrol(deviceId)).status).toBe(201);
    const [first] = person.asHolder().card.certificates;
    const serialNumber = `${first?.authority}/${first?.serialNumber}`;
    const closed = await Person.withCard(test, { municipalityCode: shibuya });
    expect((await closed.report({ event: 'died', holderId: closed.holderId })).status).toBe(200);
    const path = `/holders/${closed.holderId}/corrections`;
    const proposed = await test.api.post<{ correctionId: string }>(path, { note: 'was another' });
    const { correctionId } = proposed.body;
    const { holderId, cardId } = person;
    known = { holderId, cardId, deviceId, serialNumber, correctionId, closedId: closed.holderId };
    absent = {
      ...none,
      serialNumber: `${first?.authority}/${first?.serialNumber.replace(/.{8}$/, '00000000')}`,
    };
  });
  afterAll(async () => {
    await Promise.all([own.close(), other.close()]);
    await test.close();
    removeScratch();
  });

  it('is asked about by every route that names a holder, or what a holder has', async () => {
    const { paths } = JSON.parse(await openApiDocument()) as {
      paths: Record<string, Record<string, object>>;
    };
    const names = /"(holderId|cardId|deviceId|correctionId|serialNumber)"/;
    const naming = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).flatMap(([method, operation]) => {
        const { parameters, requestBody } = operation as { parameters?: unknown; requestBody?: unknown };
        const isNaming = names.test(JSON.stringify([parameters ?? null, requestBody ?? null]));
        return isNaming ? [`${method.toUpperCase()} ${path.replace('/v1', '')}`] : [];
      }),
    );
    expect(naming.sort()).toEqual([...Object.keys(asked), ...Object.keys(otherwise)].sort());
  });

  const cases = Object.entries(asked).flatMap(([route, ways]) =>
    ways.map((ask, way) => [`${route} (${way + 1})`, ask] as const),
  );
  it.each(cases)('%s is answered as what does not exist', async (_route, ask) => {
    const [hidden, missing] = [await ask(other, known), await ask(other, absent)];
    const shown = ({ status, body }: Answer<unknown>) =>
      JSON.stringify([status, { ...(body as object), instance: null }]);
    expect(shown(hidden)).toBe(shown(missing));
    // It is there: its own municipality is answered otherwise.
    expect(shown(await ask(own, known))).not.toBe(shown(missing));
  });
});
