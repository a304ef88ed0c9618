import { get, pathOf, post } from './api.ts';
import { h, replace, said } from './dom.ts';
import { number, time } from './format.ts';
import { t } from './language.ts';
import { actButton, field, later, type MakeView, select } from './page.ts';
import { certificateLink, table } from './tables.ts';
import type { Caller, Message } from './types.ts';

const states = ['dead', 'waiting', 'delivered', 'confirmed'] as const;
type State = (typeof states)[number];

/** Orders and notices: what was given up first. */
export const outbox: MakeView = (caller) => {
  const list = h('div', {});
  const show = (state: State): void =>
    replace(
      list,
      later(() => messagesOf(state, caller)),
    );
  const chosen = select(
    states.map((each) => [each, t(`outbox.${each}`)] as const),
    'dead',
    (state) => show(state as State),
  );
  show('dead');
  return {
    title: t('nav.outbox'),
    content: [h('div', { class: 'row' }, field(t('outbox.state'), chosen)), list],
  };
};

async function messagesOf(state: State, { roles }: Caller): Promise<HTMLElement> {
  const { messages } = await get<{ messages: Message[] }>(`/outbox?state=${state}`);
  const mayReplay = state === 'dead' && roles.includes('administrator');
  return table(
    t(`outbox.${state}`),
    [
      t('outbox.type'),
      t('outbox.destination'),
      t('certificate'),
      t('event'),
      t('outbox.created'),
      t('outbox.attempts'),
      t('outbox.error'),
      ...(mayReplay ? [t('approval.act')] : []),
    ],
    messages.map((each) => [
      said(each.type),
      said(each.destination),
      certificateLink(each),
      said(each.occasion),
      time(each.createdAt),
      number(each.attempts),
      said(each.lastError),
      ...(mayReplay ? [replayOf(each)] : []),
    ]),
  );
}

const replayOf = ({ messageId }: Message): HTMLElement =>
  actButton(t('outbox.replay'), async () => {
    await post(`${pathOf('outbox', messageId)}/replay`);
    return t('outbox.replayed');
  });
