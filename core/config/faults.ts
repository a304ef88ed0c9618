import type { TSchema } from 'typebox';
import { Settings } from 'typebox/system';
import { Value } from 'typebox/value';
import { durationPattern } from './values.ts';

// What is wrong with a configuration, in words: every fault at once, with the value, what would be right, and of a key that there is not the
// nearest that there is.

type Fault = ReturnType<typeof Value.Errors>[number];

/** Faults that are told at once, and octets of a value that are shown. */
const [faultsMax, shownMax] = [20, 60];
/** As far as a key may be from another to be taken for a slip: letters that differ. */
const slipMax = 3;

// More than are told, so that it can be said how many more there are.
Settings.Set({ maxErrors: 1000 });

/** A line for each fault, `/pkcs11/moduel is no key that there is; nearest: module`. */
export function faultsOf(schema: TSchema, config: unknown): string[] {
  const all = Value.Errors(schema, config);
  // Of a union each member complains, and one line is enough; what is reported of a part says it of the whole.
  const paths = new Map<string, Fault>();
  // Each key that there is not is named by itself.
  for (const fault of all)
    if (fault.keyword !== 'additionalProperties' && !paths.has(fault.instancePath))
      paths.set(fault.instancePath, fault);
  const lines = [...paths.values()].map((fault) => lineOf(schema, config, fault));
  const more = lines.length - faultsMax;
  return more > 0 ? [...lines.slice(0, faultsMax), `and ${more} more`] : lines;
}

function lineOf(schema: TSchema, config: unknown, fault: Fault): string {
  const path = fault.instancePath || '/';
  const value = at(config, fault.instancePath);
  if (fault.keyword === 'boolean') {
    const nearest = nearestKey(schema, fault.instancePath);
    return `${path} is no key that there is${nearest === undefined ? '' : `; nearest: ${nearest}`}`;
  }
  return `${path} ${wordsOf(fault)}${value === undefined || typeof value === 'object' ? '' : `: it is ${shown(value)}`}`;
}

/** What is wrong with a value, and what would be right. */
function wordsOf(fault: Fault): string {
  const params = fault.params as { allowedValues?: unknown[]; pattern?: unknown };
  if (params.allowedValues) return `is none of ${params.allowedValues.join(', ')}`;
  if (String(params.pattern).includes(durationPattern)) return 'is no duration, such as 10min, 1h or 7d';
  return fault.message;
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? '';
  return text.length > shownMax ? `${text.slice(0, shownMax)}…` : text;
}

const partsOf = (path: string): string[] =>
  path
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));

const at = (value: unknown, path: string): unknown =>
  partsOf(path).reduce<unknown>(
    (inside, part) =>
      typeof inside === 'object' && inside !== null ? (inside as Record<string, unknown>)[part] : undefined,
    value,
  );

interface Described {
  readonly properties?: Readonly<Record<string, Described>>;
  readonly patternProperties?: Readonly<Record<string, Described>>;
  readonly items?: Described;
  readonly anyOf?: readonly Described[];
}

/** The key next to which one was written, that is most like it; undefined where none is. */
function nearestKey(schema: TSchema, path: string): string | undefined {
  const parts = partsOf(path);
  const wrong = parts.pop() ?? '';
  const above = parts.reduce<Described | undefined>(inside, schema as Described);
  const keys = Object.keys(above?.properties ?? {});
  const distances = keys.map((key) => [key, distance(key.toLowerCase(), wrong.toLowerCase())] as const);
  const [nearest] = distances.sort(([, a], [, b]) => a - b);
  return nearest && nearest[1] <= Math.min(slipMax, Math.ceil(wrong.length / 2)) ? nearest[0] : undefined;
}

function inside(schema: Described | undefined, part: string): Described | undefined {
  if (!schema) return undefined;
  return (
    schema.properties?.[part] ??
    schema.items ??
    Object.values(schema.patternProperties ?? {})[0] ??
    schema.anyOf?.map((each) => inside(each, part)).find((each) => each !== undefined)
  );
}

/** Letters to be inserted, removed or replaced to make one word of the other. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, other] of [...b].entries())
      next.push(
        Math.min((row[j] ?? 0) + Number(letter !== other), (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1),
      );
    row = next;
  }
  return row.at(-1) ?? 0;
}
