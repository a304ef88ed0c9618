import { get } from './api.ts';
import { h, said, svg } from './dom.ts';
import { number, share, time } from './format.ts';
import { t } from './language.ts';
import type { MakeView } from './page.ts';
import { table } from './tables.ts';
import type { Crl, Service } from './types.ts';

const [square, perRow, oldestMax] = [14, 60, 25];

type Freshness = 'fresh' | 'half' | 'overdue';
const freshnessOf = (used: number): Freshness => (used >= 1 ? 'overdue' : used >= 0.5 ? 'half' : 'fresh');

/** All CRLs as a map: one square each, by how much of its time has passed. */
export const crls: MakeView = async () => {
  const { at } = await get<Service>('/service');
  const all: Crl[] = [];
  for (let next: string | null = ''; next !== null; ) {
    const page: { crls: Crl[]; next: string | null } = await get(`/crls?after=${encodeURIComponent(next)}`);
    all.push(...page.crls);
    next = page.next;
  }
  const now = Date.parse(at);
  const used = all.map((crl) => ({ crl, used: share(crl.thisUpdate, crl.nextUpdate, now) }));
  const count = (which: Freshness): string =>
    number(used.filter((each) => freshnessOf(each.used) === which).length);
  const summary = t('crl.summary', number(all.length), count('fresh'), count('half'), count('overdue'));
  return {
    title: t('nav.crls'),
    content: [
      h('p', {}, summary),
      h(
        'figure',
        {},
        h(
          'div',
          { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': t('crl.map') },
          mapOf(used, summary),
        ),
        h('figcaption', {}, legend()),
      ),
      oldestOf(used),
    ],
  };
};

function mapOf(used: readonly { readonly crl: Crl; readonly used: number }[], summary: string): SVGElement {
  const columns = Math.min(perRow, Math.max(1, used.length));
  const rows = Math.ceil(used.length / columns);
  const size = { width: columns * square, height: Math.max(1, rows) * square };
  return svg(
    'svg',
    {
      viewBox: `0 0 ${size.width} ${size.height}`,
      ...size,
      role: 'img',
      'aria-label': `${t('crl.map')}: ${summary}`,
      class: 'map',
    },
    used.map(({ crl, used: of }, i) =>
      svg(
        'rect',
        {
          x: (i % columns) * square + 1,
          y: Math.floor(i / columns) * square + 1,
          width: square - 2,
          height: square - 2,
          rx: 2,
          class: freshnessOf(of),
        },
        svg('title', {}, t('crl.square', crl.path, Math.round(of * 100))),
      ),
    ),
  );
}

const legend = (): HTMLElement =>
  h(
    'ul',
    { class: 'legend' },
    (['fresh', 'half', 'overdue'] as const).map((which) =>
      h(
        'li',
        {},
        svg(
          'svg',
          { viewBox: '0 0 12 12', width: 12, height: 12, 'aria-hidden': 'true', class: 'map' },
          svg('rect', { width: 12, height: 12, rx: 2, class: which }),
        ),
        ` ${t(`crl.${which}`)}`,
      ),
    ),
  );

const oldestOf = (used: readonly { readonly crl: Crl; readonly used: number }[]): HTMLElement =>
  table(
    t('crl.oldest'),
    [t('crl.path'), t('crl.number'), t('crl.octets'), t('crl.this'), t('crl.next'), t('crl.delta')],
    [...used]
      .sort((a, b) => b.used - a.used)
      .slice(0, oldestMax)
      .map(({ crl }) => [
        said(crl.path),
        h('span', { class: 'mono' }, crl.number),
        number(crl.octets),
        time(crl.thisUpdate),
        time(crl.nextUpdate),
        time(crl.deltaNextUpdate),
      ]),
  );
