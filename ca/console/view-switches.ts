import { get, pathOf, post } from './api.ts';
import { h, said } from './dom.ts';
import { short, time } from './format.ts';
import { named, t } from './language.ts';
import { announce, type MakeView, problemText, select } from './page.ts';
import { table } from './tables.ts';
import type { Caller, Switch } from './types.ts';

const states = ['open', 'limited', 'closed'] as const;

/** Which functions are open, limited or closed. */
export const switches: MakeView = async (caller) => {
  const { switches: all } = await get<{ switches: Switch[] }>('/switches');
  return {
    title: t('nav.switches'),
    content: table(
      t('nav.switches'),
      [
        t('switch.name'),
        t('switch.state'),
        t('switch.perMinute'),
        t('switch.note'),
        t('switch.changed'),
        t('approval.act'),
      ],
      all.map((each) => rowOf(each, caller)),
    ),
  };
};

function rowOf({ name, state, perMinute, note, changedAt, changedBy }: Switch, { roles }: Caller) {
  const badge = { open: 'good', limited: 'held', closed: 'revoked' }[state];
  const changed = [
    time(changedAt),
    changedBy !== null && h('small', { class: 'muted' }, ` ${short(changedBy)}`),
  ];
  const shown = h('span', { class: `badge ${badge}` }, t(`switch.${state}`));
  if (!roles.includes('administrator'))
    return [said(named('function', name)), shown, perMinute ?? '–', said(note), changed, ''];
  const chosen = select(
    states.map((each) => [each, t(`switch.${each}`)] as const),
    state,
  );
  chosen.setAttribute('aria-label', `${t('switch.state')}: ${name}`);
  const most = h('input', {
    type: 'number',
    min: 1,
    value: perMinute ?? '',
    'aria-label': `${t('switch.perMinute')}: ${name}`,
    class: 'narrow',
  });
  const words = h('input', {
    type: 'text',
    maxlength: 200,
    value: note,
    'aria-label': `${t('switch.note')}: ${name}`,
  });
  const save = h(
    'button',
    {
      type: 'button',
      'aria-label': `${t('switch.save')}: ${name}`,
      click: async () => {
        const next = chosen.value as Switch['state'];
        if (!confirm(t('switch.confirm', named('function', name), t(`switch.${next}`)))) return;
        try {
          await post(pathOf('switches', name), {
            state: next,
            ...(next === 'limited' ? { perMinute: Number(most.value) } : {}),
            ...(words.value === '' ? {} : { note: words.value }),
          });
          announce(t('done'));
          dispatchEvent(new Event('hashchange'));
        } catch (error) {
          announce(problemText(error));
        }
      },
    },
    t('switch.save'),
  );
  return [[said(named('function', name)), ' ', shown], chosen, most, words, changed, save];
}
