import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../ca/config/config.ts';
import { withRecordOf } from '../../ca/config/record.ts';
import { layout } from '../../ca/node/layout.ts';
import { postgresOf } from '../../ca/node/record-place.ts';
import { removeScratch, scratch } from '../support/harness.ts';

// Where the configuration, or the environment, says that the record is.

afterAll(removeScratch);

describe('the record in the configuration', () => {
  it('is a file where nothing is said', () => {
    expect(postgresOf(parseConfig({}), layout('/data'))).toBeUndefined();
    expect(withRecordOf({}, {})).toEqual({});
  });

  it('is a database with hosts, ports and a password that is read for each connection', () => {
    const folder = scratch();
    const hosts = ['db-1.example.net', '[::1]:5433', '10.0.0.1:6000'];
    const server = postgresOf(parseConfig({ record: { postgres: { hosts, tls: 'off' } } }), layout(folder));
    expect(server).toMatchObject({
      hosts: [
        { host: 'db-1.example.net', port: 5432 },
        { host: '::1', port: 5433 },
        { host: '10.0.0.1', port: 6000 },
      ],
      ...{ database: 'warifu', user: 'warifu' },
    });
    expect(() => server?.password?.()).toThrow(
      /password of the database cannot be read from .*postgres.password/,
    );
    mkdirSync(join(folder, 'secrets'));
    writeFileSync(join(folder, 'secrets', 'postgres.password'), 'first\n', { mode: 0o600 });
    expect(server?.password?.()).toBe('first');
    writeFileSync(join(folder, 'secrets', 'postgres.password'), 'second\n');
    expect(server?.password?.()).toBe('second');
  });

  it.each([
    ['no hosts', { hosts: [] }, /hosts/],
    ['a host with a path', { hosts: ['db/x'] }, /hosts/],
    ['an unknown key', { hosts: ['db'], sslmode: 'disable' }, /sslmode/],
    ['another kind of TLS', { hosts: ['db'], tls: 'prefer' }, /tls/],
  ])('is refused with %s', (_what, postgres, message) => {
    expect(() => parseConfig({ record: { postgres } })).toThrow(message);
  });

  it('is what the environment says, where the configuration says nothing, and never with a password', () => {
    const said = { WARIFU_RECORD: 'postgres://ca@db-1:5433,db-2/record' };
    const record = { postgres: { hosts: ['db-1:5433', 'db-2'], database: 'record', user: 'ca' } };
    expect(withRecordOf({ node: 'n2' }, said)).toEqual({ node: 'n2', record });
    expect(withRecordOf({ record: {} }, said)).toEqual({ record: {} });
    const wrong = { WARIFU_RECORD: 'postgres://ca:secret@db-1/record' };
    expect(() => withRecordOf({}, wrong)).toThrow(/^(?!.*secret).*WARIFU_RECORD is not postgres/);
  });
});
