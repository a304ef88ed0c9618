import type { Command } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cli } from '../../ca/main.ts';
import {
  issueCard,
  removeScratch,
  startTestService,
  type TestService,
  warifuRun,
} from '../support/harness.ts';

// What commands print for programs: one object on standard output, and an error as one object on standard error.

const commandsOf = (command: Command, before = ''): { name: string; command: Command }[] =>
  command.commands.flatMap((each) => {
    const name = `${before} ${each.name()}`.trim();
    return each.commands.length > 0 ? commandsOf(each, name) : [{ name, command: each }];
  });

let test: TestService;
beforeAll(async () => {
  test = await startTestService();
});
afterAll(async () => {
  await test.close();
  removeScratch();
});

const ask = async (...args: string[]) => {
  const { code, stdout, stderr } = await warifuRun(...args, '--json');
  return {
    code,
    lines: stdout.split('\n').length - 1,
    value: stdout === '' ? undefined : JSON.parse(stdout),
    stderr,
  };
};

describe('--json', () => {
  it.each(commandsOf(cli()).map(({ name, command }) => [name, command] as const))(
    'is an option of %s, unless it serves',
    (name, command) => {
      const has = command.options.some(({ long }) => long === '--json');
      expect(has).toBe(name !== 'start');
    },
  );

  it('prints one object on one line', async () => {
    const { holderId } = await issueCard(test.api);
    const data = ['--data', test.folder];
    for (const [args, members] of [
      [['config', 'check', ...data], ['messages']],
      [
        ['config', 'show', ...data],
        ['mode', 'policy', 'node'],
      ],
      [
        ['config', 'schema', 'ocsp'],
        ['$schema', 'properties'],
      ],
      [['config', 'example', 'crl'], ['example']],
      [['access'], ['routes']],
      [['openapi'], ['paths']],
      [['policy', ...data], ['events']],
      [['completion'], ['script']],
      [['links', ...data], ['certificates']],
      [
        ['client', 'another', ...data],
        ['certificate', 'fingerprint'],
      ],
      [['history', '--holder', holderId, ...data], ['entries']],
      [
        ['audit', 'verify', ...data],
        ['entries', 'rows', 'heads', 'finding', 'checkpoints'],
      ],
    ] as const) {
      const { code, lines, value, stderr } = await ask(...args);
      expect([code, lines], `${args.join(' ')} ${stderr}`).toEqual([0, 1]);
      expect(Object.keys(value as object), args.join(' ')).toEqual(expect.arrayContaining([...members]));
    }
  }, 60_000);

  it('has a history as the API has it, an object an entry', async () => {
    const { holderId } = await issueCard(test.api);
    const { value } = await ask('history', '--holder', holderId, '--data', test.folder);
    const { entries } = value as { entries: object[] };
    expect(entries[0]).toMatchObject({
      authority: expect.stringMatching(/-1$/),
      serialNumber: expect.stringMatching(/^[0-9a-f]+$/),
      at: expect.stringMatching(/Z$/),
      actor: expect.objectContaining({ role: 'issuer' }),
    });
  });

  it.each([
    [['no-such-command'], /unknown command 'no-such-command'/],
    [['client'], /missing required argument 'name'/],
    [['config', 'check', '--bogus'], /unknown option '--bogus'/],
  ])('prints what is wrong with the command line %j as one object', async (args, says) => {
    const { code, value, stderr } = await ask(...args);
    expect([code, value]).toEqual([1, undefined]);
    expect(JSON.parse(stderr)).toEqual({
      error: { code: 'bad-request', detail: expect.stringMatching(says) },
    });
  });

  it('is no part of help and version', async () => {
    expect(await warifuRun('--version')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d/) });
    expect(await warifuRun('--help')).toMatchObject({ code: 0, stdout: expect.stringContaining('Usage') });
    expect(await warifuRun()).toMatchObject({ code: 1, stderr: expect.stringContaining('Usage') });
    expect((await warifuRun('client')).stderr).toMatch(/^warifu: bad-request: missing required argument/);
  });

  it('prints an error as one object, on standard error, and ends with 1', async () => {
    const { code, value, stderr } = await ask('history', '--holder', 'unknown', '--data', test.folder);
    expect([code, value]).toEqual([1, undefined]);
    expect(JSON.parse(stderr)).toEqual({
      error: { code: 'not-found', detail: 'nothing is on record of that' },
    });
  });
});
