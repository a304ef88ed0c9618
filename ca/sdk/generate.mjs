// Makes operations.ts, types and places of all operations, out of the OpenAPI document of the CA API; part of the package's build. Plain
// JavaScript, for it runs with any Node.
import { readFileSync, writeFileSync } from 'node:fs';

const file = (name) => new URL(name, import.meta.url);
const document = JSON.parse(readFileSync(file('../openapi.json'), 'utf8'));

const quoted = (text) => JSON.stringify(text);

/** A JSON Schema as a type. */
function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split('/').at(-1);
  if (schema.enum) return schema.enum.map(quoted).join(' | ');
  if (schema.anyOf) return schema.anyOf.map((each) => `(${typeOf(each)})`).join(' | ');
  if (schema.allOf) return schema.allOf.map((each) => `(${typeOf(each)})`).join(' & ');
  const { type } = schema;
  if (type === 'object') return objectOf(schema);
  if (type === 'array') return `readonly (${schema.items ? typeOf(schema.items) : 'unknown'})[]`;
  if (type === 'integer' || type === 'number') return 'number';
  if (type === 'string' || type === 'boolean' || type === 'null') return type;
  return 'unknown';
}

function objectOf({ properties = {}, required = [], additionalProperties }) {
  const members = Object.entries(properties).map(([name, schema]) => {
    const comment = schema.description ? `/** ${schema.description.replaceAll('*/', '* /')} */ ` : '';
    return `${comment}readonly ${quoted(name)}${required.includes(name) ? '' : '?'}: ${typeOf(schema)};`;
  });
  if (members.length > 0) return `{ ${members.join(' ')} }`;
  const values = typeof additionalProperties === 'object' ? typeOf(additionalProperties) : 'unknown';
  return `Readonly<Record<string, ${values}>>`;
}

const json = 'application/json';
/** Headers that the client sends by itself. */
const own = ['idempotency-key'];

function parametersOf(operation, where) {
  const found = (operation.parameters ?? []).filter((each) => each.in === where && !own.includes(each.name));
  if (found.length === 0) return undefined;
  const properties = Object.fromEntries(
    found.map(({ name, schema, description }) => [name, { ...schema, description }]),
  );
  const required = found.filter((each) => each.required).map(({ name }) => name);
  return { type: objectOf({ properties, required }), isRequired: required.length > 0 };
}

/** What a caller gives, and gets. */
function shapeOf(operation) {
  const body = operation.requestBody?.content?.[json]?.schema;
  const parts = [
    ['path', parametersOf(operation, 'path')],
    ['query', parametersOf(operation, 'query')],
    ['headers', parametersOf(operation, 'header')],
    ['body', body && { type: typeOf(body), isRequired: operation.requestBody.required === true }],
  ].filter(([, part]) => part);
  const input = parts.map(
    ([name, { type, isRequired }]) => `readonly ${name}${isRequired ? '' : '?'}: ${type};`,
  );
  const answers = Object.entries(operation.responses)
    .filter(([status]) => status.startsWith('2'))
    .map(([status, { content = {} }]) => {
      const schema = content[json]?.schema;
      return `{ readonly status: ${Number(status)}; readonly body: ${schema ? typeOf(schema) : 'undefined'} }`;
    });
  return `{ readonly input: { ${input.join(' ')} }; readonly answer: ${answers.join(' | ')} }`;
}

/** Streams have no single answer: batches and the feed are not calls. */
const isStream = ({ requestBody, responses }) =>
  requestBody?.content?.['application/x-ndjson'] !== undefined ||
  Object.values(responses).some(({ content = {} }) => content['application/x-ndjson'] !== undefined) ||
  responses['200']?.content?.[json]?.schema?.type === 'string';

const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods)
    .filter(([, operation]) => !isStream(operation))
    .map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
);
const schemas = Object.entries(document.components.schemas).map(
  ([name, schema]) => `export type ${name} = ${typeOf(schema)};`,
);
const types = operations.map(
  ({ operation }) =>
    `  /** ${operation.summary ?? ''} */\n  readonly ${operation.operationId}: ${shapeOf(operation)};`,
);
const places = operations.map(
  ({ path, method, operation }) =>
    `  ${operation.operationId}: { method: ${quoted(method)}, path: ${quoted(path)}, isOnce: ${(operation.parameters ?? []).some(({ name }) => name === 'idempotency-key')} },`,
);
writeFileSync(
  file('operations.ts'),
  `// Made by generate.mjs out of the OpenAPI document.
${schemas.join('\n')}

export interface Operations {
${types.join('\n')}
}

export const places: Readonly<Record<keyof Operations, { method: string; path: string; isOnce: boolean }>> = {
${places.join('\n')}
};
`,
);
