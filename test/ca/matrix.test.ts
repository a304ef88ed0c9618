import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { accessMatrix, objects, printAccess } from '../../ca/api/access-matrix.ts';
import { openApiDocument } from '../../ca/api/openapi.ts';
import { roles } from '../../ca/api/schema-clients.ts';
import type { Answer, Issued } from '../../ca/client/client.ts';
import { cardRequest, makeChipKey } from '../support/actors.ts';
import { removeScratch } from '../support/harness.ts';
import { ownKey } from '../support/own-key.ts';
import {
  basicFourOf,
  type Enrolled,
  municipalities,
  nakano,
  type ProductionService,
  shibuya,
  startProduction,
} from '../support/production.ts';

// Every route, by every role, about what is its own, another town's or desk's, another client's, and what there is not: requests are made of
// the OpenAPI document, and what is expected of the matrix of access.

interface Schema {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
  readonly minItems?: number;
  readonly minimum?: number;
  readonly anyOf?: readonly Schema[];
}
interface Operation {
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly required?: boolean;
    readonly schema: Schema;
  }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
}

const { paths } = JSON.parse(await openApiDocument()) as {
  paths: Record<string, Record<string, Operation>>;
};
const matrix = await accessMatrix();
const operationOf = (route: string): Operation => {
  const [method = '', path = ''] = route.split(' ');
  return paths[`/v1${path}`]?.[method.toLowerCase()] ?? {};
};

/** Values by the names of members and parameters. */
type Values = Readonly<Record<string, unknown>>;

const request = (await ownKey()).request;
/** What is of no one in particular. */
const common: Values = {
  name: 'release',
  purpose: undefined,
  planHash: '0'.repeat(64),
  edited: '0'.repeat(64),
  days: '9999',
  adopted: 'true',
  epoch: '1',
  request,
  basicFour: basicFourOf('matrix'),
  cardExpiresOn: '2031-04-01',
  note: 'x',
  ground: 'x',
  what: 'renewals',
  event: 'card-lost',
  action: 'hold',
  signedEnrolment: 'AAAA',
  signedRevocation: 'AAAA',
  signedWishes: 'AAAA',
  code: '00000000',
  platform: 'android',
  instance: 'x',
  roles: ['reader'],
  desks: [],
  kind: 'factory',
  suite: 'p256-sha256',
  publicKey: 'AAAA',
};

/** What means another thing in one route than in the others. */
const special: Readonly<Record<string, Values>> = {
  'POST /restrictions/{restrictionId}/end': { action: 'release' },
};

function sampleOf(schema: Schema, name: string, values: Values): unknown {
  if (name in values) return values[name];
  const { type, enum: allowed, const: only, anyOf, items, minItems = 0, minimum } = schema;
  if (only !== undefined) return only;
  if (allowed) return allowed[0];
  if (anyOf?.[0]) return sampleOf(anyOf[0], name, values);
  if (type === 'array') return Array.from({ length: minItems }, () => sampleOf(items ?? {}, '', values));
  if (type === 'integer' || type === 'number') return minimum ?? 1;
  if (type === 'boolean') return true;
  if (type !== 'object') return 'x';
  const members = [
    ...(schema.required ?? []),
    ...optional.filter((each) => each in (schema.properties ?? {})),
  ];
  return Object.fromEntries(
    [...new Set(members)].map((member) => [
      member,
      sampleOf(schema.properties?.[member] ?? {}, member, values),
    ]),
  );
}

/** Members that name an object, though a request may be without. */
const optional = ['deskCode', 'cardId', 'keyHash'];

