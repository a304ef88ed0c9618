import { get, pathOf, post } from './api.ts';
import { type Children, h, said } from './dom.ts';
import { short, time } from './format.ts';
import { named, t } from './language.ts';
import { actButton, type MakeView } from './page.ts';
import { planPicture } from './plan-picture.ts';
import type { Caller, Plan, Proposal } from './types.ts';

/** What waits for a second person: each with all that is approved. */
export const approvals: MakeView = async (caller) => {
  const { proposals } = await get<{ proposals: Proposal[] }>('/proposals');
  return {
    title: t('nav.approvals'),
    content:
      proposals.length === 0
        ? h('p', { class: 'muted' }, t('approval.none'))
        : proposals.map((each) => proposalOf(each, caller)),
  };
};

function proposalOf(proposal: Proposal, { clientId }: Caller): HTMLElement {
  const { proposalId, act, plan, planHash, role, proposedBy, proposedAt, expiresAt } = proposal;
  const isOwn = proposedBy === clientId;
  const { consequence, ...members } = plan;
  const hashId = `hash-${proposalId}`;
  const article = h(
    'article',
    { class: 'card', 'aria-labelledby': `act-${proposalId}` },
    h('h2', { id: `act-${proposalId}` }, named('act', act)),
    h('dl', {}, [
      pair(t('approval.role'), named('role', role)),
      pair(t('approval.by'), isOwn ? t('approval.own') : short(proposedBy)),
      pair(t('approval.at'), time(proposedAt)),
      pair(t('approval.expires'), time(expiresAt)),
      Object.entries(members).map(([name, value]) =>
        pair(name, said(typeof value === 'string' ? value : JSON.stringify(value))),
      ),
    ]),
    isPlan(consequence) && planPicture(String(members.event ?? act), consequence),
    h('p', { class: 'muted', id: hashId }, `${t('approval.hash')}: `, h('code', {}, planHash)),
    h('p', { class: 'buttons' }, [
      !isOwn &&
        actButton(
          t('approval.approve'),
          async () => {
            await post(`${pathOf('proposals', proposalId)}/approval`, { planHash }, `approve-${proposalId}`);
            article.remove();
            return t('approval.approved');
          },
          { class: 'primary', confirm: t('approval.confirm'), describedBy: hashId },
        ),
      actButton(t('approval.withdraw'), async () => {
        await post(`${pathOf('proposals', proposalId)}/withdrawal`);
        article.remove();
        return t('done');
      }),
    ]),
  );
  return article;
}

const pair = (term: string, description: Children): Children => [h('dt', {}, term), h('dd', {}, description)];

const isPlan = (value: unknown): value is Plan =>
  typeof value === 'object' && value !== null && Array.isArray((value as { changes?: unknown }).changes);
