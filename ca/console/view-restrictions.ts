import { get, pathOf, post } from './api.ts';
import { h, replace, said } from './dom.ts';
import { number, time } from './format.ts';
import { named, t } from './language.ts';
import { actButton, announce, field, form, type MakeView, problemText, repeatedly, select } from './page.ts';
import { table } from './tables.ts';
import type { BulkOperation, Caller, Restriction } from './types.ts';

const everyMs = 2000;

/** Restrictions, with how far their acts have come, live; and a form to propose one. */
export const restrictions: MakeView = (caller) => {
  const title = t('nav.restrictions');
  if (!caller.roles.some((role) => role === 'revoker' || role === 'reader'))
    return { title, content: h('p', {}, t('not-yours')) };
  const list = h('div', {});
  let shown = '';
  const look = async (): Promise<void> => {
    const { restrictions: all } = await get<{ restrictions: Restriction[] }>('/restrictions');
    const text = JSON.stringify(all);
    // What has not changed stays, with the focus that is in it.
    if (text !== shown) replace(list, tableOf(all, caller));
    shown = text;
  };
  return {
    title,
    content: [list, caller.roles.includes('revoker') && proposeForm(look)],
    end: repeatedly(everyMs, look),
  };
};

const tableOf = (all: readonly Restriction[], caller: Caller): HTMLElement =>
  table(
    t('nav.restrictions'),
    [t('restriction.match'), t('restriction.state'), t('restriction.progress'), t('restriction.acts')],
    all.map((each) => [
      [said(matchText(each)), each.note !== '' && h('div', { class: 'muted' }, said(each.note))],
      h(
        'span',
        { class: `badge ${each.state === 'in-force' ? 'held' : 'retired'}` },
        named('state', each.state),
      ),
      each.acts.map(progressOf),
      [each.acts.map((act) => decisions(act, caller)), endings(each, caller)],
    ]),
  );

const matchText = ({ match }: Restriction): string =>
  Object.entries(match)
    .map(([name, value]) => `${name}: ${Array.isArray(value) ? value.join(', ') : String(value)}`)
    .join(' · ');

function progressOf({ action, state, phones, certificates, finishedAt }: BulkOperation): HTMLElement {
  const label = `${named('action', action)} · ${named('state', state)}`;
  return h(
    'div',
    {},
    h('div', {}, label),
    state === 'running' && h('progress', { 'aria-label': label }),
    h(
      'small',
      { class: 'muted' },
      t('restriction.counted', number(phones), number(certificates)),
      finishedAt !== null && ` · ${time(finishedAt)}`,
    ),
  );
}

function decisions({ actId, action, state, proposedBy }: BulkOperation, { clientId, roles }: Caller) {
  if (state !== 'proposed' || !roles.includes('revoker')) return null;
  const act = (what: 'approval' | 'withdrawal') => async (): Promise<undefined> => {
    await post(`${pathOf('mass-acts', actId)}/${what}`, undefined, `${what}-${actId}`);
  };
  return h('p', { class: 'buttons' }, [
    proposedBy !== clientId &&
      actButton(t('approval.approve'), act('approval'), {
        class: 'primary',
        confirm: `${named('action', action)}\n${t('approval.confirm')}`,
      }),
    actButton(t('approval.withdraw'), act('withdrawal'), { confirm: t('approval.withdraw.confirm') }),
  ]);
}

function endings({ restrictionId, state, acts }: Restriction, { roles }: Caller) {
  if (state !== 'in-force' || !roles.includes('revoker') || acts.some((act) => act.state === 'proposed'))
    return null;
  const end = (body: object) => async (): Promise<string> => {
    await post(`${pathOf('restrictions', restrictionId)}/end`, body);
    return t('restriction.proposed');
  };
  return h('p', { class: 'buttons' }, [
    actButton(t('restriction.release'), end({ action: 'release' })),
    actButton(t('restriction.revoke'), end({ action: 'revoke', reason: 'keyCompromise' }), {
      class: 'danger',
      confirm: t('event.confirm'),
    }),
  ]);
}

function proposeForm(look: () => Promise<void>): HTMLElement {
  const platform = select(
    [
      ['ios', 'ios'],
      ['android', 'android'],
    ],
    'android',
  );
  const models = h('input', { type: 'text', maxlength: 500, autocomplete: 'off' });
  const note = h('input', { type: 'text', maxlength: 200, autocomplete: 'off' });
  const counted = h('output', { 'aria-live': 'polite' });
  const match = () => {
    const named = models.value
      .split(',')
      .map((each) => each.trim())
      .filter((each) => each !== '');
    return { platform: platform.value, ...(named.length > 0 ? { models: named } : {}) };
  };
  // What was counted is what is proposed: any change of the form takes that back.
  let matching: string | undefined;
  const preview = async (): Promise<void> => {
    try {
      const asked = match();
      const { phones, certificates } = await post<{ phones: number; certificates: number }>(
        '/restrictions/preview',
        asked,
      );
      matching = t('restriction.matching', number(phones), number(certificates));
      replace(counted, matching);
      hold.disabled = false;
    } catch (error) {
      announce(problemText(error));
    }
  };
  const hold = h(
    'button',
    {
      type: 'button',
      class: 'danger',
      disabled: true,
      click: async () => {
        const scope = models.value.trim() === '' ? t('restriction.all') : models.value;
        if (!confirm(t('restriction.confirm', platform.value, scope, matching ?? ''))) return;
        hold.disabled = true;
        try {
          await post('/restrictions', { match: match(), ...(note.value === '' ? {} : { note: note.value }) });
          await look();
          announce(t('restriction.proposed'));
        } catch (error) {
          announce(problemText(error));
        }
      },
    },
    t('restriction.hold'),
  );
  for (const input of [platform, models])
    input.addEventListener('input', () => {
      hold.disabled = true;
      replace(counted);
    });
  return h(
    'section',
    {},
    h('h2', {}, t('restriction.propose')),
    form(
      () => void preview(),
      h('div', { class: 'row' }, [
        field(t('restriction.platform'), platform),
        field(t('restriction.models'), models),
        field(t('restriction.note'), note),
        h('button', { type: 'submit' }, t('restriction.preview')),
        counted,
        hold,
      ]),
    ),
  );
}