/** Asks a route about some objects. */
async function ask(by: Enrolled, route: string, values: Values): Promise<Answer<object>> {
  const [method = '', path = ''] = route.split(' ');
  const { parameters = [], requestBody } = operationOf(route);
  const all = { ...common, ...(special[route] ?? {}), ...values };
  const filled = path.replaceAll(/\{([A-Za-z]+)\}/g, (_, name: string) => String(sampleOf({}, name, all)));
  const query = parameters
    .filter((each) => each.in === 'query' && each.required === true)
    .map(({ name, schema }) => `${name}=${String(sampleOf(schema, name, all))}`);
  const address = query.length === 0 ? filled : `${filled}?${query.join('&')}`;
  const schema = requestBody?.content['application/json']?.schema;
  const body = schema && sampleOf(schema, '', all);
  return by.client.send(method as 'GET', address, body === undefined ? undefined : JSON.stringify(body), {
    ...(method === 'GET' ? {} : { 'idempotency-key': crypto.randomUUID() }),
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
  });
}

/** An answer without what is its own: its request, and the names that were asked about. */
const shown = ({ status, body }: Answer<object>, values: Values): string =>
  Object.values(values).reduce<string>(
    (text, value) => text.replaceAll(String(value), '*'),
    JSON.stringify([status, { ...body, instance: null }]),
  );

let test: ProductionService;
const callers = new Map<string, Enrolled>();
let own: Values;
/** The same of what there is not. */
const none: Values = {
  holderId: 'no-holder',
  cardId: 'no-card',
  replacesCardId: 'no-card',
  authority: 'signing-1',
  serialNumber: '0'.repeat(40),
  deskCode: 'NODESK001',
  deviceId: 'no-phone',
  proposalId: crypto.randomUUID(),
  fingerprint: 'f'.repeat(64),
  correctionId: crypto.randomUUID(),
  restrictionId: crypto.randomUUID(),
  actId: crypto.randomUUID(),
  messageId: crypto.randomUUID(),
  issuanceId: crypto.randomUUID(),
  keyHash: 'e'.repeat(64),
  municipalityCode: nakano,
};

