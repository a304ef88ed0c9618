import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, extname, join, relative } from 'node:path';
import { chromium } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { removeScratch, scratch } from '../support/harness.ts';

// The documents as a site, as `npm run site` makes it.

const root = new URL('../..', import.meta.url).pathname;
let site: string;
let pages: string[];

beforeAll(() => {
  site = join(scratch(), 'site');
  const draft = join(root, 'data', `draft-${process.pid}.md`);
  mkdirSync(dirname(draft), { recursive: true });
  writeFileSync(draft, '# Not for others');
  execFileSync(
    process.execPath,
    [join(root, 'node_modules/vitepress/bin/vitepress.js'), 'build', 'docs', '--outDir', site],
    { cwd: root, encoding: 'utf8', stdio: 'pipe' },
  );
  rmSync(draft);
  pages = (readdirSync(site, { recursive: true }) as string[]).filter(
    (name) => name.endsWith('.html') && name !== '404.html',
  );
}, 60_000);
afterAll(removeScratch);

const htmlOf = (page: string): string => readFileSync(join(site, page), 'utf8');

describe('the site', () => {
  it('has a page of each document, and none of anything else', () => {
    const documents = execFileSync('git', ['ls-files', '*.md'], {
      cwd: root,
      encoding: 'utf8',
    });
    const expected = documents
      .trim()
      .split('\n')
      .filter((name) => !name.startsWith('test/'))
      .map((name) => (name === 'README.md' ? 'index.html' : name.replace(/\.md$/, '.html')));
    expect([...pages].sort()).toEqual(expected.sort());
  });

  it('has no link that leads nowhere: page, file or heading', () => {
    const dead: string[] = [];
    for (const page of pages) {
      for (const [, target = ''] of htmlOf(page).matchAll(/href="([^"]+)"/g)) {
        if (/^(https?|mailto):/.test(target)) continue;
        const [path = '', anchor = ''] = target.split('#');
        const at = path === '' ? page : path.startsWith('/') ? path.slice(1) : join(dirname(page), path);
        const file = at === '' || at.endsWith('/') ? `${at}index.html` : at;
        const isThere = existsSync(join(site, file));
        const hasAnchor =
          anchor === '' || (isThere && htmlOf(file).includes(`id="${decodeURIComponent(anchor)}"`));
        if (!isThere || !hasAnchor) dead.push(`${page}: ${target}`);
      }
    }
    expect(dead).toEqual([]);
  });

  it('is found by its words, in English and Japanese, and asks no other host', async () => {
    const server: Server = createServer((request, response) => {
      const path = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname);
      const file = join(site, path.endsWith('/') ? `${path}index.html` : path);
      const types: Record<string, string> = {
        '.html': 'text/html',
        '.js': 'text/javascript',
        '.css': 'text/css',
      };
      if (relative(site, file).startsWith('..') || !existsSync(file)) response.writeHead(404).end();
      else
        response
          .writeHead(200, { 'content-type': types[extname(file)] ?? 'application/octet-stream' })
          .end(readFileSync(file));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const browser = await chromium.launch({
      executablePath: '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
    });
    try {
      const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
      const asked = new Set<string>();
      page.on('request', (each) => asked.add(new URL(each.url()).origin));
      for (const [word, wanted] of [
        ['restriction', 'docs/'],
        ['失効', 'docs/QUICKSTART.ja.html'],
      ] as const) {
        await page.goto(`${origin}/`);
        await page.click('.VPNavBarSearch button');
        await page.fill('.VPLocalSearchBox input', word);
        const first = page.locator(`.VPLocalSearchBox .results a[href*="${wanted}"]`).first();
        await first.waitFor({ timeout: 15_000 });
      }
      expect([...asked]).toEqual([origin]);
      await page.goto(`${origin}/docs/OPERATIONS.html`);
      await page.screenshot({ path: join(root, 'node_modules/.cache/site.png') });
    } finally {
      await browser.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }, 60_000);
});
