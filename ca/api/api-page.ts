import { errorStatus } from '../../core/runtime/errors.ts';
import { problemTypes } from './problem-types.ts';

// The OpenAPI document as a page that a person reads: made out of the document, without a script, and under the console's policy.

interface Schema {
  readonly type?: string;
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly anyOf?: readonly Schema[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly pattern?: string;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly additionalProperties?: boolean | Schema;
  readonly $ref?: string;
}
interface Content {
  readonly schema?: Schema;
  readonly example?: unknown;
}
interface Operation {
  readonly operationId?: string;
  readonly summary?: string;
  readonly description?: string;
  readonly tags?: readonly string[];
  readonly 'x-roles'?: readonly string[];
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly required?: boolean;
    readonly description?: string;
    readonly schema?: Schema;
    readonly example?: unknown;
  }[];
  readonly requestBody?: { readonly content?: Readonly<Record<string, Content>> };
  readonly responses?: Readonly<
    Record<string, { readonly description?: string; readonly content?: Readonly<Record<string, Content>> }>
  >;
}
export interface ApiDocument {
  readonly info: { readonly title: string; readonly description?: string };
  readonly paths?: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

/** HTML of the whole document. */
export function apiPage({ info, paths = {} }: ApiDocument): string {
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      ...operation,
      path,
      method: method.toUpperCase(),
    })),
  );
  const groups = Map.groupBy(operations, ({ tags }) => tags?.[0] ?? '');
  const names = [...groups.keys()].sort();
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(info.title)}</title>
<link rel="icon" href="/console/icon.svg">
<link rel="stylesheet" href="/console/console.css">
</head>
<body>
<header><a class="brand" href="/console">Warifu</a><span>${escaped(info.title)}</span></header>
<nav aria-label="Operations"><ul>
${names.map((name) => `<li><a href="#${escaped(name)}">${escaped(name)}</a></li>`).join('\n')}
<li><a href="#problem-types">Types of problems</a></li>
</ul></nav>
<main class="reference">
<h1>${escaped(info.title)}</h1>
<p>${escaped(info.description ?? '')} Every operation wants a client certificate. <code>GET /v1/openapi.json</code> is the same for machines.</p>
${names.map((name) => `<section id="${escaped(name)}"><h2>${escaped(name)}</h2>${(groups.get(name) ?? []).map(article).join('')}</section>`).join('\n')}
<section id="problem-types"><h2>Types of problems</h2>${problemTable()}</section>
</main>
</body>
</html>
`;
}

type Placed = Operation & { readonly path: string; readonly method: string };

function article(operation: Placed): string {
  const { operationId = '', method, path, summary = '', description = '', parameters = [] } = operation;
  const roles = operation['x-roles'] ?? [];
  const asked = parameters.map(({ name, required, description: about, schema = {}, in: where }) => ({
    name: `${name} (${where})`,
    required: required === true,
    schema: about === undefined ? schema : { ...schema, description: about },
  }));
  const bodies = Object.entries(operation.requestBody?.content ?? {});
  return `<article id="${escaped(operationId)}">
<h3><code>${method} ${escaped(path)}</code></h3>
<p>${escaped(summary)}</p>${description === '' ? '' : `<p>${escaped(description)}</p>`}
<p class="roles">Roles: ${escaped(roles.join(', '))}. Operation: <code>${escaped(operationId)}</code>.</p>
${table('Parameters', asked)}
${bodies.map(([type, { schema = {} }]) => table(`Body: ${type}`, flattened(schema))).join('')}
${bodies.map(([, { example }]) => sample(operation, example)).join('')}
${Object.entries(operation.responses ?? {})
  .map(([status, response]) => answer(status, response))
  .join('')}
</article>`;
}

function answer(
  status: string,
  { description = '', content = {} }: NonNullable<Operation['responses']>[string],
): string {
  const named = `${escaped(status)} ${escaped(description)}`;
  const tables = Object.entries(content)
    .filter(([type]) => type !== 'application/problem+json')
    .map(([type, { schema = {} }]) => table(type, flattened(schema)))
    .join('');
  if (tables !== '') return `<details><summary>${named}</summary>${tables}</details>`;
  return /^[45]/.test(status) ? `<p><a href="#problem-types">${named}</a></p>` : `<p>${named}</p>`;
}

/** The request as curl sends it. */
function sample({ path, parameters = [] }: Placed, example: unknown): string {
  if (example === undefined) return '';
  const filled = path.replaceAll(/\{([A-Za-z]+)\}/g, (whole, name: string) =>
    String(parameters.find((each) => each.name === name)?.example ?? whole),
  );
  const command = [
    'curl --cert first.pem --key first.key --cacert operations-ca.pem',
    `  -H 'Content-Type: application/json' -H 'Idempotency-Key: example-1'`,
    `  -d @request.json https://HOST:PORT${filled}`,
  ].join(' \\\n');
  const said = 'request.json; the other files are those of your client; a key for each new request:';
  return `<details><summary>Example</summary><p>${said}</p><pre tabindex="0">${escaped(JSON.stringify(example, null, 2))}</pre><pre tabindex="0">${escaped(command)}</pre></details>`;
}