beforeAll(async () => {
  test = await startProduction({ municipalities });
  for (const [deskCode, municipalityCode] of [
    ['SHIBUYA01', shibuya],
    ['NAKANO001', nakano],
  ])
    await test.approved('/desks', { deskCode, kind: 'counter', municipalityCode });
  const clerk = await test.enrol({ name: 'clerk', kind: 'person', roles: ['issuer'], desks: ['SHIBUYA01'] });
  const towns = { kind: 'person', roles: ['revoker'], municipalities: ['*'] } as const;
  const nation = await test.enrol({
    ...towns,
    name: 'nation',
    roles: ['revoker', 'reader'],
    municipalities: ['*'],
  });
  for (const role of roles) {
    const isPerson = ['issuer', 'revoker', 'reader', 'administrator'].includes(role);
    const isOfTown = ['revoker', 'reader'].includes(role);
    callers.set(
      role,
      await test.enrol({
        ...{ name: `a ${role}`, kind: isPerson ? 'person' : 'system', roles: [role] },
        ...(role === 'issuer' ? { desks: ['NAKANO001'] } : {}),
        ...(isOfTown ? { municipalities: [nakano] } : {}),
      }),
    );
  }
  const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
  const at = {
    holderId: 'resident',
    cardId: 'card-of-resident',
    deskCode: 'SHIBUYA01',
    municipalityCode: shibuya,
  };
  const body = cardRequest(keys, { ...at, basicFour: basicFourOf('resident') });
  const { body: issued } = await clerk.client.post<Issued>('/card-certificates', body);
  const [signing] = issued.certificates;
  const orders = [{ holderId: 'x', cardId: 'y', replacesCardId: 'z' }];
  const order = { deskCode: 'SHIBUYA01', event: 'card-exchanged', cards: orders };
  const proposed = await clerk.client.post<{ proposalId: string }>('/card-orders', order);
  const match = { platform: 'android', models: ['M'] };
  const restricted = await nation.client.post<{ restrictionId: string; acts: { actId: string }[] }>(
    '/restrictions',
    {
      match,
    },
  );
  await nation.client.post('/events', { event: 'died', holderId: 'resident' });
  const corrected = await nation.client.post<{ correctionId: string }>('/holders/resident/corrections', {
    note: 'x',
  });
  own = {
    ...{
      holderId: 'resident',
      cardId: 'card-of-resident',
      replacesCardId: 'card-of-resident',
      deviceId: 'known-phone',
    },
    ...{ authority: 'signing-1', serialNumber: signing?.serialNumber, deskCode: 'SHIBUYA01' },
    proposalId: proposed.body.proposalId,
    fingerprint: clerk.fingerprint,
    correctionId: corrected.body.correctionId,
    restrictionId: restricted.body.restrictionId,
    actId: restricted.body.acts[0]?.actId,
    messageId: crypto.randomUUID(),
    issuanceId: issued.issuanceId,
    keyHash: 'd'.repeat(64),
    municipalityCode: nakano,
  };
  for (const [name, value] of Object.entries(own)) expect([name, value]).not.toEqual([name, undefined]);
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

const caller = (role: string): Enrolled => callers.get(role) as Enrolled;
/** A stream of the feed has no end. */
const isAsked = ({ route }: { readonly route: string }): boolean =>
  route !== 'GET /feed' && route !== 'POST /feed' && route !== 'POST /card-certificate-batches';

/** Whether a request names something that is someone's. */
function namesAnything(route: string): boolean {
  const schema = operationOf(route).requestBody?.content['application/json']?.schema;
  const body = JSON.stringify(schema === undefined ? null : sampleOf(schema, '', { ...common, ...none }));
  return route.includes('{') || Object.values(none).some((value) => body.includes(String(value)));
}

describe('the matrix of access', () => {
  it('stands in the document as the command prints it, with what its words mean', async () => {
    const document = readFileSync(new URL('../../docs/ACCESS.md', import.meta.url), 'utf8');
    expect(document).toContain(printAccess(await accessMatrix()));
    for (const [name, what] of Object.entries(objects))
      expect(document).toContain(`| \`${name}\` | ${what} |`);
  });

  it('has every route of the API', () => {
    const routes = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replace('/v1', '')}`),
    );
    expect(matrix.map(({ route }) => route).sort()).toEqual(routes.sort());
  });

  const closed = matrix
    .filter(isAsked)
    .map((row) => ({ ...row, others: roles.filter((role) => !row.roles.includes(role)) }))
    .filter((row) => row.roles.length > 0 && row.others.length > 0);
  it.each(closed)(
    '$route tells no other role whether what it names is there',
    async ({ route, roles: may, others }) => {
      for (const role of others) {
        const [there, absent] = [await ask(caller(role), route, own), await ask(caller(role), route, none)];
        expect([role, shown(there, own)]).toEqual([role, shown(absent, none)]);
        expect(there).toMatchObject({
          status: 403,
          body: { detail: `this needs the role ${may.join(' or ')}` },
        });
      }
    },
  );

  const hidden = matrix.filter(
    (row) => isAsked(row) && ['town', 'desk', 'own'].includes(row.object) && namesAnything(row.route),
  );
  it.each(hidden)(
    '$route answers of what is another’s as of what is not there',
    async ({ route, roles: may }) => {
      for (const role of may.filter((each) => each !== 'administrator')) {
        const [there, absent] = [await ask(caller(role), route, own), await ask(caller(role), route, none)];
        expect([role, shown(there, own)]).toEqual([role, shown(absent, none)]);
      }
    },
  );

  const national = matrix.filter((row) => row.object === 'nation');
  it.each(national)('$route is for who is bound to the nation', async ({ route, roles: may }) => {
    for (const role of may.filter((each) => each === 'revoker' || each === 'reader')) {
      const [there, absent] = [await ask(caller(role), route, own), await ask(caller(role), route, none)];
      expect([role, shown(there, own)]).toEqual([role, shown(absent, none)]);
      expect(there).toMatchObject({ status: 403, body: { detail: expect.stringContaining('the nation') } });
    }
  });
});
