import { readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { apiPage } from '../../ca/api/api-page.ts';
import { examples } from '../../ca/api/examples.ts';
import { dataFolder, removeScratch, startTestService, type TestService } from '../support/harness.ts';

// The examples of the OpenAPI document, sent as they stand there.

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly required?: boolean;
  readonly example?: string;
  readonly schema: object;
}
interface Content {
  readonly schema: object;
  readonly example?: object;
}
interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, Content>> };
  readonly responses: Readonly<Record<string, { readonly description: string }>>;
}

const { paths } = JSON.parse(readFileSync(new URL('../../ca/openapi.json', import.meta.url), 'utf8')) as {
  paths: Record<string, Record<string, Operation>>;
};
const operations = Object.entries(paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({
    path,
    method: method.toUpperCase(),
    ...operation,
  })),
);
const byId = new Map(operations.map((operation) => [operation.operationId, operation]));
const contentOf = ({ requestBody }: Operation): Content | undefined =>
  requestBody?.content['application/json'];

/** What answers before named, by the names of parameters. */
const named = new Map<string, string>();

function remember(answer: unknown): void {
  for (const [name, value] of Object.entries(answer ?? {})) {
    if (typeof value === 'string') named.set(name, value);
    else if (typeof value === 'object') remember(value);
  }
}

/** The path of an operation under /v1, with its parameters' examples, or what answers named; undefined where there is neither. */
function placeOf({ path, parameters = [] }: (typeof operations)[number]): string | undefined {
  const needed = parameters
    .filter(({ required }) => required === true)
    .map((each) => {
      const example = each.example ?? named.get(each.name);
      return { ...each, ...(example === undefined ? {} : { example }) };
    });
  if (needed.some(({ in: where, example }) => where !== 'header' && example === undefined)) return undefined;
  const value = (name: string): string => needed.find((each) => each.name === name)?.example ?? '';
  const query = needed
    .filter(({ in: where }) => where === 'query')
    .map(({ name }) => `${name}=${value(name)}`);
  const filled = path.replace('/v1', '').replaceAll(/\{([A-Za-z]+)\}/g, (_, name: string) => value(name));
  return `${filled}${query.length > 0 ? `?${query.join('&')}` : ''}`;
}

/** What a holder signs for each time, what a verifier alone may ask, and what no static example has: a phone. */
const notOurs = new Set([
  '/v1/holders/{holderId}/accesses',
  '/v1/watches',
  '/v1/watch-intakes',
  '/v1/phones/{id}',
]);

/** Operations without an example: whose it is to make the request, or what has to be there before. */
const madeByOthers: Readonly<Record<string, readonly string[]>> = {
  'a holder’s signature': [
    ...['postPhoneCertificates', 'postPhoneReports', 'postPhoneRevocations', 'postConsents'],
    ...['postHoldersByHolderIdNotices', 'postHoldersByHolderIdNoticesConfirmation'],
    ...['postConsentsByConsentIdWithdrawal'],
  ],
  'a verifier’s receipt, or its role': [
    ...['postCertificateLinks', 'postWatches', 'postLatestBasicFour', 'postVerifierNotices'],
    ...['postCertificatesByAuthorityBySerialNumberWatches', 'postWatchIntakes'],
    ...['postWatchIntakesByIntakeIdEntries', 'postWatchIntakesByIntakeIdSignatures'],
  ],
  'a second person': [
    'postProposalApprovals',
    'postRestrictionsByRestrictionIdEnd',
    'postProposalsByProposalIdApproval',
    'postConfiguration',
  ],
  'a node’s, a TSM’s or a client’s own key or act': [
    ...['postResponderCertificates', 'postIssuancesByIssuanceIdStorage', 'postClientCertificates'],
    ...['postClientsByFingerprintCertificates'],
  ],
  'a state that seldom is: a death, a clock that was ahead, an adopted certificate, codes switched on, an id of before':
    [
      ...['postHoldersByHolderIdCorrections', 'postClockCorrections', 'postEnrolmentCodes'],
      ...['postCertificatesByAuthorityBySerialNumberHolder', 'postVerifiersByVerifierId'],
      ...['postVerifiersByVerifierIdCredentialsByCredentialIdEnd'],
    ],
};

let test: TestService;
beforeAll(async () => {
  test = await startTestService({ folder: await dataFolder() });
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

describe('an example of the OpenAPI document', () => {
  it.each(Object.keys(examples))('%s is carried out as it stands', async (id) => {
    const operation = byId.get(id) as (typeof operations)[number];
    const body = contentOf(operation)?.example;
    expect(body).toEqual(examples[id]);
    const answer = await test.api.post(placeOf(operation) ?? '', body);
    expect([200, 201, 202], JSON.stringify(answer.body)).toContain(answer.status);
    remember(answer.body);
    expect(Object.keys(operation.responses)).toContain(String(answer.status));
  });

  it('leads to what all other examples look up', async () => {
    const asked = operations.filter(
      ({ method, path }) => method === 'GET' && !path.startsWith('/v1/feed') && !notOurs.has(path),
    );
    const places = asked.map(placeOf).filter((place) => place !== undefined);
    expect(places.length).toBeGreaterThan(20);
    for (const place of places) {
      const { status, body } = await test.api.get(place);
      expect(status, `${place} ${JSON.stringify(body)}`).toBe(200);
    }
  });

  it('is of the form that its operation wants', () => {
    const ajv = new Ajv({ strict: false, validateFormats: false, coerceTypes: true });
    for (const operation of operations) {
      const content = contentOf(operation);
      if (content?.example)
        expect(ajv.validate(content.schema, content.example), operation.operationId).toBe(true);
      for (const { name, schema, example } of operation.parameters ?? [])
        if (example !== undefined)
          expect(ajv.validate(schema, example), `${operation.operationId} ${name}`).toBe(true);
    }
  });

  it('is there for each operation whose body no holder, verifier or second person has to make', () => {
    const without = operations
      .filter((operation) => contentOf(operation) && !contentOf(operation)?.example)
      .map(({ operationId }) => operationId);
    expect(without.sort()).toEqual(Object.values(madeByOthers).flat().sort());
  });
});

describe('the page of the API', () => {
  it('shows all text of the document as text', () => {
    const hostile = '"><img src=x onerror=alert(1)>\'&';
    const schema = { type: hostile, description: hostile, properties: { [hostile]: { enum: [hostile] } } };
    const content = { [hostile]: { schema, example: { [hostile]: hostile } } };
    const page = apiPage({
      info: { title: hostile, description: hostile },
      paths: {
        [`/${hostile}`]: {
          post: {
            ...{ operationId: hostile, summary: hostile, description: hostile, tags: [hostile] },
            'x-roles': [hostile],
            parameters: [{ name: hostile, in: hostile, description: hostile, example: hostile }],
            requestBody: { content },
            responses: { [hostile]: { description: hostile, content } },
          },
        },
      },
    });
    expect(page).not.toContain('<img');
    expect(page).not.toContain('"">');
    expect(page.match(/&lt;img/g)?.length).toBeGreaterThan(10);
  });
});

describe('an answer', () => {
  it('is named by its status', () => {
    for (const { responses, operationId } of operations)
      for (const [status, { description }] of Object.entries(responses))
        expect(description, `${operationId} ${status}`).not.toMatch(/^$|Default/);
  });
});
