// The documents as a site: `npm run site` writes it to docs/.vitepress/dist. Its pages are the files as they are; other files that they
// refer to are copied.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitepress';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
/** Documents that git knows; nothing else that lies in the folder is published. */
const asked = (...args) =>
  execFileSync('git', ['ls-files', ...args, '--', '*.md'], { cwd: root, encoding: 'utf8' })
    .split('\n')
    .filter((name) => name !== '');
const pages = asked().filter((name) => !name.startsWith('test/'));
const others = asked('--others', '--exclude=node_modules');
const textOf = (page) => readFileSync(join(root, page), 'utf8');
const titleOf = (page) => /^# (.+)$/m.exec(textOf(page))?.[1] ?? page;
const item = (page, text = titleOf(page)) => ({
  text,
  link: page === 'README.md' ? '/' : `/${page.replace(/\.md$/, '')}`,
});

/** What a page refers to, from the root of the project; undefined for what is elsewhere. */
function targetOf(page, link) {
  const [path = ''] = link.split('#');
  if (path === '' || /^[a-z]+:/.test(path)) return undefined;
  const file = relative(root, join(root, dirname(page), path));
  return existsSync(join(root, file)) ? file : undefined;
}

/** Files that pages refer to and that are no pages: pictures, data, sources. */
const icon = 'ca/console/icon.svg';
const referred = new Set([icon]);

/** Leads links to where this site has what they lead to: the first page, and files that are copied as they are. */
function placeLinks(markdown) {
  markdown.core.ruler.push('places', ({ tokens, env }) => {
    const page = env.relativePath === 'index.md' ? 'README.md' : env.relativePath;
    for (const token of tokens.flatMap(({ children }) => children ?? []))
      if (token.type === 'link_open') placeLink(token, page);
  });
}

function placeLink(token, page) {
  const link = token.attrGet('href') ?? '';
  const target = targetOf(page, link);
  if (target === undefined) return;
  if (target === 'README.md') token.attrSet('href', link.replace(/README\.md/, 'index.md'));
  else if (!target.endsWith('.md')) {
    referred.add(target);
    token.attrSet('href', `/${target}`);
    // No page: VitePress leaves it as it is.
    token.attrSet('target', '_self');
  }
}

/** As GitHub makes anchors of headings, whose names links of these documents use. */
const anchorOf = (text) =>
  text
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\p{M}_ -]/gu, '')
    .replaceAll(' ', '-');

/** Words of Japanese are not parted by spaces. It is sent to the browser as text, so that it refers to nothing outside. */
const words = (text) =>
  [...new Intl.Segmenter('ja', { granularity: 'word' }).segment(text)]
    .filter(({ isWordLike }) => isWordLike)
    .map(({ segment }) => segment);

const section = (text, names) => ({ text, items: names.map((name) => item(name)) });

export default defineConfig({
  title: 'Warifu',
  description: 'A certificate authority and revocation service for paired card and smartphone certificates',
  lang: 'en',
  srcDir: '..',
  srcExclude: ['node_modules/**', 'test/**', ...others],
  rewrites: { 'README.md': 'index.md' },
  markdown: {
    html: false,
    attrs: { disable: true },
    anchor: { slugify: anchorOf },
    languageAlias: { conf: 'ini' },
    config: placeLinks,
  },
  vite: { publicDir: false },
  head: [['link', { rel: 'icon', href: `/${icon}` }]],
  transformHtml: (html, file) => (file.endsWith('.ja.html') ? html.replace('lang="en"', 'lang="ja"') : html),
  themeConfig: {
    search: {
      provider: 'local',
      options: { miniSearch: { options: { tokenize: words }, searchOptions: { tokenize: words } } },
    },
    nav: [
      item('README.md', 'Start'),
      item('docs/QUICKSTART.ja.md', '日本語'),
      item('CHANGELOG.md', 'Changes'),
    ],
    sidebar: [
      section('Begin', ['README.md', 'docs/QUICKSTART.ja.md', 'docs/WHY-NOT-EJBCA.md', 'docs/GLOSSARY.md']),
      section('Run it', [
        'docs/OPERATIONS.md',
        'docs/CONFIGURATION.md',
        'docs/CLUSTER.md',
        'docs/TUNING.md',
        'docs/ACCESS.md',
      ]),
      section('Call it', ['docs/API.md', 'ca/sdk/README.md', 'docs/EVENTS.md', 'docs/PHONE-ENROLMENT.md']),
      section('Rely on it', [
        'docs/RELYING-PARTIES.md',
        'docs/FRESHNESS.md',
        'docs/VERIFIERS.md',
        'core/verifier/README.md',
      ]),
      section('Judge it', [
        'docs/STANDARDS.md',
        'docs/FIGURES.md',
        'docs/ARCHITECTURE.md',
        'SECURITY.md',
        'CONTRIBUTING.md',
      ]),
      {
        text: 'Decisions',
        collapsed: true,
        items: pages
          .filter((page) => page.startsWith('docs/adr/'))
          .sort()
          .map((page) => item(page)),
      },
    ],
    outline: [2, 3],
  },
  buildEnd: ({ outDir }) => {
    for (const file of referred) {
      mkdirSync(dirname(join(outDir, file)), { recursive: true });
      cpSync(join(root, file), join(outDir, file), { recursive: true });
    }
  },
});
