import { PkiError } from '../../core/runtime/errors.ts';
import { columnsOf, type Row, type TableName, tables } from '../schema/schema.ts';
import type { Column } from '../schema/table.ts';
import { kindOf } from './ddl.ts';

// Values on their way to the server and back. Arrays go as binary, which the drivers do not do: as text every octet of a bytea takes two, and
// the server has to parse them.

export type Value = string | number | Uint8Array | null;
export type Kind = 'text' | 'integer' | 'blob' | 'boolean';

/** Object identifiers of types (pg_type.dat). */
const typeOids = { boolean: 16, blob: 17, integer: 20, text: 25 } as const;

/** Names of array types, for casts. */
export const arrayTypes = {
  boolean: 'boolean[]',
  blob: 'bytea[]',
  integer: 'bigint[]',
  text: 'text[]',
} as const;

const columnKinds = new Map(
  Object.entries(tables).map(([name, { columns }]) => [
    name,
    new Map(Object.entries(columns).map(([column, type]) => [column, kindOf(type as Column)])),
  ]),
);

export const kindOfColumn = (table: TableName, column: string): Kind =>
  columnKinds.get(table)?.get(column) ?? 'text';

/** Octets of one value; the number of octets of an integer is 8. */
function octetsOf(kind: Kind, value: Value | boolean): Uint8Array {
  if (kind === 'integer') {
    if (!Number.isSafeInteger(value))
      throw new PkiError('bad-request', 'a number that the record cannot keep');
    const octets = Buffer.allocUnsafe(8);
    octets.writeBigInt64BE(BigInt(value as number));
    return octets;
  }
  if (kind === 'boolean') return Buffer.of(value === true ? 1 : 0);
  return kind === 'blob' ? (value as Uint8Array) : Buffer.from(value as string);
}

/** A one-dimensional array in the server's binary format (array_recv): dimensions, whether there are nulls, type, length, lower bound, values. */
export function encodeArray(kind: Kind, values: readonly (Value | boolean)[]): Buffer {
  const encoded = values.map((value) => (value === null ? null : octetsOf(kind, value)));
  const size = encoded.reduce((sum, octets) => sum + 4 + (octets?.length ?? 0), 20);
  const buffer = Buffer.allocUnsafe(size);
  const head = [1, encoded.includes(null) ? 1 : 0, typeOids[kind], encoded.length, 1];
  let at = 0;
  for (const number of head) at = buffer.writeInt32BE(number, at);
  for (const octets of encoded) {
    at = buffer.writeInt32BE(octets?.length ?? -1, at);
    if (!octets) continue;
    buffer.set(octets, at);
    at += octets.length;
  }
  return buffer;
}

/** Parsers of what the server sends as text. An integer beyond 2^53, which this software never writes, is refused with a RangeError. */
export const parsers = {
  getTypeParser: (oid: number) => {
    if (oid === typeOids.integer) return integerOf;
    if (oid === typeOids.blob) return octetsOfHex;
    return oid === typeOids.boolean ? (text: string) => text === 't' : (text: string) => text;
  },
};

function integerOf(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError(`${text} is beyond what a number holds`);
  return value;
}

function octetsOfHex(text: string): Uint8Array {
  const octets = Buffer.from(text.slice(2), 'hex');
  return new Uint8Array(octets.buffer, octets.byteOffset, octets.length);
}

/** A row out of its values, in order of the columns. */
export function rowOf<T extends TableName>(
  table: T,
  values: readonly unknown[],
  columns: readonly string[] = columnsOf(table),
): Row<T> {
  const row: Record<string, unknown> = {};
  for (let i = 0; i < columns.length; i++) row[columns[i] as string] = values[i];
  return row as Row<T>;
}

/** Values of some columns, null where there is none. */
export const valuesOf = (columns: readonly string[], row: object): Value[] =>
  columns.map((column) => (row as Readonly<Record<string, Value>>)[column] ?? null);
