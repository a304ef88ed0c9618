// How a table of the record is described.

export type Column = 'text' | 'integer' | 'blob' | 'text?' | 'integer?' | 'blob?';

export interface TableDescription {
  readonly columns: Readonly<Record<string, Column>>;
  readonly key: readonly string[];
  /** Columns that `find` and `scan` may ask for together, besides prefixes of the key. */
  readonly indexes?: readonly (readonly string[])[];
  /** The same without the rows in which `present` is null: they cost nothing. */
  readonly sparseIndexes?: readonly { readonly columns: readonly string[]; readonly present: string }[];
}

export const table = <const T extends TableDescription>(description: T): T => description;

/** A certificate is called by the position its serial number encrypts. */
export const certificateKey = { authority: 'text', epoch: 'integer', position: 'integer' } as const;
