import { get } from './api.ts';
import { h, said } from './dom.ts';
import { day, number, share } from './format.ts';
import { t } from './language.ts';
import { later, type MakeView } from './page.ts';
import { table } from './tables.ts';
import type { Health, Service } from './types.ts';

/** The CAs with their generations, and what ends when. */
export const authorities: MakeView = async () => {
  const { authorities: all, at } = await get<Service>('/service');
  const now = Date.parse(at);
  return {
    title: t('nav.authorities'),
    content: [
      table(
        t('nav.authorities'),
        [t('authority'), t('generation'), t('suite'), t('status'), t('from'), t('to'), t('life')],
        all.map((each) => {
          const percent = number(100 * share(each.notBefore, each.notAfter, now), 1);
          return [
            said(each.authority),
            each.generation,
            said(each.suite),
            h(
              'span',
              { class: `badge ${each.issuing ? 'good' : 'retired'}` },
              t(each.issuing ? 'authority.issuing' : 'authority.answers'),
            ),
            day(each.notBefore),
            day(each.notAfter),
            h('meter', {
              min: 0,
              max: 1,
              high: 0.8,
              value: share(each.notBefore, each.notAfter, now),
              'aria-label': t('life.used', percent),
              title: t('life.used', percent),
            }),
          ];
        }),
      ),
      later(ending),
    ],
  };
};

async function ending(): Promise<HTMLElement> {
  const { warnings = [] } = await get<Health>('/health');
  return table(
    t('what-ends'),
    [t('kind'), t('name'), t('to'), t('approval.act')],
    warnings
      .filter(({ at }) => at !== null)
      .sort((a, b) => ((a.at ?? '') < (b.at ?? '') ? -1 : 1))
      .map(({ kind, about, at, act }) => [said(kind), said(about), day(at), said(act)]),
    t('warnings.none'),
  );
}
