import { get, pathOf, post } from './api.ts';
import { h, replace, said } from './dom.ts';
import { time } from './format.ts';
import { named, t } from './language.ts';
import { actButton, announce, field, form, type MakeView, problemBox, select } from './page.ts';
import { isNothing, planPicture } from './plan-picture.ts';
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
    // Of several phones the person says which.
    const own = carried?.media.filter(({ type }) => type === kind) ?? [];
    const fitting = kind === 'holder' ? id : own.length === 1 ? (own[0]?.id ?? '') : '';
    if (of === 'holder') target.value = fitting;
  });
  chosen.required = true;
  const when = h('input', { type: 'datetime-local' });
  const shown = h('div', { 'aria-live': 'polite' });
  // What is shown is of what the form says: any change takes it away, and a late answer is not shown.
  let turn = 0;
  const changed = (): void => {
    turn += 1;
    replace(shown);
  };
  for (const input of [chosen, target, when]) input.addEventListener('input', changed);
  const preview = async (): Promise<void> => {
    const kind = targetOf(chosen.value);
    if (!kind) return;
    changed();
    const own = turn;
    const body: { event: string; occurredAt?: string } & Record<string, string> = {
      event: chosen.value,
      [names[kind]]: target.value.trim(),
      ...(when.value === ''
        ? {}
        : { occurredAt: `${when.value.length === 16 ? `${when.value}:00` : when.value}+09:00` }),
    };
    replace(shown, h('p', { class: 'muted' }, t('loading')));
    try {
      const plan = await post<Plan>('/events', { ...body, dryRun: true });
      if (own === turn) replace(shown, planned(body, { kind, id: target.value.trim() }, plan, shown));
    } catch (error) {
      if (own === turn) replace(shown, problemBox(error));
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

function planned(
  body: { readonly event: string; readonly occurredAt?: string },
  of: { readonly kind: keyof typeof names; readonly id: string },
  plan: Plan,
  shown: HTMLElement,
): HTMLElement {
  const about = `${named('event', body.event)} · ${t(`event.target.${of.kind}`)} ${of.id}`;
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
    { class: 'danger', confirm: `${about}\n${t('event.confirm')}` },
  );
  return h(
    'section',
    {},
    h('h2', {}, t('plan')),
    h('p', {}, said(about), body.occurredAt !== undefined && ` · ${time(body.occurredAt)}`),
    planPicture(body.event, plan),
    !isNothing(plan) && h('p', {}, report),
  );
}
