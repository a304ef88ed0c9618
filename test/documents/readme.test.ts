import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Value } from 'typebox/value';
import { afterAll, describe, expect, it } from 'vitest';
import { openApiDocument } from '../../ca/api/openapi.ts';
import { BatchLine, IssueToCard, ReportEvent } from '../../ca/api/schema.ts';
import { parseConfig } from '../../ca/config/config.ts';
import { parseOcspNodeConfig } from '../../ocsp/config/options.ts';
import { cardRequest, makeChipKey, pemOf } from '../support/actors.ts';
import { issueCard, removeScratch, scratch, startTestService } from '../support/harness.ts';

const read = (file: string): string => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
const readme = read('README.md');

/** A fenced sample of the README, by the word behind its language. */
function sample(name: string): string {
  const match = new RegExp(`\`\`\`\\w+ ${name}\\n([\\s\\S]*?)\`\`\``).exec(readme);
  if (!match?.[1]) throw new Error(`the README has no sample ${name}`);
  return match[1];
}

afterAll(removeScratch);

describe('the README', () => {
  it('names commands that exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const named = [...readme.matchAll(/npm (?:run )?(demo|test|start|\w+(?= --))/g)].map(
      (match) => match[1] ?? '',
    );
    expect(named.length).toBeGreaterThan(3);
    for (const script of named) expect(Object.keys(scripts)).toContain(script);
  });

  it('has a configuration that is one', () => {
    expect(parseConfig(JSON.parse(sample('warifu.json'))).ocsp.publicUrl).toBe('http://ocsp.example');
    expect(parseConfig(JSON.parse(sample('partners.json'))).renewal.overlap).toBe('14d');
  });

  it('has verifiers that a configuration can have', () => {
    const { verifiers } = parseConfig(JSON.parse(sample('verifiers.json'))).ocsp;
    expect(verifiers.list.map(({ name }) => name)).toEqual(['bank', 'clinics']);
  });

  it('has a configuration of CRLs that is one', () => {
    const { crl, metrics } = parseConfig(JSON.parse(sample('crl.json')));
    expect([crl.verifiers.list[0]?.name, metrics?.port]).toEqual(['bank', 8082]);
  });

  it('has a configuration of tokens that is one', () => {
    const { caToken, isolation } = parseConfig(JSON.parse(sample('tokens.json'))).pkcs11;
    expect([caToken.copies[0]?.label, isolation]).toEqual(['warifu-ca-2', 'processes']);
  });

  it('has a node’s configuration that is one', () => {
    expect(parseOcspNodeConfig(JSON.parse(sample('node.json'))).feed.key).toBe('node.key');
  });

  it('lists every command', async () => {
    const main = new URL('../../ca/main.ts', import.meta.url).pathname;
    const { stdout } = await promisify(execFile)(process.execPath, [main, '--help']);
    const commands = [...stdout.matchAll(/^ {2}([a-z-]+) (?:\[options\]|)/gm)].map((match) => match[1] ?? '');
    expect(commands).toContain('restore');
    for (const command of commands.filter((name) => !['help', 'openapi'].includes(name)))
      expect(readme).toMatch(new RegExp(`\\| \`${command}[ \`]`));
  });

  it('has bodies that the API takes', async () => {
    const test = await startTestService();
    const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
    const body = { ...JSON.parse(sample('issue-to-card')), requests: cardRequest(keys).requests };
    const line = JSON.parse(sample('batch-line')) as { card: object };
    expect(Value.Check(BatchLine, { ...line, card: { ...body, ...line.card } })).toBe(true);
    expect(Value.Check(IssueToCard, body)).toBe(true);
    expect((await test.api.post('/card-certificates', body)).status).toBe(201);
    const event = JSON.parse(sample('report-event'));
    expect(Value.Check(ReportEvent, event)).toBe(true);
    const plan = await test.api.post<{ changes: object[] }>('/events', event);
    expect(plan.body.changes).toHaveLength(2);
    await test.close();
  });

  it('lists every route, with its role', async () => {
    const { paths } = JSON.parse(await openApiDocument()) as {
      paths: Record<string, Record<string, object>>;
    };
    const routes = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replace('/v1', '')}`),
    );
    const listed = [...readme.matchAll(/^\| `((?:GET|POST) [^`]+)` \|/gm)].map((match) => match[1]);
    expect(listed.sort()).toEqual(routes.sort());
  });

  it('gives relying parties recipes that work', async () => {
    const test = await startTestService();
    const { card } = await issueCard(test.api);
    const folder = scratch();
    writeFileSync(join(folder, 'cert.pem'), pemOf(card, 'card-signing'));
    const recipes = [...read('docs/RELYING-PARTIES.md').matchAll(/```sh\n([\s\S]*?)```/g)];
    const said: string[] = [];
    for (const [, recipe = ''] of recipes) {
      const { stdout } = await promisify(execFile)('sh', ['-ec', recipe], { cwd: folder });
      said.push(stdout);
    }
    expect(said).toEqual([
      expect.stringMatching(/^cert.pem: good$/m),
      expect.stringMatching(/^cert.pem: OK$/m),
    ]);
    await test.close();
  });

  it('links to files that exist', () => {
    for (const [, file = ''] of readme.matchAll(/\]\(((?!http|#)[^)]+)\)/g))
      expect(read(file).length).toBeGreaterThan(0);
  });
});
