import { afterAll, afterEach, describe, expect, it } from 'vitest';
import type { RecordDatabase } from '../../store/engine/database.ts';
import { byIndex, byKey, exclusive, type Rule } from '../../store/engine/rule.ts';
import { openPostgres } from '../../store/postgres/postgres.ts';
import type { PostgresServer } from '../../store/postgres/server.ts';
import { Session } from '../../store/postgres/session.ts';
import { encodeArray } from '../../store/postgres/values.ts';
import { openRecord } from '../../store/rules/ceremony-rules.ts';
import { type CutProxy, cutProxy } from '../support/cut-proxy.ts';
import { ManualClock, removeScratch } from '../support/harness.ts';
import { dropDatabases, newDatabase } from '../support/postgres.ts';
import { actor, openAuthority, writeRows } from '../support/store-commands.ts';

// What a server does to the record that a file does not: connections that are lost, others that write, rows that someone changes by hand.

const opened: { close(): unknown }[] = [];
afterEach(async () => {
  for (const each of opened.splice(0).reverse()) await each.close();
});
afterAll(dropDatabases);
afterAll(removeScratch);

const clock = new ManualClock();

async function open(
  server: PostgresServer,
  writer = 'n1',
  more: { readonly fencedMs?: number } = {},
): Promise<RecordDatabase> {
  const database = await openPostgres({ server, writer, clock, ...more });
  opened.push(database);
  return database;
}

/** A record behind a proxy. */
async function openBehindProxy(): Promise<{
  readonly database: RecordDatabase;
  readonly proxy: CutProxy;
  readonly server: PostgresServer;
}> {
  const server = await newDatabase();
  const proxy = await cutProxy(server.hosts[0]?.port ?? 0);
  opened.push(proxy);
  const database = await open({ ...server, hosts: [{ host: '127.0.0.1', port: proxy.port }] });
  await openAuthority(database, clock);
  return { database, proxy, server };
}

async function sql(server: PostgresServer, ...statements: string[]): Promise<unknown[]> {
  const session = await Session.open(server, { name: 'by hand' });
  try {
    let rows: readonly (readonly unknown[])[] = [];
    for (const statement of statements) ({ rows } = await session.query(statement));
    return rows.map(([first]) => first);
  } finally {
    await session.close();
  }
}

const holder = (holderId: string, createdMs = 1) => ({ holderId, createdMs });
const insert = (database: RecordDatabase, holderId: string): Promise<unknown> =>
  writeRows(database, (tx) => tx.insert('holder', holder(holderId)));
const holders = (database: RecordDatabase): Promise<string[]> =>
  database.read((reader) => reader.find('holder', {}).map(({ holderId }) => holderId));

/** Adds one to the time of a holder. */
const increase: Rule<string, number> = {
  action: 'increase',
  subject: () => ({}),
  locks: (holderId) => [exclusive('holder', holderId)],
  loads: (holderId) => [byKey('holder', { holderId })],
  decide: (holderId, tx) => {
    const before = tx.get('holder', { holderId });
    if (!before) throw new Error('no such holder');
    tx.update('holder', { ...before, createdMs: before.createdMs + 1 }, before);
    return before.createdMs + 1;
  },
};

