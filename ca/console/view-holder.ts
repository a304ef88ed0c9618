import { get, pathOf } from './api.ts';
import { h, said } from './dom.ts';
import { short, time } from './format.ts';
import { named, t } from './language.ts';
import { later, type MakeView } from './page.ts';
import { certificateLink, certificateTable, table } from './tables.ts';
import type { History, Holder } from './types.ts';

/** A holder: cards and phones, certificates, and what happened. */
export const holder: MakeView = async (caller, [id = '']) => {
  const { holderId, media, certificates, standing } = await get<Holder>(pathOf('holders', id));
  const path = `${pathOf('holders', id)}/history`;
  return {
    title: `${t('holder')} ${holderId}`,
    content: [
      standing?.closedBy != null &&
        h('p', { class: 'notice' }, t('standing.closed', named('event', standing.closedBy))),
      standing?.signingBarredBy != null &&
        h('p', { class: 'notice' }, t('standing.barred', named('event', standing.signingBarredBy))),
      caller.roles.includes('revoker') &&
        h(
          'p',
          {},
          h('a', { class: 'button', href: `#${pathOf('event', 'holder', holderId)}` }, t('report-for')),
        ),
      table(
        t('media'),
        [t('medium'), t('model'), t('valid-to')],
        media.map(({ mediumId, platform, model, osVersion, expiresAt }) => [
          said(mediumId),
          said([platform, model, osVersion].filter((each) => each !== null).join(' ')),
          time(expiresAt),
        ]),
      ),
      certificateTable(certificates),
      later(async () => timelineOf(await get<History>(path))),
    ],
  };
};

/** What happened, the latest first. */
export function timelineOf({ entries, events = [] }: History): HTMLElement {
  const lines = [
    ...entries.map((entry) => ({
      at: entry.at,
      what: [
        certificateLink(entry),
        h('strong', {}, ` ${named('change', entry.change)}`),
        entry.reason !== null && ` (${named('reason', entry.reason)})`,
        entry.cause.event !== entry.change && [' · ', said(named('event', entry.cause.event))],
        entry.cause.cascadedFrom && ` · ${t('cascaded', short(entry.cause.cascadedFrom.serialNumber, 10))}`,
      ],
      actor: entry.actor,
    })),
    ...events.map(({ event, mediumId, at, actor }) => ({
      at,
      what: [
        h('strong', {}, `${t('reported')}: `),
        said(named('event', event)),
        mediumId !== null && [' · ', said(mediumId)],
      ],
      actor,
    })),
  ].sort((a, b) => (a.at < b.at ? 1 : -1));
  return h(
    'section',
    {},
    h('h2', {}, t('timeline')),
    lines.length === 0
      ? h('p', { class: 'muted' }, t('none'))
      : h(
          'ol',
          { class: 'timeline' },
          lines.map(({ at, what, actor }) =>
            h(
              'li',
              {},
              h('time', { datetime: at }, time(at)),
              h(
                'div',
                {},
                what,
                h('small', { class: 'muted' }, ` ${t('by', short(actor.client), named('role', actor.role))}`),
              ),
            ),
          ),
        ),
  );
}
