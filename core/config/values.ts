import { Type } from 'typebox';

// How values of a configuration are described: each with its default and what it means.

export const closed = { additionalProperties: false, default: {} } as const;
export const text = (value: string, description: string) =>
  Type.String({ default: value, description, minLength: 1 });
export const durationPattern = '^[1-9][0-9]*(ms|s|min|h|d)$';
export const duration = (value: string, description: string) =>
  Type.String({ default: value, description, pattern: durationPattern });
/** The same, or `0` for not at all. */
export const durationOrNone = (value: string, description: string) =>
  Type.String({ default: value, description, pattern: `^0$|${durationPattern}` });
export const count = (value: number, description: string) =>
  Type.Integer({ default: value, description, minimum: 1 });
export const oid = (value: string, description: string) =>
  Type.String({ default: value, description, pattern: '^[0-2](\\.(0|[1-9][0-9]*))+$' });
export const port = (value: number, description: string) =>
  Type.Integer({ default: value, description, minimum: 1, maximum: 65535 });
