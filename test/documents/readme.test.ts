import { execFile, execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { promisify } from 'node:util';
import { Value } from 'typebox/value';
import { afterAll, describe, expect, it } from 'vitest';
import { openApiDocument } from '../../ca/api/openapi.ts';
import { BatchLine, IssueToCard, ReportEvent } from '../../ca/api/schema.ts';
import { parseConfig } from '../../ca/config/config.ts';
import { productionFaults } from '../../ca/config/production.ts';
import { parseOcspNodeConfig } from '../../ocsp/config/options.ts';
import { cardRequest, makeChipKey } from '../support/actors.ts';
import { addClient, removeScratch, startTestService } from '../support/harness.ts';
import { ownKey } from '../support/own-key.ts';

const root = new URL('../..', import.meta.url).pathname;
const read = (file: string): string => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
const readme = read('README.md');
const documents = readdirSync(new URL('../../docs', import.meta.url), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.md'))
  .map((file) => `docs/${file}`)
  .concat('README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md');
const all = documents.map(read).join('\n');

/** A fenced sample of a document, by the word behind its language. */
function sample(name: string): string {
  const match = new RegExp(`\`\`\`\\w+ ${name}\\n([\\s\\S]*?)\`\`\``).exec(all);
  if (!match?.[1]) throw new Error(`no document has a sample ${name}`);
  return match[1];
}

afterAll(removeScratch);

describe('the documents', () => {
  it('have a README of 300 lines at most', () => {
    expect(readme.split('\n').length).toBeLessThanOrEqual(300);
  });

  it('names commands that exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const named = [...all.matchAll(/npm (?:run (?:--silent )?)?(demo|test|start|\w+(?= -- ))/g)].map(
      (match) => match[1] ?? '',
    );
    expect(named.length).toBeGreaterThan(3);
    for (const script of named) expect(Object.keys(scripts)).toContain(script);
  });

  it('has a configuration that is one', () => {
    expect(parseConfig(JSON.parse(sample('warifu.json'))).ocsp.publicUrl).toBe('http://ocsp.example');
    expect(parseConfig(JSON.parse(sample('partners.json'))).renewal.overlap).toBe('14d');
  });

  it('has a configuration that production starts with', () => {
    expect(productionFaults(parseConfig(JSON.parse(sample('production.json'))))).toEqual([]);
  });

  it('has verifiers that a configuration can have', () => {
    const { verifiers } = parseConfig(JSON.parse(sample('verifiers.json'))).ocsp;
    expect([verifiers.tokensOver, verifiers.tls?.port]).toEqual(['tls', 8490]);
  });

  it('has a configuration of CRLs that is one', () => {
    const { crl, metrics } = parseConfig(JSON.parse(sample('crl.json')));
    expect([crl.verifiers.tokensOver, metrics?.port]).toEqual(['proxy', 8082]);
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
      expect(all).toMatch(new RegExp(`\\| \`${command}[ \`]`));
  });

  it('has bodies that the API takes', async () => {
    const test = await startTestService();
    const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
    const body = { ...JSON.parse(sample('issue-to-card')), requests: cardRequest(keys).requests };
    const line = JSON.parse(sample('batch-line')) as { card: object };
    expect(Value.Check(BatchLine, { ...line, card: { ...body, ...line.card } })).toBe(true);
    expect(Value.Check(IssueToCard, body)).toBe(true);
    expect((await test.api.post('/card-certificates', body)).status).toBe(201);
    const client = JSON.parse(sample('enrol-client')) as object;
    expect((await test.api.post('/clients', { ...client, request: (await ownKey()).request })).status).toBe(
      201,
    );
    const event = JSON.parse(sample('report-event'));
    expect(Value.Check(ReportEvent, event)).toBe(true);
    const plan = await test.api.post<{ changes: object[] }>('/events', event);
    expect(plan.body.changes).toHaveLength(2);
    const restriction = JSON.parse(sample('restrict')) as { match: object };
    expect((await test.api.post('/restrictions/preview', restriction.match)).status).toBe(200);
    const proposed = await test.api.post<{ restrictionId: string }>('/restrictions', restriction);
    expect(proposed.status).toBe(201);
    const approver = await addClient(test, 'second', { roles: ['revoker'] });
    const { acts } = (
      await test.api.get<{ acts: { actId: string }[] }>(`/restrictions/${proposed.body.restrictionId}`)
    ).body;
    expect((await approver.client.post(`/mass-acts/${acts[0]?.actId}/approval`, undefined)).status).toBe(200);
    for (const [, end = ''] of read('docs/API.md').matchAll(/with `(\{ "action": "[a-z]+" \})`/g)) {
      const ended = await test.api.post(`/restrictions/${proposed.body.restrictionId}/end`, JSON.parse(end));
      expect([201, 409]).toContain(ended.status);
    }
    await approver.client.close();
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

  it.each(documents)('%s links to files and headings that exist', (document) => {
    const folder = dirname(document);
    for (const [, target = ''] of read(document).matchAll(/\]\(((?!http)[^)]+)\)/g)) {
      const [path = '', heading] = target.split('#');
      const file = path === '' ? document : normalize(join(folder, path));
      const text = read(file);
      expect(text.length).toBeGreaterThan(0);
      const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, words = '']) => anchorOf(words));
      if (heading !== undefined) expect(headings, `${document}: ${target}`).toContain(heading);
    }
  });

  it.each(documents)('%s names files that exist', (document) => {
    const paths = [
      ...read(document).matchAll(/`((?:core|store|hsm|ca|ocsp|crl|bench|test|docs)\/[\w./-]+)`/g),
    ];
    const missing = paths.map(([, path = '']) => path).filter((path) => !existsSync(join(root, path)));
    expect(missing).toEqual([]);
  });

  it('name the standards that the source cites, and files that there are', () => {
    const standards = read('docs/STANDARDS.md');
    const files = execFileSync('git', ['ls-files', 'core', 'store', 'hsm', 'ca', 'ocsp', 'crl'], {
      cwd: new URL('../..', import.meta.url).pathname,
      encoding: 'utf8',
    }).split('\n');
    for (const [, file = ''] of standards.matchAll(/`((?:core|store|hsm|ca|ocsp|crl)\/[^`]+\.ts)`/g))
      expect(files).toContain(file);
    const source = files.filter((file) => file.endsWith('.ts')).map(read);
    const cited = source.flatMap(
      (text) => text.match(/RFC \d{4} (?:§[\d.]*[\d]|appendix [A-Z](?:\.\d)?)/g) ?? [],
    );
    const missing = [...new Set(cited)].filter((citation) => {
      const [, number = '', section = ''] = /^RFC (\d+) (.*)$/.exec(citation) ?? [];
      const rows = standards.split('\n').filter((line) => line.includes(`RFC ${number}`));
      return !rows.some((row) => row.includes(section));
    });
    expect(missing).toEqual([]);
  });
});

/** The name by which a heading is linked to. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');
