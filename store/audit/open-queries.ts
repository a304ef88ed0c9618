import type { RecordReader } from '../engine/record.ts';
import { serverOf } from '../postgres/server.ts';
import { openSqliteReader } from '../sqlite/sqlite.ts';
import type { RecordPlace } from './open-reader.ts';

/** A record as another process than its service reads it, a question at a time. */
export interface RecordQueries {
  /** Runs a body on one state of what is committed; it may be run several times. Rejects with `record-unavailable`. */
  read<R>(body: (reader: RecordReader) => R): Promise<R>;
  close(): Promise<void>;
}

/** Connections for what takes several questions. */
const sessionsMax = 2;

/** Opens a record to read from it alone. Throws where a file of SQLite cannot be opened. */
export async function openQueries(place: RecordPlace): Promise<RecordQueries> {
  if ('file' in place) {
    const reader = openSqliteReader(place.file, () => undefined);
    return { read: async (body) => reader.readOnce(body), close: async () => reader.close() };
  }
  const { readWith, ReadingSessions } = await import('../postgres/reads.ts');
  const { readerSettings, Session, translate } = await import('../postgres/session.ts');
  const sessions = new ReadingSessions({
    open: () => Session.open(serverOf(place.server), { name: 'warifu signer', settings: readerSettings }),
    max: sessionsMax,
  });
  const translated = (error: unknown): never => {
    throw translate(error);
  };
  return {
    read: (body) => readWith(sessions, body).catch(translated),
    close: () => sessions.close(),
  };
}
