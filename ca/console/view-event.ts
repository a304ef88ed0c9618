import { get, pathOf, post } from './api.ts';
import { h, replace } from './dom.ts';
import { named, t } from './language.ts';
import { actButton, announce, field, form, type MakeView, problemBox, select } from './page.ts';
import { planPicture } from './plan-picture.ts';
import type { Plan } from './types.ts';

const names = { holder: 'holderId', card: 'cardId', phone: 'deviceId' } as const;

type Carried = { media: { type: 'card' | 'phone'; id: string; model: string | null }[] };

/** Reports an event, once its plan has been looked at: what is reported is bound to that plan. */
export const event: MakeView = async (caller, [of, id = '']) => {
  const title = t('nav.event');
  if (!caller.roles.includes('revoker')) return { title, content: h('p', {}, t('not-yours')) };
  const carried =
    of === 'holder' ? await get<Carried>(`${pathOf('holders', id)}/media`).catch(() => undefined) : undefined;
  const target = h('input', {
    type: 'text',
    required: true,
    maxlength: 64,
    autocomplete: 'off',
    value: of === 'holder' ? id : '',
    list: 'media',
  });
  const targetLabel = h('output', { class: 'muted' });
  const targetOf = (name: string) => caller.events.find((each) => each.event === name)?.target;
  const options = caller.events.map(
    ({ event: name, target: kind }) =>
      [name, `${named('event', name)} (${t(`event.target.${kind}`)})`] as const,
  );
  const chosen = select([['', t('event.choose')], ...options], '', (name) => {
    const kind = targetOf(name);
    replace(targetLabel, kind && t(`event.target.${kind}`));
    const fitting = kind === 'holder' ? id : (carried?.media.find(({ type }) => type === kind)?.id ?? '');
    if (of === 'holder') target.value = fitting;
  });
  chosen.required = true;
  const when = h('input', { type: 'datetime-local' });
  const shown = h('div', { 'aria-live': 'polite' });
  const preview = async (): Promise<void> => {
    const kind = targetOf(chosen.value);
    if (!kind) return;
    const body = {
      event: chosen.value,
      [names[kind]]: target.value.trim(),
      ...(when.value === ''
        ? {}
        : { occurredAt: `${when.value.length === 16 ? `${when.value}:00` : when.value}+09:00` }),
    };
    replace(shown, h('p', { class: 'muted' }, t('loading')));
    try {
      const plan = await post<Plan>('/events', { ...body, dryRun: true });
      replace(shown, planned(body, plan, shown));
    } catch (error) {
      replace(shown, problemBox(error));
    }
  };
  return {
    title,
    content: [
      h(
        'datalist',
        { id: 'media' },
        carried?.media.map(({ id: medium, model }) => h('option', { value: medium }, model)),
      ),
      form(
        () => void preview(),
        h(
          'div',
          { class: 'row' },
          field(t('event'), chosen),
          field(t('event.of'), target),
          targetLabel,
          field(t('event.when'), when, t('event.when.hint')),
          h('button', { type: 'submit', class: 'primary' }, t('event.preview')),
        ),
      ),
      shown,
    ],
  };
};

function planned(body: { readonly event: string }, plan: Plan, shown: HTMLElement): HTMLElement {
  // One act, however often the button is pressed.
  const key = crypto.randomUUID();
  const report = actButton(
    t('event.report'),
    async () => {
      const done = await post<Plan & { proposalId?: string }>(
        '/events',
        { ...body, planHash: plan.planHash },
        key,
      );
      if (done.proposalId !== undefined) return t('waits', done.proposalId);
      const text = t('event.reported', done.changes.length);
      replace(shown, h('p', { class: 'notice' }, text), planPicture(body.event, done));
      announce(text);
      return text;
    },
    { class: 'danger', confirm: t('event.confirm') },
  );
  return h(
    'section',
    {},
    h('h2', {}, t('plan')),
    planPicture(body.event, plan),
    plan.changes.length > 0 && h('p', {}, report),
  );
}
