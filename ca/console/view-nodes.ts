import { get } from './api.ts';
import { h, replace, said } from './dom.ts';
import { number, time } from './format.ts';
import { t } from './language.ts';
import { type MakeView, repeatedly } from './page.ts';
import { table } from './tables.ts';
import type { Service } from './types.ts';

const everyMs = 2000;
/** From how many seconds on a lag is marked: nodes hear something every second. */
const lateSeconds = 5;

/** CA nodes, and OCSP and CRL nodes that follow, with how far each is behind. */
export const nodes: MakeView = () => {
  const list = h('div', {});
  const look = async (): Promise<void> => {
    const service = await get<Service>('/service');
    replace(list, [
      h(
        'section',
        {},
        h('h2', {}, t('node.this')),
        h('p', {}, said(service.node), ` · ${t('node.started', time(service.startedAt))}`),
      ),
      table(
        t('node.ca'),
        [t('node'), t('node.behind')],
        service.nodes.map(({ node, behind }) => [
          said(node),
          behind === null ? t('not-said') : number(behind),
        ]),
      ),
      table(
        t('node.followers'),
        [t('node'), t('node.connected'), t('node.known'), t('node.lag')],
        service.followers.map(({ clientId, name, connectedAt, knownTo, lagSeconds }) => [
          said(name ?? clientId),
          time(connectedAt),
          time(knownTo),
          lagSeconds === null
            ? t('not-said')
            : h(
                'span',
                { class: `badge ${lagSeconds < lateSeconds ? 'good' : 'revoked'}` },
                number(lagSeconds, 1),
              ),
        ]),
      ),
    ]);
  };
  return { title: t('nav.nodes'), content: list, end: repeatedly(everyMs, look) };
};
