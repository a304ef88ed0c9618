import { get, pathOf } from './api.ts';
import { h, replace, said } from './dom.ts';
import { time } from './format.ts';
import { t } from './language.ts';
import { announce, field, form, type MakeView, problemBox, select } from './page.ts';
import { certificateTable } from './tables.ts';
import type { Certificate, Holder } from './types.ts';
import { timelineOf } from './view-holder.ts';

const kinds = ['holder', 'card', 'phone', 'certificate'] as const;
type Kind = (typeof kinds)[number];

/** Finds a holder, card, phone or certificate. */
export const search: MakeView = (caller) => {
  if (!caller.roles.includes('reader'))
    return { title: t('nav.search'), content: h('p', {}, t('not-yours')) };
  const what = select(
    kinds.map((kind) => [kind, t(`search.${kind}`)] as const),
    'holder',
  );
  const id = h('input', {
    type: 'text',
    required: true,
    maxlength: 128,
    autocomplete: 'off',
    spellcheck: 'false',
  });
  const found = h('div', {});
  let ended = false;
  const go = async (): Promise<void> => {
    replace(found, h('p', { class: 'muted' }, t('loading')));
    try {
      await find(what.value as Kind, id.value.trim(), found, () => !ended);
    } catch (error) {
      replace(found, problemBox(error));
    }
  };
  return {
    title: t('nav.search'),
    content: [
      form(
        () => void go(),
        h(
          'div',
          { class: 'row' },
          field(t('search.what'), what),
          field(t('search.id'), id, t('search.hint')),
          h('button', { type: 'submit', class: 'primary' }, t('search.go')),
        ),
      ),
      found,
    ],
    end: () => {
      ended = true;
    },
  };
};

async function find(kind: Kind, id: string, found: HTMLElement, isShown: () => boolean): Promise<void> {
  if (kind === 'holder') {
    const { holderId } = await get<Holder>(pathOf('holders', id));
    // Who has gone elsewhere meanwhile is not taken away from there.
    if (isShown()) location.hash = `#${pathOf('holder', holderId)}`;
  } else if (kind === 'certificate') {
    const [authority = '', serialNumber = ''] = id.split('/');
    location.hash = `#${pathOf('certificate', authority, serialNumber.toLowerCase())}`;
  } else {
    type Detail = { holderId: string; expiresAt: string; model: string | null; certificates: Certificate[] };
    const medium = await get<Detail>(pathOf(kind === 'card' ? 'cards' : 'phones', id));
    replace(
      found,
      h('h2', {}, `${t(`search.${kind}`)} `, said(id)),
      h('dl', {}, [
        [
          h('dt', {}, t('holder')),
          h('dd', {}, h('a', { href: `#${pathOf('holder', medium.holderId)}` }, said(medium.holderId))),
        ],
        [h('dt', {}, t('valid-to')), h('dd', {}, time(medium.expiresAt))],
        [h('dt', {}, t('model')), h('dd', {}, said(medium.model))],
      ]),
      certificateTable(medium.certificates),
    );
    announce(t('done'));
  }
}

/** One certificate, with what happened to it. */
export const certificate: MakeView = async (_, [authority = '', serialNumber = '']) => {
  const path = pathOf('certificates', authority, serialNumber);
  const [found, history] = await Promise.all([
    get<Certificate>(path),
    get<Parameters<typeof timelineOf>[0]>(`${path}/history`),
  ]);
  const { holderId } = found;
  return {
    title: `${t('certificate')} ${authority}/${serialNumber}`,
    content: [
      certificateTable([found]),
      holderId !== null &&
        h('p', {}, `${t('holder')}: `, h('a', { href: `#${pathOf('holder', holderId)}` }, said(holderId))),
      timelineOf(history),
    ],
  };
};
