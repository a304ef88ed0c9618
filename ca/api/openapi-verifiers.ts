import { describedRoutes, openApiDocument } from './openapi.ts';

// The OpenAPI document for verifiers: what they may call of the CA API, and what OCSP and CRL nodes answer them. It travels with
// `@warifu/verifier`.

type Json = Readonly<Record<string, unknown>>;

const token = {
  name: 'token',
  in: 'path',
  required: true,
  description: 'the token of this verifier',
  schema: { type: 'string', pattern: '^[A-Za-z0-9_-]{16,128}$' },
};
const part = (name: string, description: string, pattern: string) => ({
  ...{ name, in: 'path', required: true, description, schema: { type: 'string', pattern } },
});
const octets = (mediaType: string, description: string) => ({
  description,
  content: { [mediaType]: { schema: { type: 'string', format: 'binary' } } },
});
const refusals = {
  '403': { description: 'no verifier that may ask this now' },
  '429': { description: 'more requests a second than this verifier may ask' },
};
const ocspAnswer = octets(
  'application/ocsp-response',
  'OCSPResponse; tryLater, unauthorized and malformedRequest are answers with status 200 (RFC 6960 §4.2.1)',
);
/** Where OCSP or CRL nodes answer: another address than the API's. */
const at = (node: string) => [{ url: `https://${node}.example`, description: `${node} nodes of the CA` }];
/** By a token in the address; over TLS with a certificate of the register the same without `/v/{token}`. */
const open = { security: [] };

const nodePaths: Readonly<Record<string, Json>> = {
  '/v/{token}': {
    servers: at('ocsp'),
    post: {
      summary: 'Ask whether certificates are good (RFC 6960 appendix A)',
      description: 'Over TLS with a certificate of the register: POST /',
      ...open,
      parameters: [token],
      requestBody: { required: true, ...octets('application/ocsp-request', 'OCSPRequest, DER') },
      responses: { '200': ocspAnswer, ...refusals },
    },
  },
  '/v/{token}/{request}': {
    servers: at('ocsp'),
    get: {
      summary: 'The same in an address, for caches',
      ...open,
      parameters: [token, part('request', 'OCSPRequest in base64, percent-encoded', '^[A-Za-z0-9+/=%]+$')],
      responses: { '200': ocspAnswer, ...refusals },
    },
  },
  '/v/{token}/crl/{series}/{generation}/{code}/{number}.crl': {
    servers: at('crl'),
    get: {
      summary: 'The CRL that a certificate names, or with -delta behind its number what has changed since',
      ...open,
      parameters: [
        token,
        part('series', 'kind of certificate', '^[a-z-]+$'),
        part('generation', 'of the CA', '^[0-9]+$'),
        part('code', 'municipality, or all', '^[A-Za-z0-9-]+$'),
        part('number', 'shard', '^[0-9]+(-delta)?$'),
      ],
      responses: {
        '200': octets('application/pkix-crl', 'CertificateList, DER (RFC 5280 §5)'),
        '404': { description: 'there is none: no certificate of that shard was issued' },
        ...refusals,
      },
    },
  },
  '/v/{token}/filter/{name}.filter': {
    servers: at('crl'),
    get: {
      summary: 'A revocation filter, or what has changed since it',
      ...open,
      parameters: [token, part('name', 'of which CA', '^(signing|authentication)(-delta)?$')],
      responses: {
        '200': octets('application/octet-stream', 'the file: its format is in docs/VERIFIERS.md'),
        '404': { description: 'this CA publishes none' },
        ...refusals,
      },
    },
  },
  '/ca/{authority}.cer': {
    servers: at('crl'),
    get: {
      summary: 'A CA certificate; /ca/ is a page with all of them and their fingerprints',
      ...open,
      parameters: [part('authority', 'CA and generation', '^(signing|authentication)-[1-9][0-9]*$')],
      responses: {
        '200': octets('application/pkix-cert', 'Certificate, DER'),
        '404': { description: 'no such CA' },
      },
    },
  },
};

/** What `core/verifier/openapi.json` holds. */
export async function verifierDocument(): Promise<string> {
  const document = JSON.parse(await openApiDocument()) as Json & { readonly paths: Record<string, Json> };
  const own = new Set(
    (await describedRoutes()).filter(({ roles }) => roles.includes('verifier')).map(({ route }) => route),
  );
  const paths = Object.entries(document.paths).flatMap(([path, methods]) => {
    const kept = Object.entries(methods).filter(([method]) =>
      own.has(`${method.toUpperCase()} ${path.replace('/v1', '')}`),
    );
    return kept.length === 0 ? [] : [[path, Object.fromEntries(kept)] as const];
  });
  const info = {
    title: 'Warifu for verifiers',
    version: '1',
    description:
      'What a verifier of the register may ask: the CA API in the role verifier, OCSP and CRL nodes.',
  };
  const all = { ...nodePaths, ...Object.fromEntries(paths) };
  return `${JSON.stringify({ ...document, info, paths: all }, null, 2)}\n`;
}
