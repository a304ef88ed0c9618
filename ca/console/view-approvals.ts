import { get, Problem, pathOf, post } from './api.ts';
import { type Children, h, said } from './dom.ts';
import { short, time } from './format.ts';
import { named, t } from './language.ts';
import { actButton, type MakeView } from './page.ts';
import { planPicture } from './plan-picture.ts';
import type { Caller, Plan, Proposal, Restriction } from './types.ts';

/** What waits for a second person: each with all that is approved. */
export const approvals: MakeView = async (caller) => {
  const [proposals, restrictions] = await Promise.all([waitingProposals(), waitingRestrictions(caller)]);
  return {
    title: t('nav.approvals'),
    content: [
      restrictions !== null &&
        restrictions > 0 &&
        h(
          'p',
          { class: 'notice' },
          h('a', { href: '#/restrictions' }, `${t('restriction.waits')}: ${restrictions}`),
        ),
      proposals.length + (restrictions ?? 0) === 0 && h('p', { class: 'muted' }, t('approval.none')),
      proposals.map((each) => proposalOf(each, caller)),
    ],
  };
};

/** All pages of what waits. */
async function waitingProposals(): Promise<Proposal[]> {
  const all: Proposal[] = [];
  for (let after: string | null = ''; after !== null; ) {
    const page: { proposals: Proposal[]; next: string | null } = await get(
      `/proposals${after === '' ? '' : `?after=${after}`}`,
    );
    all.push(...page.proposals);
    after = page.next;
  }
  return all;
}

/** Acts of restrictions that wait for another person; null where restrictions are not for this one to see. */
export async function waitingRestrictions({ roles }: Caller): Promise<number | null> {
  if (!roles.some((role) => role === 'revoker' || role === 'reader')) return null;
  try {
    const { restrictions } = await get<{ restrictions: Restriction[] }>('/restrictions');
    return restrictions.flatMap(({ acts }) => acts).filter(({ state }) => state === 'proposed').length;
  } catch (error) {
    // They are the nation’s.
    if (error instanceof Problem && error.status === 403) return null;
    throw error;
  }
}

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
            const { refusal } = await post<Proposal>(
              `${pathOf('proposals', proposalId)}/approval`,
              { planHash },
              `approve-${proposalId}`,
            );
            // It stays, with what has become of it.
            if (refusal !== null) return t('approval.refused', `${refusal.code}: ${refusal.detail}`);
            article.remove();
            return t('approval.approved');
          },
          { class: 'primary', confirm: t('approval.confirm'), describedBy: hashId },
        ),
      actButton(
        t('approval.withdraw'),
        async () => {
          await post(`${pathOf('proposals', proposalId)}/withdrawal`);
          article.remove();
          return t('done');
        },
        { confirm: t('approval.withdraw.confirm') },
      ),
    ]),
  );
  return article;
}

const pair = (term: string, description: Children): Children => [h('dt', {}, term), h('dd', {}, description)];

const isPlan = (value: unknown): value is Plan =>
  typeof value === 'object' && value !== null && Array.isArray((value as { changes?: unknown }).changes);
