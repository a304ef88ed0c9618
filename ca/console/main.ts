// The console: what the address says behind `#` is the view that is shown.

import { chosenPurpose, get, setPurpose } from './api.ts';
import { h, replace, said } from './dom.ts';
import { keepLanguage, type Language, languageAtFirst, named, setLanguage, t } from './language.ts';
import { announce, type MakeView, problemBox, select, type View } from './page.ts';
import type { Caller } from './types.ts';
import { approvals } from './view-approvals.ts';
import { authorities } from './view-authorities.ts';
import { crls } from './view-crls.ts';
import { event } from './view-event.ts';
import { holder } from './view-holder.ts';
import { nodes } from './view-nodes.ts';
import { outbox } from './view-outbox.ts';
import { overview } from './view-overview.ts';
import { register } from './view-register.ts';
import { restrictions } from './view-restrictions.ts';
import { certificate, search } from './view-search.ts';
import { switches } from './view-switches.ts';

interface Entry {
  readonly make: MakeView;
  /** Roles whose menu lists the view: an empty list means every role, null means no menu. */
  readonly roles: readonly string[] | null;
  /** Whether the view looks up holders, and so needs a purpose. */
  readonly isPersonal?: boolean;
}

/** Views with their names in the address. */
const views: Readonly<Record<string, Entry>> = {
  overview: { make: overview, roles: [] },
  search: { make: search, roles: ['reader'], isPersonal: true },
  event: { make: event, roles: ['revoker'], isPersonal: true },
  approvals: { make: approvals, roles: ['administrator', 'issuer', 'revoker', 'reader'], isPersonal: true },
  restrictions: { make: restrictions, roles: ['revoker', 'reader'] },
  switches: { make: switches, roles: ['administrator', 'reader'] },
  outbox: { make: outbox, roles: ['administrator', 'reader'] },
  register: { make: register, roles: ['administrator', 'reader'] },
  authorities: { make: authorities, roles: ['administrator', 'reader'] },
  nodes: { make: nodes, roles: ['administrator', 'reader'] },
  crls: { make: crls, roles: ['administrator', 'reader'] },
  holder: { make: holder, roles: null, isPersonal: true },
  certificate: { make: certificate, roles: null, isPersonal: true },
};
type MenuName =
  | 'overview'
  | 'search'
  | 'event'
  | 'approvals'
  | 'restrictions'
  | 'switches'
  | 'outbox'
  | 'register'
  | 'authorities'
  | 'nodes'
  | 'crls';

let caller: Caller;
let shown: View | undefined;
let turns = 0;

const main = h('main', { id: 'main', tabindex: -1 });

function placeOf(): { readonly name: string; readonly rest: readonly string[] } {
  try {
    const [name = '', ...rest] = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
    return { name: name === '' ? 'overview' : name, rest };
  } catch {
    // A percent sign that encodes nothing.
    return { name: 'not found', rest: [] };
  }
}

/** A look-up is on record with its purpose: without one, where one is needed, nothing is asked. */
async function viewOf(name: string, rest: readonly string[]): Promise<View | undefined> {
  const entry = Object.hasOwn(views, name) ? views[name] : undefined;
  if (!entry?.isPersonal || !caller.purposeRequired || chosenPurpose() !== '')
    return entry?.make(caller, rest);
  return { title: t('purpose'), content: h('p', { class: 'notice' }, t('purpose.needed')) };
}

async function show(): Promise<void> {
  turns += 1;
  const turn = turns;
  shown?.end?.();
  shown = undefined;
  announce('');
  const { name, rest } = placeOf();
  for (const link of document.querySelectorAll('nav a'))
    if (link.getAttribute('href') === `#/${name}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  replace(main, h('p', { class: 'muted' }, t('loading')));
  try {
    const view = await viewOf(name, rest);
    if (turn !== turns) {
      view?.end?.();
      return;
    }
    shown = view;
    const title = view?.title ?? t('not-found');
    document.title = `${title} · ${t('title')}`;
    replace(main, h('h1', {}, title), view?.content);
  } catch (error) {
    if (turn === turns) replace(main, h('h1', {}, t('problem.refused')), problemBox(error));
  }
}

function purposeSelect(): HTMLElement {
  const options = [
    ['', t('purpose.none')] as const,
    ...caller.purposes.map((each) => [each, named('purpose', each)] as const),
  ];
  const element = select(options, chosenPurpose(), (chosen) => {
    setPurpose(chosen);
    void show();
  });
  return h('label', {}, `${t('purpose')} `, element);
}

function languageSelect(): HTMLElement {
  const element = select(
    [
      ['en', 'English'],
      ['ja', '日本語'],
    ],
    document.documentElement.lang,
    (chosen) => {
      keepLanguage(chosen as Language);
      setLanguage(chosen as Language);
      build();
      void show();
    },
  );
  return h('label', {}, `${t('language')} `, element);
}

/** All around the view. */
function build(): void {
  const menu = Object.entries(views).filter(
    ([, { roles }]) =>
      roles !== null && (roles.length === 0 || roles.some((role) => caller.roles.includes(role))),
  );
  replace(
    document.body,
    h(
      'a',
      {
        href: '#main',
        class: 'skip',
        click: (clicked) => {
          clicked.preventDefault();
          main.focus();
        },
      },
      t('skip'),
    ),
    h(
      'header',
      {},
      h(
        'a',
        { href: '#/overview', class: 'brand' },
        h('img', { src: '/console/icon.svg', alt: '', width: 28, height: 28 }),
        ' Warifu',
      ),
      h('span', { class: `mode ${caller.mode}` }, t(`mode.${caller.mode}`)),
      h('span', { class: 'who' }, t('signed-in'), said(caller.name ?? caller.clientId.slice(0, 12))),
      h('a', { href: '/console/api' }, t('api')),
      purposeSelect(),
      languageSelect(),
    ),
    h(
      'nav',
      { 'aria-label': t('nav') },
      h(
        'ul',
        {},
        menu.map(([name]) => h('li', {}, h('a', { href: `#/${name}` }, t(`nav.${name as MenuName}`)))),
      ),
    ),
    main,
    h('p', { id: 'status', role: 'status', 'aria-live': 'polite' }),
  );
}

async function begin(): Promise<void> {
  setLanguage(languageAtFirst());
  try {
    caller = await get<Caller>('/caller');
  } catch (error) {
    replace(document.body, h('main', {}, h('h1', {}, 'Warifu'), problemBox(error)));
    return;
  }
  build();
  addEventListener('hashchange', () => void show());
  await show();
}

void begin();
