import { STATUS_CODES } from 'node:http';

// Requests that can be sent as they stand, by the name of their operation: they are in the OpenAPI document, and a test sends each of
// them, in this order, to a service that has nothing on record. Left out are operations that a holder, a verifier or a second person has to
// sign for, or that name what an answer before named: no text that stands still can be that.

/** PKCS#10 requests, DER in base64, for keys that were thrown away. */
const signingRequest = [
  'MIICVzCCAT8CAQAwEjEQMA4GA1UEAwwHZXhhbXBsZTCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBAK5b',
  'gCwMrosnr651a1GsGjgAh6pgwB1V1Q/ha4wSmrWyT7Tm4pNua0gHGIAKw5GcqkJeB1xPNJfJpcOauFdu2E1z7MRq',
  '79aug9frj7kQjZlYMqITbtd9U8padAXzwmfnFGpu2US82lKY6+l9nplve3Zzu/iF5GYIaFPkdUd/C6INp+SOvmPh',
  'tEVCOnZH6KuEuOeXqznprPye/c1krH7PBe/9dspsx9k8wvGL48+jLAdPHw6N9nj6K3esRkHcnsAPNNSiZpR+Ym87',
  'AeLiFjFRbOIa/8y/u0+istB7UvlgvVsI9UcvO83p84vrZBj9ZPslHD9CvXh+Nv6etsIzWdcBg3kCAwEAAaAAMA0G',
  'CSqGSIb3DQEBCwUAA4IBAQA+y6yOLO9c7dUcUvxcu2jYXfaISbgen4wa4WIuTbgLK2kEcTAz7jrmlpV21BCtdaqf',
  'TM1b4tMeQWmWPF+CRiczThlwiDJFY+3JZbMXZC6IMlFbzAiyqWTsrdfPhw9Fqj7r1udWPJSACESnnxHm7RskXCVI',
  'eJflI6Ke2cXNW9esBHDPzH9Ikr8Ooefv5s3+gGwbgJ4qwihvaNj8jFtryDQ3R0XiEuNEocfNHA6IbwEaE63jhHx3',
  'k74lnEuQ9Lb/DNk6yKQUGKzXa1dlB5ecE1l9TlHS6r2qO9ZL0dcx0S+VflpMXFgtQIeXH12F528f9EE9O+vC/37F',
  'GIAq9T7jVeUK',
].join('');
const authenticationRequest = [
  'MIICVzCCAT8CAQAwEjEQMA4GA1UEAwwHZXhhbXBsZTCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBAOLa',
  'splwa+QU1g2DW1HTbcXLG8yu5mKY770Bo46B++iCE7ZbaepPJBIpzwWOAp11D0ocPQ5nOSR4W7PWW5D0rq62kawP',
  'WU1eiFB1z4AyvINDDmlNToUjUUxAk0IvxNoO0ytN1quU96ccQQulRxvlgrXMB3Zn+WjexpxsuXvsHtURb5s9abiQ',
  'JUfAJm4XRBv4ruwLZsJHn3jWAwST6KU0zeYlH4CQlGoUQaTgf6so3Y4IaIpygCXhy3xDbNJG3/TCPIFQTLJfAZAZ',
  'EbzHKXq9j+Ll7xsoRVi3iu4EM4c0yHE/pIgSSIcpt3vSn9GZ7uZFuPNzlaRhLoV1yUG+Ah1NxG0CAwEAAaAAMA0G',
  'CSqGSIb3DQEBCwUAA4IBAQA7kNNNAXDuq/d42n7Q+tzk6OIgAAHSFwrF5lBhb+7lp1myQvoKCE09bwTWbqszzLUX',
  'jdqLktvfjIje70McxfevuL2cmOdyUbpJ+rTDQKqa6MDTW+eQH7WW0cGFMZQWmCa9Xt4ChJJWov2ku1Vcsa/OxXCs',
  'TDqujkNHhEs05zXHL/zj1twXRV2vYmOHt5nvfh3dAFoienV9A22ah68hS1VfyeNPhVAnBh2Xv91lfKS4mlhhA0xA',
  '+HsUy0PUyf5Qa3ICxxv46+/nbs/2duKG9W2E3+yIvxq9otx74KCjvlZ9M81ci4uiiTbu7SXHkSF5x5UwCmlw51mq',
  'AtQqY3F1OiXQ',
].join('');
const clientRequest = [
  'MIHSMHoCAQAwGDEWMBQGA1UEAwwNd2luZG93LXN5c3RlbTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABKr83U4w',
  '44onqHpqaC8liA32BMi3xABAQgo/dB97f6G6E2XNiasfMwPa4I5jQhpxD2uF7EncGHNahvnUSLAh9GSgADAKBggq',
  'hkjOPQQDAgNIADBFAiEA0ukt2i9NuwAkjzDgRasuFJwB1/0OnCX6kAktzblF3mwCIF2ml/6hNLmbPdAYNLxlVW4z',
  '1qnTTQfsYLlnjjvR6YGV',
].join('');

