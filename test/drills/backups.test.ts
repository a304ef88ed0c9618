import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { generateIdentity, identityToRecipient } from 'age-encryption';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../ca/config/config.ts';
import { decryptBackup, encryptFolder } from '../../ca/node/encrypted-backup.ts';
import {
  backupName,
  clearUnfinished,
  keptBackups,
  manifestOf,
  outlived,
} from '../../ca/node/kept-backups.ts';
import { layout } from '../../ca/node/layout.ts';
import { digest, hex } from '../../core/runtime/bytes.ts';
import { lockData } from '../../core/runtime/data-lock.ts';
import { askOcsp, derOf, fetchCrl, namedClient, ocspRequest, pemOf, until } from '../support/actors.ts';
import { alter } from '../support/adversary.ts';
import { fileOf, issueCard, openssl, removeScratch, scratch, warifu } from '../support/harness.ts';
import { configure, type ServiceProcess, startProcess } from '../support/service-process.ts';

// Backups that the service makes by itself, and what they are for.

const running: ServiceProcess[] = [];
let identity = '';
let recipient = '';
let keyFile = '';
beforeAll(async () => {
  identity = await generateIdentity();
  recipient = await identityToRecipient(identity);
  keyFile = join(scratch(), 'backup.key');
  writeFileSync(keyFile, `# public key: ${recipient}\n${identity}\n`, { mode: 0o600 });
});
afterEach(async () => {
  for (const { child, exited } of running.splice(0)) {
    child.kill('SIGKILL');
    await exited;
  }
});
afterAll(removeScratch);

