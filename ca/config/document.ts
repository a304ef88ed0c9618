import { CrlNodeSchema } from '../../crl/config/options.ts';
import { OcspNodeSchema } from '../../ocsp/config/options.ts';
import { ConfigSchema } from './options.ts';

// The schemas of configuration files, as editors use them.

export const documents = {
  ca: { title: 'warifu.json, of a CA node', schema: ConfigSchema },
  ocsp: { title: 'node.json, of an OCSP node', schema: OcspNodeSchema },
  crl: { title: 'node.json, of a CRL node', schema: CrlNodeSchema },
} as const;
export type DocumentKind = keyof typeof documents;

/**
 * The JSON Schema of a configuration file (draft 2020-12): what has a default need not be given. `$schema` in a configuration names it for
 * editors, and means nothing else.
 */
export function schemaOf(kind: DocumentKind): string {
  const { title, schema } = documents[kind];
  const { properties, ...rest } = asWritten(JSON.parse(JSON.stringify(schema))) as Record<string, unknown>;
  const described = {
    ...{ $schema: 'https://json-schema.org/draft/2020-12/schema', title, ...rest },
    properties: {
      $schema: { type: 'string', description: 'where this schema is, for editors' },
      ...(properties as object),
    },
  };
  return `${JSON.stringify(described, null, 2)}\n`;
}

/** Longer defaults are left to the documents: the towns, the policy table. */
const defaultMax = 500;

/** A schema of what is filled in, as one of what is written. */
function asWritten(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(asWritten);
  if (typeof schema !== 'object' || schema === null) return schema;
  const { required, properties, ...rest } = schema as Record<string, unknown>;
  if ('default' in rest && JSON.stringify(rest.default).length > defaultMax) delete rest.default;
  const inside = Object.fromEntries(Object.entries(rest).map(([name, part]) => [name, asWritten(part)]));
  if (typeof properties !== 'object' || properties === null)
    return { ...inside, ...(required ? { required } : {}) };
  const known = properties as Record<string, { default?: unknown }>;
  const wanted = ((required ?? []) as string[]).filter((name) => known[name]?.default === undefined);
  return {
    ...inside,
    ...(wanted.length > 0 ? { required: wanted } : {}),
    properties: Object.fromEntries(Object.entries(known).map(([name, part]) => [name, asWritten(part)])),
  };
}

interface Described {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, Described>>;
  readonly required?: readonly string[];
}

/** How wide comments are. */
const commentWidth = 110;

/**
 * A configuration file with every key, its default and what it means. Lines of comments, which begin with `//`, are for reading: without
 * them it is a configuration that says what holds anyway.
 */
export function exampleOf(kind: DocumentKind): string {
  const { schema } = documents[kind];
  return `${objectLines(JSON.parse(JSON.stringify(schema)) as Described, '').join('\n')}\n`;
}

/** An object's members, those without a default as comments, so that what is left is JSON. */
function objectLines({ properties = {} }: Described, indent: string): string[] {
  const inner = `${indent}  `;
  const members = Object.entries(properties).map(([name, of]) => memberLines(name, of, inner));
  const last = members.findLastIndex(({ isGiven }) => isGiven);
  const lines = members.flatMap(({ lines: each, isGiven }, i) =>
    isGiven && i < last ? [...each.slice(0, -1), `${each.at(-1)},`] : each,
  );
  return ['{', ...lines, `${indent}}`];
}

function memberLines(
  name: string,
  of: Described,
  indent: string,
): { readonly lines: string[]; readonly isGiven: boolean } {
  const comments = wrapped(of.description ?? '').map((line) => `${indent}// ${line}`);
  const key = `${indent}${JSON.stringify(name)}: `;
  if (of.properties && isWhole(of)) {
    const [first = '', ...rest] = objectLines(of, indent);
    return { lines: [...comments, `${key}${first}`, ...rest], isGiven: true };
  }
  const text = of.default === undefined ? undefined : JSON.stringify(of.default);
  if (text !== undefined && text.length <= defaultMax)
    return { lines: [...comments, `${key}${text}`], isGiven: true };
  const why = text === undefined ? 'not given by default' : 'by default that of this version';
  return { lines: [...comments, `${indent}// ${JSON.stringify(name)}: (${why})`], isGiven: false };
}

/** Whether all of it has defaults that are short enough to be shown. */
function isWhole(of: Described): boolean {
  if (of.default === undefined) return false;
  if (!of.properties) return JSON.stringify(of.default).length <= defaultMax;
  const wanted = of.required ?? [];
  return Object.entries(of.properties).every(([name, part]) => !wanted.includes(name) || isWhole(part));
}

function wrapped(text: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(/\s+/).filter((each) => each !== '')) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + word.length < commentWidth)
      lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}