export const examples: Readonly<Record<string, unknown>> = {
  postDesks: {
    deskCode: 'SHIBUYA01',
    kind: 'counter',
    municipalityCode: '13113',
  },
  postCardCertificates: {
    holderId: 'holder-1',
    cardId: 'card-1',
    cardExpiresOn: '2035-06-30',
    municipalityCode: '13113',
    deskCode: 'SHIBUYA01',
    basicFour: {
      name: '番号　花子',
      address: '東京都渋谷区例町一丁目１番地',
      birthDate: '1990-04-01',
      sex: 'female',
    },
    requests: { signing: signingRequest, authentication: authenticationRequest },
  },
  postCardChallenges: { deskCode: 'SHIBUYA01' },
  postEvents: { event: 'card-lost', cardId: 'card-1', eventId: 'report-4711' },
  postHoldersByHolderIdWithholding: { withheld: true },
  postBlockedKeys: { keyHash: '5b0d4b0c1c8d3f2f8b6e5a4938271605f4e3d2c1b0a99887766554433221100f' },
  postRestrictionsPreview: { platform: 'android', models: ['PHONE-1'], patchLevelBefore: '2026-09-01' },
  postRestrictions: {
    match: { platform: 'android', models: ['PHONE-1'], patchLevelBefore: '2026-09-01' },
    note: 'advisory 2026-17',
  },
  postSwitchesByName: { state: 'limited', perMinute: 60, note: 'maintenance of the token' },
  postClients: { name: 'window-system', request: clientRequest, roles: ['issuer'], desks: ['SHIBUYA01'] },
  postVerifiers: {
    name: 'A Bank',
    type: 'private',
    kinds: ['signing', 'authentication'],
    purposes: ['accounts'],
  },
  postVerifiersByVerifierIdCredentials: { type: 'port', port: 8091 },
  postClientsByFingerprintBinding: { roles: ['issuer', 'reader'], desks: ['SHIBUYA01'] },
  postCertificatesByAuthorityBySerialNumberChanges: {
    action: 'revoke',
    reason: 'keyCompromise',
    deskCode: 'SHIBUYA01',
  },
  postCardOrders: {
    deskCode: 'SHIBUYA01',
    event: 'card-exchanged',
    cards: [{ holderId: 'holder-1', cardId: 'card-2', replacesCardId: 'card-1' }],
  },
  postExports: { what: 'renewals', ground: 'letters to holders whose certificates end' },
};

/** Values of parameters that have to be given, by name: those that the requests above lead to. */
const parameterExamples: Readonly<Record<string, string>> = {
  holderId: 'holder-1',
  id: 'card-1',
  deskCode: 'SHIBUYA01',
  authority: 'signing-1',
  name: 'phone-renewal',
  days: '90',
  state: 'dead',
};

interface Described {
  readonly operationId?: string;
  readonly parameters?: readonly object[];
  readonly requestBody?: object;
  readonly responses?: Readonly<Record<string, object>>;
}

/** The document with an example of each request that has one, and of each parameter that has to be given; answers are named by their status. */
export function withExamples<Document extends { readonly paths?: object }>(document: Document): Document {
  const exemplified = ([method, operation]: [string, Described]) => [method, exemplify(operation)] as const;
  const paths = Object.entries(document.paths ?? {}).map(([path, operations]) => [
    path,
    Object.fromEntries(Object.entries(operations as Record<string, Described>).map(exemplified)),
  ]);
  return { ...document, paths: Object.fromEntries(paths) };
}

function exemplify(operation: Described): Described {
  const { operationId = '', parameters, requestBody, responses = {} } = operation;
  const example = examples[operationId];
  const named = Object.entries(responses).map(([status, of]) => [
    status,
    'description' in of && of.description !== 'Default Response'
      ? of
      : { ...of, description: STATUS_CODES[status] ?? 'A problem (RFC 9457)' },
  ]);
  return {
    ...operation,
    responses: Object.fromEntries(named),
    ...(parameters ? { parameters: parameters.map(parameterWithExample) } : {}),
    ...(requestBody && example !== undefined ? { requestBody: bodyWith(requestBody, example) } : {}),
  };
}

function parameterWithExample(parameter: object): object {
  const { name, required } = parameter as { name?: string; required?: boolean };
  const example = name === undefined ? undefined : parameterExamples[name];
  return required === true && example !== undefined ? { ...parameter, example } : parameter;
}

function bodyWith(body: object, example: unknown): object {
  const { content = {} } = body as { content?: Readonly<Record<string, object>> };
  const exemplified = Object.entries(content).map(([type, of]) => [type, { ...of, example }]);
  return { ...body, content: Object.fromEntries(exemplified) };
}