async function begin(backups: object) {
  const folder = join(scratch(), 'data');
  const addresses = await configure(folder);
  const file = join(folder, 'warifu.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as object;
  writeFileSync(file, JSON.stringify({ ...config, backups: { recipients: [recipient], ...backups } }));
  const { folder: at } = backups as { folder?: string };
  if (at !== undefined) mkdirSync(join(at.startsWith('/') ? '' : folder, at), { recursive: true });
  const start = async (): Promise<ServiceProcess> => {
    const service = await startProcess(folder, addresses);
    running.push(service);
    return service;
  };
  const service = await start();
  return { folder, addresses, service, start, api: namedClient(folder, addresses.api, 'first') };
}

describe('a backup that the service makes', () => {
  it('brings a service back onto an empty machine, with all that was revoked since (the drill)', async () => {
    const elsewhere = join(scratch(), 'backups');
    const { folder, addresses, service, start, api } = await begin({ folder: elsewhere, every: '1h' });
    const holder = await issueCard(api);
    await until('there is a backup', async () => (await keptBackups(elsewhere)).length === 1);
    // Due every hour, it is asked for now, for the first may be from before the card was issued.
    const made = warifu('backup', '--scheduled', '--data', folder);
    expect(made).toMatchObject({ code: 0, output: expect.stringMatching(/warifu-\d{8}T\d{9}Z\.tar\.age/) });
    await api.post('/events', { event: 'card-returned', cardId: holder.cardId });
    await service.stop();
    const journals = scratch();
    copyFileSync(layout(folder).journal, join(journals, 'journal.ndjson'));
    renameSync(folder, `${folder}.burnt`);

    const newest = (await keptBackups(elsewhere)).at(-1)?.name ?? '';
    const opened = join(scratch(), 'opened');
    const open = warifu('open-backup', join(elsewhere, newest), opened, '--identity', keyFile);
    expect(open).toMatchObject({ code: 0, output: expect.stringContaining('warifu restore') });
    const restored = warifu(
      'restore',
      join(opened, 'record.db'),
      '--journal',
      join(journals, 'journal.ndjson'),
      '--data',
      folder,
    );
    expect(restored).toMatchObject({ code: 0, output: expect.stringContaining('2 certificates changed') });
    expect(restored.output).not.toContain('lost:');
    await start();
    const ca = await fetchCrl(`${addresses.crl}/ca/signing-1.cer`);
    const answer = await askOcsp(
      addresses.ocsp,
      await ocspRequest(derOf(pemOf(holder.card, 'card-signing')), ca),
    );
    expect(openssl('ocsp', '-respin', fileOf(answer), '-noverify', '-resp_text')).toContain(
      'Cert Status: revoked',
    );
    expect(warifu('audit', 'verify', '--data', folder).code).toBe(0);
    await api.close();
  }, 120_000);

  it('is one encrypted file with a manifest, verified, for its owner alone, and opens with age and tar', async () => {
    const { folder, api } = await begin({ folder: 'backups', every: '1h' });
    const at = join(folder, 'backups');
    await until('there is a backup', async () => (await keptBackups(at)).length === 1);
    const [{ name } = { name: '' }] = await keptBackups(at);
    const file = join(at, name);
    const manifest = JSON.parse(readFileSync(join(at, manifestOf(name)), 'utf8')) as Record<string, unknown>;
    const octets = readFileSync(file);
    expect(manifest).toMatchObject({
      octets: octets.length,
      sha256: hex(digest('sha256', octets)),
      recipients: [recipient],
    });
    expect(manifest.rowsVerified).toBeGreaterThan(20);
    expect(statSync(file).mode & 0o077).toBe(0);
    expect(octets.includes('SQLite format')).toBe(false);
    await until('the copy is gone', async () => !existsSync(layout(folder).backupWork));
    const out = scratch();
    execFileSync('sh', ['-c', 'age -d -i "$1" "$2" | tar x -C "$3"', 'sh', keyFile, file, out]);
    const database = new DatabaseSync(join(out, 'record.db'), { readOnly: true });
    expect(database.prepare('PRAGMA integrity_check').get()).toEqual({ integrity_check: 'ok' });
    database.close();
    expect(readdirSync(join(out, 'record.db.files'))).toEqual(
      expect.arrayContaining(['warifu.json', 'softhsm', 'audit']),
    );
    // The record knows where its keys are.
    expect(warifu('erase-year', '2020', '--data', `${folder}`).code).not.toBe(0);
    await api.close();
  }, 60_000);

  it('is not made of a record that was altered: an alarm and a warning, and those before are kept', async () => {
    const { folder, api, service } = await begin({
      folder: 'backups',
      every: '1s',
      keepNumber: 1,
      keepAge: '1s',
    });
    const at = join(folder, 'backups');
    await until('there is a backup', async () => (await keptBackups(at)).length > 0);
    const holder = await issueCard(api);
    alter(
      layout(folder).record,
      "UPDATE certificate SET kind = 'phone-signing' WHERE holderId = ?",
      holder.holderId,
    );
    await until('it alarms', async () => service.log().includes('ALARM: no backup could be made'));
    expect(service.log()).toMatch(/the record was altered.*certificate/);
    expect((await keptBackups(at)).length).toBeGreaterThan(0);
    expect(readdirSync(at).filter((name) => name.endsWith('.new'))).toEqual([]);
    await api.close();
  }, 60_000);

  it('is ended with the service, and leaves no copy in the clear', async () => {
    const { folder, api, service } = await begin({ folder: 'backups', every: '1h' });
    await until('one is being made', async () => existsSync(layout(folder).backupWork));
    await service.stop();
    expect(existsSync(layout(folder).backupWork)).toBe(false);
    expect(await keptBackups(join(folder, 'backups'))).toEqual([]);
    await api.close();
  }, 60_000);
});

describe('a schedule of backups', () => {
  it('is not led astray by a backup dated in the future', async () => {
    const folder = join(scratch(), 'dated');
    mkdirSync(folder);
    const ahead = backupName(Date.now() + 90 * 86_400_000);
    writeFileSync(join(folder, ahead), 'four');
    writeFileSync(join(folder, manifestOf(ahead)), JSON.stringify({ octets: 4 }));
    const { service, folder: data, api } = await begin({ folder, every: '1h', keepNumber: 1, keepAge: '1s' });
    await until('there is one of now', async () => (await keptBackups(folder)).length === 2);
    await new Promise((resolve) => setTimeout(resolve, 4000));
    expect((await keptBackups(folder)).length).toBe(2);
    expect(service.log().match(/a backup was made/g)).toHaveLength(1);
    const rows = new DatabaseSync(layout(data).record, { readOnly: true });
    expect(rows.prepare("SELECT name FROM meta WHERE name LIKE 'backup:%'").all()).toHaveLength(1);
    rows.close();
    await api.close();
  }, 60_000);

  it('says what is wrong with its folder, and the service goes on', async () => {
    const { service, start, folder, api } = await begin({ folder: 'backups', every: '1h' });
    await until('there is a backup', async () => (await keptBackups(join(folder, 'backups'))).length === 1);
    const says = (text: RegExp) => until('it says so', async () => text.test(service.log()));
    // Behind the first, whose process may not have ended yet.
    expect(warifu('backup', '--scheduled', '--data', folder)).toMatchObject({ code: 0 });
    // As where a process that a dead service had begun is still at it.
    const held = lockData(folder, ['backup'], 'another backup');
    expect(warifu('backup', '--scheduled', '--data', folder)).toMatchObject({ code: 1 });
    await says(/backup\.lock is held by another backup/);
    held.release();
    renameSync(join(folder, 'backups'), join(folder, 'unmounted'));
    const asked = warifu('backup', '--scheduled', '--data', folder);
    expect(asked).toMatchObject({ code: 1, output: expect.stringContaining('no backup was made') });
    await says(/there is no folder .*backups: make it, or mount its disk/);
    expect(existsSync(join(folder, 'backups'))).toBe(false);
    writeFileSync(join(folder, 'backups'), 'a file');
    expect(warifu('backup', '--scheduled', '--data', folder)).toMatchObject({ code: 1 });
    expect((await issueCard(api)).card.certificates).toHaveLength(2);
    const rows = new DatabaseSync(layout(folder).record, { readOnly: true });
    expect(rows.prepare("SELECT name FROM meta WHERE name LIKE 'backup:%'").all()).toHaveLength(2);
    rows.close();
    await service.stop();
    const stopped = warifu('backup', '--scheduled', '--data', folder);
    expect(stopped).toMatchObject({
      code: 1,
      output: expect.stringMatching(/the service does not run|ENOTDIR/),
    });
    const again = await start();
    await until('it alarms', async () => /ALARM: no backup/.test(again.log()));
    expect(again.log()).toContain('ENOTDIR');
    await api.close();
  }, 60_000);
});

describe('what is kept', () => {
  const dayMs = 86_400_000;
  const kept = [1, 2, 3, 10, 40, 50]
    .map((age) => ({ name: `b${age}`, madeMs: 100 * dayMs - age * dayMs }))
    .reverse();
  const outlive = (keepNumber: number, keepAgeDays: number) =>
    outlived(kept, { nowMs: 100 * dayMs, keepAgeMs: keepAgeDays * dayMs, keepNumber }).map(
      ({ name }) => name,
    );

  it('is the newest, whatever their age, and what is young, whatever their number', () => {
    expect(outlive(1, 30)).toEqual(['b50', 'b40']);
    expect(outlive(5, 1)).toEqual(['b50']);
    expect(outlive(6, 1)).toEqual([]);
    expect(outlive(1, 2)).toEqual(['b50', 'b40', 'b10', 'b3']);
    // Dated by a clock that was ahead: it displaces none.
    const ahead = { name: 'ahead', madeMs: 190 * dayMs };
    const keep = { nowMs: 100 * dayMs, keepAgeMs: dayMs, keepNumber: 1 };
    expect(outlived([...kept, ahead], keep)).toEqual(outlived(kept, keep));
  });

  it('counts only what is whole: with its manifest, and as long as that says', async () => {
    const folder = scratch();
    const names = [1, 2, 3].map((n) => backupName(Date.UTC(2026, 10, n)));
    for (const name of names) {
      writeFileSync(join(folder, name), 'four');
      writeFileSync(join(folder, manifestOf(name)), JSON.stringify({ octets: 4 }));
    }
    writeFileSync(join(folder, 'other.tar.age'), '');
    writeFileSync(join(folder, names[0] ?? ''), 'fo');
    rmSync(join(folder, manifestOf(names[1] ?? '')));
    expect(await keptBackups(folder)).toEqual([{ name: names[2], madeMs: Date.UTC(2026, 10, 3) }]);
    writeFileSync(join(folder, `${names[1]}.new`), 'half');
    expect((await clearUnfinished(folder)).sort()).toEqual([names[1], names[1]]);
    expect(existsSync(join(folder, names[1] ?? ''))).toBe(false);
    expect(existsSync(join(folder, 'other.tar.age'))).toBe(true);
    expect(readdirSync(folder).filter((name) => name.endsWith('.new'))).toEqual([]);
    expect(await keptBackups(join(folder, 'not-there'))).toEqual([]);
    for (const manifest of ['null', '[]', '{', '7']) {
      writeFileSync(join(folder, manifestOf(names[2] ?? '')), manifest);
      expect(await keptBackups(folder)).toEqual([]);
    }
  });

  it.each<[string, object, RegExp]>([
    ['without a recipient', { folder: 'b' }, /recipients is empty/],
    [
      'for longer than the journal',
      { folder: 'b', recipients: ['R'], keepAge: '91d' },
      /keepAge is 91d.*ocsp.journalRetention is 90d/,
    ],
    [
      'for longer than the journal by their number',
      { folder: 'b', recipients: ['R'], keepNumber: 100 },
      /journalRetention/,
    ],
    ['for something that is no key', { folder: 'b', recipients: ['age1xyz'] }, /recipients/],
  ])('is not configured %s', (_what, backups, message) => {
    const given = JSON.parse(JSON.stringify({ backups }).replace('"R"', `"${recipient}"`)) as object;
    expect(() => parseConfig(given)).toThrow(message);
  });
});

describe('an encrypted backup', () => {
  it('is refused where it was altered, cut, or is for another key, and leaves nothing behind', async () => {
    const folder = join(scratch(), 'folder');
    mkdirSync(join(folder, 'sub'), { recursive: true });
    writeFileSync(join(folder, 'sub', 'a'), 'x'.repeat(200_000));
    const file = join(scratch(), 'b.tar.age');
    await encryptFolder(folder, file, [recipient]);
    const whole = readFileSync(file);
    const flipped = Buffer.from(whole);
    flipped[100_000] = (flipped[100_000] ?? 0) ^ 1;
    for (const octets of [
      flipped,
      whole.subarray(0, 150_000),
      whole.subarray(0, 20),
      Buffer.from('no age'),
    ]) {
      writeFileSync(file, octets);
      const out = join(scratch(), 'out');
      await expect(decryptBackup(file, out, [identity])).rejects.toMatchObject({ code: 'bad-request' });
      expect(existsSync(out)).toBe(false);
    }
    writeFileSync(file, whole);
    await expect(decryptBackup(file, join(scratch(), 'o'), [await generateIdentity()])).rejects.toThrow(
      /cannot be opened/,
    );
    const out = join(scratch(), 'right');
    await decryptBackup(file, out, [identity]);
    expect(readFileSync(join(out, 'sub', 'a'), 'utf8')).toBe('x'.repeat(200_000));
  });

  it('writes nothing outside the folder that it is opened into', async () => {
    const base = scratch();
    writeFileSync(join(base, 'evil'), 'x');
    const file = join(base, 'evil.tar.age');
    execFileSync('sh', [
      '-c',
      'cd "$1" && tar c --transform "s,^,../," evil 2>/dev/null | age -r "$2" -o "$3"',
      'sh',
      base,
      recipient,
      file,
    ]);
    await expect(decryptBackup(file, join(scratch(), 'out'), [identity])).rejects.toThrow(
      /which no backup does/,
    );
  });
});