interface Row {
  readonly name: string;
  readonly required: boolean;
  readonly schema: Schema;
}

/** Members of objects below one another, by their path; of alternatives those of each. */
function flattened(schema: Schema, path = '', required = true, depth = 0): Row[] {
  const own = path === '' ? [] : [{ name: path, required, schema }];
  const inner = schema.type === 'array' ? (schema.items ?? {}) : schema;
  const at = schema.type === 'array' ? `${path}[]` : path;
  if (depth > depthMax) return own;
  const members = [inner, ...(inner.anyOf ?? [])].flatMap(({ properties = {}, required: wanted = [] }) =>
    Object.entries(properties).flatMap(([name, each]) =>
      flattened(each, at === '' ? name : `${at}.${name}`, wanted.includes(name), depth + 1),
    ),
  );
  const unique = new Map([...own, ...members].map((row) => [row.name, row]));
  return [...unique.values()];
}

/** Members of members that are shown. */
const depthMax = 4;

function table(caption: string, rows: readonly Row[]): string {
  if (rows.length === 0) return '';
  const body = rows.map(
    ({ name, required, schema }) =>
      `<tr><td data-head="member"><span><code>${escaped(name)}</code>${required ? '' : ' <small>optional</small>'}</span></td><td data-head="form">${escaped(formOf(schema))}</td><td data-head="meaning">${worded(schema.description ?? '')}</td></tr>`,
  );
  return `<div class="scroll"><table><caption>${escaped(caption)}</caption><thead><tr><th scope="col">member</th><th scope="col">form</th><th scope="col">meaning</th></tr></thead><tbody>${body.join('')}</tbody></table></div>`;
}

/** What a value may be: type, allowed values, limits. */
function formOf(schema: Schema): string {
  const { type, minLength, maxLength, minItems, maxItems, minimum, maximum, pattern } = schema;
  const allowed = schema.enum ?? (schema.const === undefined ? undefined : [schema.const]);
  const range = (low: number | undefined, high: number | undefined, unit: string): string[] =>
    low === undefined && high === undefined ? [] : [limitsOf(low, high, unit)];
  return [
    ...(allowed ? [allowed.map(String).join(' | ')] : [type ?? alternatives(schema)]),
    ...range(minLength, maxLength, ' characters'),
    ...range(minItems, maxItems, ' items'),
    ...range(minimum, maximum, ''),
    ...(pattern === undefined || allowed ? [] : [`pattern ${pattern}`]),
  ]
    .filter((part) => part !== '')
    .join(', ');
}

/** 1 to 64 characters; at most 64 characters; at least 1. */
function limitsOf(low: number | undefined, high: number | undefined, unit: string): string {
  if (low === undefined) return `at most ${high}${unit}`;
  return high === undefined ? `at least ${low}${unit}` : `${low} to ${high}${unit}`;
}

const alternatives = ({ anyOf = [] }: Schema): string => [...new Set(anyOf.map(formOf))].join(' | ');

function problemTable(): string {
  const rows = Object.entries(problemTypes).map(
    ([code, { meaning, act }]) =>
      `<tr id="problem-${escaped(code)}"><td data-head="type"><code>urn:warifu:problem:${escaped(code)}</code></td><td data-head="status">${errorStatus[code as keyof typeof errorStatus]}</td><td data-head="meaning">${escaped(meaning)}</td><td data-head="what to do">${escaped(act)}</td></tr>`,
  );
  return `<div class="scroll"><table><caption>Types of problems (RFC 9457)</caption><thead><tr><th scope="col">type</th><th scope="col">status</th><th scope="col">meaning</th><th scope="col">what the caller does</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}

const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
/** Text with what stands between backticks as code. */
const worded = (text: string): string => escaped(text).replaceAll(/`([^`]+)`/g, '<code>$1</code>');
const escaped = (text: string): string => text.replaceAll(/[&<>"']/g, (each) => escapes[each] ?? '');
