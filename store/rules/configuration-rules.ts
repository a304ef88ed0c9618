import type { Actor } from '../api/certificate-store.ts';
import type { OperationsStore } from '../api/operations-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import type { Transaction } from '../engine/record.ts';
import { byKey, exclusive, type Rule } from '../engine/rule.ts';
import { answeredOnce } from './once.ts';

// The configuration of each node's last start, as digests by key.

type Digests = Readonly<Record<string, string>>;

const nameOf = (writer: string): string => `configuration:${writer}`;

const note: Rule<{ readonly actor: Actor; readonly digests: Digests }, void> = {
  action: 'noteConfiguration',
  actor: ({ actor }) => actor,
  subject: () => ({}),
  locks: (_input, _located, writer) => [exclusive('meta', nameOf(writer))],
  loads: (_input, _located, writer) => [byKey('meta', { name: nameOf(writer) })],
  decide: ({ digests }, tx) => {
    const name = nameOf(tx.writer);
    const before = tx.get('meta', { name });
    const after = { name, value: JSON.stringify(digests) };
    if (before) tx.update('meta', after, before);
    else tx.insert('meta', after);
  },
};

/** Puts the digests of a node's configuration on record, where they differ; gives those of before, undefined at the first start. */
export async function noteDigests(
  database: RecordDatabase,
  actor: Actor,
  digests: Digests,
  nowMs: number,
): Promise<Digests | undefined> {
  const name = nameOf(database.writer);
  const before = await database.read((reader) => reader.get('meta', { name }));
  if (before?.value !== JSON.stringify(digests)) await database.run(note, { actor, digests }, nowMs);
  return before && (JSON.parse(before.value) as Digests);
}

/** The digests that other nodes put on record, by node. */
export function digestsOfNodes(
  database: RecordDatabase,
  nodes: readonly string[],
): Promise<Readonly<Record<string, Digests>>> {
  return database.read((reader) => {
    const rows = nodes.map((node) => [node, reader.get('meta', { name: nameOf(node) })] as const);
    return Object.fromEntries(
      rows.map(([node, row]) => [node, row ? (JSON.parse(row.value) as Digests) : {}]),
    );
  });
}

/** Name of the row with the digest of the configuration that production starts with. */
const allowedName = 'configuration';

function allow(tx: Transaction, edited: string): void {
  const before = tx.get('meta', { name: allowedName });
  const after = { name: allowedName, value: edited };
  if (before) tx.update('meta', after, before);
  else tx.insert('meta', after);
}

/** See `OperationsStore.allowConfiguration`. */
export const allowConfiguration = answeredOnce<
  Parameters<OperationsStore['allowConfiguration']>[0],
  { readonly edited: string }
>({
  action: 'allowConfiguration',
  subject: ({ edited }) => ({ edited }),
  locks: () => [exclusive('meta', allowedName)],
  loads: () => [byKey('meta', { name: allowedName })],
  decide: ({ edited }, tx) => {
    allow(tx, edited);
    return { edited };
  },
});

const firstRule: Rule<{ readonly actor: Actor; readonly edited: string }, void> = {
  action: 'allowConfiguration',
  actor: ({ actor }) => actor,
  subject: ({ edited }) => ({ edited }),
  locks: () => [exclusive('meta', allowedName)],
  loads: () => [byKey('meta', { name: allowedName })],
  decide: ({ edited }, tx) => allow(tx, edited),
};

/** Allows the configuration that a ceremony was performed with. */
export function allowFirstConfiguration(
  database: RecordDatabase,
  actor: Actor,
  edited: string,
): Promise<void> {
  return database.run(firstRule, { actor, edited }, 0);
}

/** The digest of the configuration that is allowed; undefined where none was. */
export async function allowedConfiguration(database: RecordDatabase): Promise<string | undefined> {
  return (await database.read((reader) => reader.get('meta', { name: allowedName })))?.value;
}
