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
