import type { Actor } from '../api/certificate-store.ts';
import type { RecordDatabase } from '../engine/database.ts';
import { byKey, exclusive, type Rule } from '../engine/rule.ts';

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
