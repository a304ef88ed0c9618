import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { readJson } from '../../core/config/read.ts';
import { CrlNodeSchema, readCrlNodeConfig } from '../../crl/config/options.ts';
import { OcspNodeSchema, readOcspNodeConfig } from '../../ocsp/config/options.ts';
import { readConfig } from './config.ts';
import { ConfigSchema } from './options.ts';

// Configurations as an operator looks at them: their schemas, what is wrong with a file, and what holds in the end.

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

/** The configuration files of a data folder: of a CA, or of a node, which may serve OCSP and CRLs. */
function filesIn(folder: string): readonly { readonly file: string; readonly read: () => object }[] {
  const node = join(folder, 'node.json');
  if (!existsSync(node)) {
    const file = join(folder, 'warifu.json');
    return [{ file, read: () => readConfig(file) }];
  }
  const given = readJson(node, (input) => input as Record<string, unknown>);
  return [
    ...('ocsp' in given || !('crl' in given) ? [{ file: node, read: () => readOcspNodeConfig(node) }] : []),
    ...('crl' in given ? [{ file: node, read: () => readCrlNodeConfig(node) }] : []),
  ];
}

/** Checks what a data folder is configured by, without starting anything; a line for each file. Throws `bad-request` with every fault. */
export function checkFolder(folder: string): string[] {
  return filesIn(resolve(folder)).map(({ file, read }) => {
    read();
    return existsSync(file)
      ? `${basename(file)} is as a configuration is to be`
      : `there is no ${file}: defaults hold`;
  });
}

/** What holds in the end, defaults among it: JSON. It names files and environment variables of secrets, and holds none. */
export function effective(folder: string): string {
  const [first] = filesIn(resolve(folder));
  return `${JSON.stringify(first?.read() ?? {}, null, 2)}\n`;
}