describe('writing', () => {
  it('lets a group decide one after the other, on what those before wrote', async () => {
    const database = await open(await newDatabase());
    await openRecord(database, actor);
    await insert(database, 'a');
    const outcomes = await Promise.all(Array.from({ length: 100 }, () => database.run(increase, 'a', 0)));
    expect(outcomes).toEqual(Array.from({ length: 100 }, (_, i) => i + 2));
    const rows = await database.read((reader) => reader.find('audit', { writer: 'n1' }));
    // One commit for many.
    expect(rows.length).toBeLessThan(20);
  });

  it('loses no change of two nodes that change the same row as fast as they can', async () => {
    const server = await newDatabase();
    const [one, two] = [await open(server, 'n1'), await open(server, 'n2')];
    await openRecord(one, actor);
    await openRecord(two, actor);
    await insert(one, 'a');
    for (let round = 0; round < 10; round += 1)
      await Promise.all([one, two, one, two].map((node) => node.run(increase, 'a', 0)));
    expect(await one.read((reader) => reader.get('holder', { holderId: 'a' })?.createdMs)).toBe(41);
  });

  it('writes nothing over a row that was changed by hand since it was read', async () => {
    const server = await newDatabase();
    const database = await open(server);
    await openRecord(database, actor);
    await insert(database, 'a');
    let times = 0;
    const slow: Rule<null, void> = {
      action: 'slow',
      subject: () => ({}),
      locks: () => [exclusive('holder', 'a')],
      loads: () => [byIndex('holder', { holderId: 'a' })],
      decide: (_input, tx) => {
        times += 1;
        const before = tx.get('holder', { holderId: 'a' });
        // What was read is not what is there.
        if (before && times === 1) tx.update('holder', holder('a', 8), holder('a', 7));
        else if (before) tx.update('holder', holder('a', 9), before);
      },
    };
    await database.run(slow, null, 0);
    expect(times).toBe(2);
    expect(await sql(server, 'SELECT "createdMs" FROM holder')).toEqual([9]);
  });

  it('refuses to write under a name that another process writes under', { timeout: 30_000 }, async () => {
    const server = await newDatabase();
    const first = await open(server);
    await openRecord(first, actor);
    const twin = await open(server, 'n1', { fencedMs: 500 });
    await expect(openRecord(twin, actor)).rejects.toMatchObject({
      code: 'record-unavailable',
      message: expect.stringContaining('another process writes as n1'),
    });
    await insert(first, 'a');
    expect(await holders(twin)).toEqual(['a']);
  });

  it('stops where its chain is not the one that it wrote', async () => {
    const server = await newDatabase();
    const database = await open(server);
    await openRecord(database, actor);
    await insert(database, 'a');
    await insert(database, 'b');
    await sql(
      server,
      `DELETE FROM audit WHERE sequence = (SELECT max(sequence) FROM audit)`,
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'warifu lane n1' AND datname = current_database()`,
    );
    const stopped = {
      code: 'record-unavailable',
      message: expect.stringContaining('the record was altered'),
    };
    // The first may only learn that its connection is gone.
    await insert(database, 'c').catch(() => undefined);
    await expect(insert(database, 'c')).rejects.toMatchObject(stopped);
    await expect(holders(database)).rejects.toMatchObject(stopped);
  });

  it('says so where tables are not defined as they should be, or have triggers', async () => {
    const server = await newDatabase();
    const database = await open(server);
    expect(await database.integrity()).toBeUndefined();
    await sql(
      server,
      'CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$',
      'CREATE TRIGGER quiet BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION other()',
    );
    expect(await database.integrity()).toBe('not defined by this software: quiet');
    await sql(server, 'DROP TRIGGER quiet ON audit', 'ALTER TABLE holder ADD COLUMN other text');
    expect(await database.integrity()).toContain('holder other text');
    await sql(server, 'ALTER TABLE holder DROP COLUMN other');
    for (const [alter, back, fault] of [
      [
        'ALTER TABLE holder DROP CONSTRAINT holder_pkey',
        'ALTER TABLE holder ADD PRIMARY KEY ("holderId")',
        'holder key holderId',
      ],
      ['ALTER TABLE holder SET UNLOGGED', 'ALTER TABLE holder SET LOGGED', 'unlogged table holder'],
      [
        'ALTER TABLE holder ENABLE ROW LEVEL SECURITY',
        'ALTER TABLE holder DISABLE ROW LEVEL SECURITY',
        'row security of holder',
      ],
      [
        'ALTER TABLE holder ADD CHECK ("createdMs" > 0)',
        'ALTER TABLE holder DROP CONSTRAINT "holder_createdMs_check"',
        'constraint holder_createdMs_check',
      ],
      ['CREATE INDEX other ON holder ("createdMs")', 'DROP INDEX other', 'holder index createdMs'],
      [
        'ALTER TABLE holder ALTER "holderId" TYPE text COLLATE "POSIX"',
        'ALTER TABLE holder ALTER "holderId" TYPE text COLLATE "C"',
        'collation of holder.holderId',
      ],
    ] as const) {
      await sql(server, alter);
      expect(await database.integrity()).toContain(fault);
      await sql(server, back);
      expect(await database.integrity()).toBeUndefined();
    }
  });
});

describe('reading', () => {
  it('sees one state of the record, whatever is committed meanwhile', async () => {
    const database = await open(await newDatabase());
    await openRecord(database, actor);
    await insert(database, 'a');
    let isWritten = false;
    const seen = await database.read(async (reader) => {
      const before = reader.get('holder', { holderId: 'a' });
      const all = reader.find('holder', {}).map(({ holderId }) => holderId);
      if (!isWritten) {
        isWritten = true;
        await insert(database, 'b');
      }
      return [before?.holderId, all, reader.get('holder', { holderId: 'b' })];
    });
    expect(seen).toEqual(['a', ['a'], undefined]);
    expect(await holders(database)).toEqual(['a', 'b']);
  });

  it('of many at once keeps those waiting that there is no connection for, and is not disturbed by one that fails', async () => {
    const database = await open(await newDatabase());
    await openRecord(database, actor);
    const reads = Array.from({ length: 200 }, (_, i) =>
      database.read((reader) => {
        const found = reader.find('holder', { holderId: `h${i}` });
        if (i % 10 === 0) throw new Error('of its own');
        return found.length;
      }),
    );
    const settled = await Promise.allSettled(reads);
    expect(settled.filter(({ status }) => status === 'rejected')).toHaveLength(20);
  });
});

describe('a connection that is lost', () => {
  it('between two writes, or reads, is opened again', async () => {
    const { database, proxy } = await openBehindProxy();
    await insert(database, 'a');
    await holders(database);
    proxy.cut();
    await expect.poll(() => insert(database, 'b').then(() => 'ok', String)).toMatch(/^ok|exists/);
    await expect.poll(() => holders(database).catch(String)).toEqual(['a', 'b']);
  });

  it('as a commit is on its way loses nothing: the record says whether it was made', async () => {
    const { database, proxy } = await openBehindProxy();
    await insert(database, 'a');
    proxy.swallowAfter('COMMIT\0');
    await insert(database, 'b');
    await insert(database, 'c');
    expect(await holders(database)).toEqual(['a', 'b', 'c']);
  });

  it('as a commit is on its way, for good, leaves the outcome open, and says so', {
    timeout: 30_000,
  }, async () => {
    const { database, proxy, server } = await openBehindProxy();
    await insert(database, 'a');
    proxy.swallowAfter('COMMIT\0');
    const writing = insert(database, 'b');
    proxy.refuse(true);
    await expect(writing).rejects.toMatchObject({
      code: 'record-unavailable',
      message: expect.stringContaining('send the same request again'),
    });
    expect(await sql(server, `SELECT "holderId" FROM holder ORDER BY 1`)).toEqual(['a', 'b']);
    proxy.refuse(false);
    await insert(database, 'c');
    expect(await holders(database)).toEqual(['a', 'b', 'c']);
  });

  it('before the commit was sent is no fault of who writes: it is written once, over another one', async () => {
    const { database, proxy } = await openBehindProxy();
    await insert(database, 'a');
    const writing = [insert(database, 'b'), insert(database, 'c')];
    proxy.cut();
    await Promise.all(writing);
    expect(await holders(database)).toEqual(['a', 'b', 'c']);
  });

  it('that answers no more, and is not closed, is given up, and nothing is done twice', {
    timeout: 60_000,
  }, async () => {
    const { database, proxy } = await openBehindProxy();
    await insert(database, 'a');
    proxy.swallowAfter('COMMIT\0', 40_000);
    const outcomes = await Promise.all([1, 2, 3].map(() => database.run(increase, 'a', 0)));
    expect(outcomes.sort()).toEqual([2, 3, 4]);
    expect(await database.read((reader) => reader.get('holder', { holderId: 'a' })?.createdMs)).toBe(4);
  });

  it('where no server answers is said for each host', async () => {
    const server = await newDatabase();
    const [right] = server.hosts;
    const wrong = { host: '127.0.0.1', port: 1 };
    const message = expect.stringContaining('127.0.0.1:1: connect ECONNREFUSED');
    await expect(open({ ...server, hosts: [wrong] })).rejects.toMatchObject({
      code: 'record-unavailable',
      message,
    });
    const database = await open({ ...server, hosts: [wrong, right as typeof wrong] });
    await openRecord(database, actor);
    await expect(open({ ...server, password: () => 'other' })).rejects.toMatchObject({
      message: expect.stringContaining('password authentication failed'),
    });
  });
});

describe('a group of which one fails', () => {
  /** Refuses in the way that is named, as its holder is decided about. */
  const failing: Rule<{ readonly how: string; readonly holderId: string }, void> = {
    action: 'fail',
    subject: () => ({}),
    locate: ({ how }) => [
      byKey('holder', { holderId: how === 'locate' ? 'x\0' : 'a' }),
      byKey('meta', { name: 'moves' }),
    ],
    locks: ({ how, holderId }, located) => {
      if (how === 'locks') throw new Error('of its own');
      // Another lock each time that it is asked: what was located has changed.
      const isMoving = how === 'moved' && located.get('holder', { holderId: 'a' }) !== undefined;
      return [exclusive('holder', holderId), ...(isMoving ? [exclusive(`moved-${Math.random()}`)] : [])];
    },
    loads: ({ holderId }) => [byKey('holder', { holderId })],
    decide: ({ how, holderId }, tx) => {
      if (how === 'decide') throw new Error('of its own');
      tx.insert('holder', {
        holderId: how === 'write' ? 'a' : holderId,
        createdMs: how === 'value' ? 1.5 : 1,
      });
    },
  };

  it.each(['locate', 'locks', 'moved', 'decide', 'write', 'value'])(
    'as it comes to %s settles all of them, and writes the others',
    async (how) => {
      const database = await open(await newDatabase());
      await openRecord(database, actor);
      await insert(database, 'a');
      const outcomes = await Promise.allSettled([
        insert(database, 'b'),
        database.run(failing, { how, holderId: 'f' }, 0),
        insert(database, 'c'),
        // Refused by the server.
        writeRows(database, (tx) => tx.insert('holder', holder('a'))),
        insert(database, 'd'),
      ]);
      expect(outcomes.map(({ status }) => status)).toEqual([
        'fulfilled',
        'rejected',
        'fulfilled',
        'rejected',
        'fulfilled',
      ]);
      expect(await holders(database)).toEqual(['a', 'b', 'c', 'd']);
      await insert(database, 'e');
    },
  );

  it('because another removed what it loads some of, is decided by itself', async () => {
    const database = await open(await newDatabase());
    await openRecord(database, actor);
    await writeRows(database, (tx) => {
      for (const position of [1, 2, 3]) tx.insert('event', { writer: 'w', position, body: '[]' });
    });
    const last = { descending: true, limit: 1 };
    const removing: Rule<null, number | undefined> = {
      action: 'remove',
      subject: () => ({}),
      locks: () => [exclusive('events')],
      loads: () => [byIndex('event', { writer: 'w' }, { options: last })],
      decide: (_input, tx) => {
        const [row] = tx.find('event', { writer: 'w' }, last);
        if (row) tx.remove('event', { writer: 'w', position: row.position });
        return row?.position;
      },
    };
    const outcomes = await Promise.all([1, 2, 3, 4].map(() => database.run(removing, null, 0)));
    expect(outcomes).toEqual([3, 2, 1, undefined]);
  });
});

describe('what the database or the role has as defaults', () => {
  it('changes nothing of what is read, written and locked', async () => {
    const server = await newDatabase();
    const { database: name } = server;
    for (const setting of [
      `bytea_output = 'escape'`,
      `default_transaction_isolation = 'repeatable read'`,
      'default_transaction_read_only = on',
      'synchronous_commit = off',
    ])
      await sql(server, `ALTER DATABASE ${name} SET ${setting}`).catch(() =>
        sql(server, 'SET default_transaction_read_only = off', `ALTER DATABASE ${name} SET ${setting}`),
      );
    const [one, two] = [await open(server, 'n1'), await open(server, 'n2')];
    await openRecord(one, actor);
    await openRecord(two, actor);
    await writeRows(one, (tx) => {
      tx.insert('holder', holder('a'));
      tx.insert('evidence', { issuanceId: 'e', dataKey: 'k', octets: Uint8Array.of(1, 2, 3, 255) });
    });
    for (let round = 0; round < 5; round += 1)
      await Promise.all([one, two, one, two].map((node) => node.run(increase, 'a', 0)));
    const read = await two.read((reader) => [
      reader.get('evidence', { issuanceId: 'e' })?.octets,
      reader.get('holder', { holderId: 'a' })?.createdMs,
    ]);
    expect(read).toEqual([Uint8Array.of(1, 2, 3, 255), 21]);
  });

  it('is refused where texts would not be kept as they are', async () => {
    const server = await newDatabase();
    await sql(server, `CREATE DATABASE latin_${server.database} ENCODING 'LATIN1' TEMPLATE template0`);
    const latin = { ...server, database: `latin_${server.database}` };
    await expect(open(latin).then((database) => openRecord(database, actor))).rejects.toMatchObject({
      code: 'record-unavailable',
      message: expect.stringContaining('LATIN1'),
    });
  });
});

describe('arrays', () => {
  it('arrive as they were sent', async () => {
    const session = await Session.open(await newDatabase(), { name: 'arrays' });
    opened.push(session);
    const texts = ['', 'a,"{}\\', '日本', null];
    const numbers = [0, -1, Number.MAX_SAFE_INTEGER, null];
    const octets = [new Uint8Array(0), Uint8Array.of(0, 255), new Uint8Array(100_000).fill(7), null];
    const { rows } = await session.query('SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[])', [
      encodeArray('text', texts),
      encodeArray('integer', numbers),
      encodeArray('blob', octets),
    ]);
    expect(rows).toEqual(texts.map((text, i) => [text, numbers[i], octets[i]]));
  });
});
