import { get, Problem } from './api.ts';
import { h, replace, said, svg } from './dom.ts';
import { number, time } from './format.ts';
import { t } from './language.ts';
import { type MakeView, repeatedly } from './page.ts';
import { table } from './tables.ts';
import type { Caller, Health, Service } from './types.ts';
import { waitingRestrictions } from './view-approvals.ts';

const everyMs = 2000;
const pointsMax = 60;

/** One rate, drawn as it comes. */
class Rate {
  readonly #values: number[] = [];
  #last: { readonly at: number; readonly count: number } | undefined;
  readonly #value = h('output', { class: 'rate' }, '–');
  readonly #line = svg('polyline', { class: 'line', points: '' });
  readonly #total = h('small', { class: 'muted' });
  readonly element: HTMLElement;

  constructor(label: string) {
    const chart = svg('svg', { viewBox: '0 0 240 48', class: 'chart', 'aria-hidden': 'true' }, this.#line);
    this.element = h('div', { class: 'card' }, h('h3', {}, label), this.#value, chart, this.#total);
  }

  add(count: number, at: number, since: string): void {
    const last = this.#last;
    this.#last = { at, count };
    replace(this.#total, t('since-start', number(count), time(since)));
    if (!last || at <= last.at) return;
    const rate = Math.max(0, ((count - last.count) * 1000) / (at - last.at));
    this.#values.push(rate);
    this.#values.splice(0, Math.max(0, this.#values.length - pointsMax));
    replace(this.#value, number(rate, rate < 10 ? 1 : 0));
    const most = Math.max(1, ...this.#values);
    const points = this.#values.map(
      (value, i) => `${(i * 240) / (pointsMax - 1)},${46 - (value / most) * 44}`,
    );
    this.#line.setAttribute('points', points.join(' '));
  }
}

/** How it goes, and what needs somebody. */
export const overview: MakeView = (caller) => {
  const mayLook = caller.roles.includes('administrator') || caller.roles.includes('reader');
  const rates = {
    certificates: new Rate(t('rate.certificates')),
    ocspAnswers: new Rate(t('rate.ocsp')),
    crls: new Rate(t('rate.crls')),
  } as const;
  const waiting = h('output', { class: 'rate' }, '–');
  const below = h('div', {});
  let maySeeService = mayLook;
  const service = async (): Promise<void> => {
    if (!maySeeService) return;
    try {
      const { counts, at, startedAt } = await get<Service>('/service');
      for (const name of ['certificates', 'ocspAnswers', 'crls'] as const)
        rates[name].add(counts[name], Date.parse(at), startedAt);
      replace(waiting, number(counts.waiting));
    } catch (error) {
      // It is the nation’s: not for a reader of one municipality.
      if (!(error instanceof Problem) || error.status !== 403) throw error;
      maySeeService = false;
      replace(working);
    }
  };
  const rest = async (): Promise<void> => {
    // The service counts the proposals: reading them here would record a look-up of each holder.
    const [health, now, acts] = await Promise.all([
      get<Health>('/health'),
      get<Caller>('/caller'),
      waitingRestrictions(caller),
    ]);
    replace(below, warningsOf(health), approvalsOf(now.proposals + (acts ?? 0)), tokensOf(health));
  };
  const look = async (): Promise<void> => {
    const failed = (await Promise.allSettled([service(), rest()])).find(
      ({ status }) => status === 'rejected',
    );
    if (failed?.status === 'rejected') throw failed.reason;
  };
  const working = h('div', {});
  if (mayLook)
    replace(
      working,
      h(
        'section',
        {},
        h('h2', {}, t('rates')),
        h(
          'div',
          { class: 'cards' },
          Object.values(rates).map(({ element }) => element),
          h('div', { class: 'card' }, h('h3', {}, t('rate.waiting')), waiting),
        ),
      ),
    );
  return {
    title: t('nav.overview'),
    content: [working, below],
    end: repeatedly(everyMs, look),
  };
};

const warningsOf = ({ warnings = [] }: Health): HTMLElement =>
  table(
    t('warnings'),
    [t('kind'), t('name'), t('to'), t('approval.act')],
    warnings.map(({ kind, about, at, act }) => [
      h('span', { class: 'badge held' }, kind),
      said(about),
      time(at),
      said(act),
    ]),
    t('warnings.none'),
  );

const approvalsOf = (waits: number): HTMLElement =>
  h(
    'section',
    {},
    h('h2', {}, t('approvals.waiting')),
    waits === 0
      ? h('p', { class: 'muted' }, t('approval.none'))
      : h('p', {}, h('a', { href: '#/approvals' }, `${number(waits)} · ${t('nav.approvals')}`)),
  );

const tokensOf = ({ tokens }: Health): HTMLElement =>
  table(
    t('tokens'),
    [t('name'), t('status')],
    tokens.map(({ label, up }) => [
      said(label),
      h('span', { class: `badge ${up ? 'good' : 'revoked'}` }, t(up ? 'token.up' : 'token.down')),
    ]),
  );
