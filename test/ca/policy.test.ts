import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../ca/config/config.ts';
import { checkPolicy } from '../../ca/policy/policy-check.ts';
import { type HolderKind, holderKinds, slotOf } from '../../core/model/kinds.ts';
import type { Plan, Target } from '../../core/model/plan.ts';
import {
  type CertificateState,
  changeStatus,
  type StatusChange,
  statusIn,
} from '../../core/model/revocation.ts';
import type { CertificateView } from '../../store/api/certificate-store.ts';
import { evaluate } from '../../store/rules/policy/evaluate.ts';

const { policy } = parseConfig({});
const now = 1_000_000;

/** A holder with one card and one phone that rests on it, all four certificates in the given states. */
function holderWith(states: Partial<Record<HolderKind, CertificateState>> = {}): CertificateView[] {
  const position = (kind: HolderKind): number => holderKinds.indexOf(kind) + 1;
  return holderKinds.map((kind) => {
    const state = states[kind] ?? 'good';
    const card: HolderKind = `card-${slotOf(kind)}`;
    const stopped = state === 'held' || state === 'revoked';
    return {
      authority: `${slotOf(kind)}-1`,
      epoch: 1,
      position: position(kind),
      kind,
      ...statusIn({
        state,
        reason: stopped ? (state === 'held' ? 'certificateHold' : 'superseded') : null,
        revokedMs: stopped ? 5 : null,
        invalidityMs: null,
      }),
      heldBy: state === 'held' ? ['event' as const] : [],
      holderId: 'h',
      mediumId: kind.startsWith('card') ? 'card:c' : 'phone:p',
      issuanceId: kind.startsWith('card') ? 'i1' : 'i2',
      version: 1,
      notBeforeMs: 0,
      notAfterMs: now * 2,
      shard: null,
      restsOn: kind.startsWith('phone')
        ? { authority: `${slotOf(kind)}-1`, epoch: 1, position: position(card) }
        : null,
    };
  });
}

const targets: Readonly<Record<string, Target>> = {
  holder: { type: 'holder', holderId: 'h' },
  card: { type: 'medium', mediumId: 'card:c' },
  phone: { type: 'medium', mediumId: 'phone:p' },
};

/** What a plan does, in words, by kind. */
function inWords(plan: Plan, views: readonly CertificateView[]): Record<string, string> {
  return Object.fromEntries(
    plan.changes.map(({ authority, position, change }) => {
      const kind =
        views.find((view) => view.authority === authority && view.position === position)?.kind ?? '?';
      return [kind, change.action === 'revoke' ? `revoke:${change.reason}` : change.action];
    }),
  );
}

const event = (name: string, views = holderWith()): Record<string, string> => {
  const target = targets[policy.events[name]?.target ?? ''];
  if (!target) throw new Error(`no event ${name}`);
  return inWords(
    evaluate(policy, { type: 'event', event: name, target: target }, { views, nowMs: now }),
    views,
  );
};

describe('the policy table', () => {
  it('releases a found phone’s authentication certificate, and revokes its signing certificate to be reissued', () => {
    const views = holderWith({ 'phone-signing': 'held', 'phone-authentication': 'held' });
    expect(event('phone-found', views)).toEqual({
      'phone-signing': 'revoke:superseded',
      'phone-authentication': 'release',
    });
  });

  it('refuses an event that does not exist, or that happens to something else', () => {
    const holder: Target = { type: 'holder', holderId: 'h' };
    const report = (name: string, target: Target) => () =>
      evaluate(policy, { type: 'event', event: name, target }, { views: [], nowMs: now });
    expect(report('toString', holder)).toThrow(expect.objectContaining({ code: 'bad-request' }));
    expect(report('card-lost', holder)).toThrow('happens to a card');
    expect(report('phone-lost', { type: 'medium', mediumId: 'card:c' })).toThrow('happens to a phone');
  });

  it('is refused at start where a cell makes no sense', () => {
    const withCell = (kind: HolderKind, cell: string) => {
      const lost = policy.events['phone-lost'];
      if (!lost) throw new Error('no phone-lost');
      return { ...policy, events: { 'phone-lost': { ...lost, kinds: { ...lost.kinds, [kind]: cell } } } };
    };
    expect(() => checkPolicy(policy)).not.toThrow();
    expect(() => checkPolicy(withCell('phone-signing', 'revoke:nonsense'))).toThrow(
      'phone-lost, phone-signing',
    );
    expect(() => checkPolicy(withCell('phone-signing', 'revoke:certificateHold'))).toThrow('no reason');
    expect(() => checkPolicy(withCell('phone-signing', 'release'))).toThrow('cannot be released');
    expect(() => checkPolicy(withCell('card-signing', 'hold'))).toThrow('reaches no card');
  });

  it('is refused at start where a cascade would weaken, a hold has no end, or what is not revoked is reissued', () => {
    const { events } = policy;
    const withEvent = (name: string, rule: object) =>
      ({ ...policy, events: { ...events, [name]: { ...events[name], ...rule } } }) as typeof policy;
    const died = events.died?.kinds;
    expect(() => checkPolicy(withEvent('died', { kinds: { ...died, 'phone-signing': 'hold' } }))).toThrow(
      'a cascade never weakens',
    );
    const lost = events['card-lost']?.kinds;
    const weak = { kinds: { ...lost, 'phone-authentication': 'release' } };
    expect(() => checkPolicy(withEvent('card-lost', weak))).toThrow('a cascade never weakens');
    expect(() => checkPolicy(withEvent('moved', { reissue: ['card-authentication'] }))).toThrow(
      'is not revoked',
    );
    expect(() => checkPolicy({ ...policy, releasable: ['card-signing'] })).toThrow('phone-found');
    const { 'phone-found': _, ...others } = events;
    expect(() => checkPolicy({ ...policy, events: others })).toThrow('no event releases');
  });
});

describe('the cascade', () => {
  const state = fc.constantFrom<CertificateState>('reserved', 'good', 'held', 'revoked');
  const states = fc.record(
    Object.fromEntries(holderKinds.map((kind) => [kind, state])) as Record<HolderKind, typeof state>,
  );
  const strength: Record<string, number> = { reserved: 0, good: 0, held: 1, revoked: 2 };

  const applied = (views: readonly CertificateView[], plan: Plan): Map<string, CertificateView> => {
    const changed = new Map(views.map((view) => [String(view.kind), view]));
    for (const { authority, position, change } of plan.changes) {
      const view = views.find(
        (candidate) => candidate.authority === authority && candidate.position === position,
      );
      if (!view) throw new Error('a plan without a certificate');
      const status = changeStatus(view, change, now);
      if (status) changed.set(view.kind, { ...view, ...status });
    }
    return changed;
  };

  it('leaves no phone certificate in force whose card certificate has ceased', () => {
    fc.assert(
      fc.property(states, fc.constantFrom(...Object.keys(policy.events)), (before, name) => {
        const views = holderWith(before);
        const target = targets[policy.events[name]?.target ?? ''] as Target;
        const plan = evaluate(policy, { type: 'event', event: name, target: target }, { views, nowMs: now });
        const result = applied(views, plan);
        for (const { authority, position, change } of plan.changes) {
          const card = views.find((view) => view.authority === authority && view.position === position);
          if (!card?.kind.startsWith('card') || change.action !== 'revoke') continue;
          // A card that is found is replaced, and ends no phone that its loss did not hold.
          const phone = views.find(({ kind }) => kind === `phone-${card.kind.slice('card-'.length)}`);
          if (name === 'card-found' && phone?.state !== 'held') continue;
          expect(result.get(`phone-${card.kind.slice('card-'.length)}`)?.state).toBe('revoked');
        }
      }),
    );
  });

  it('never weakens what a certificate already is, but for a release the table asks for', () => {
    fc.assert(
      fc.property(states, fc.constantFrom(...Object.keys(policy.events)), (before, name) => {
        const views = holderWith(before);
        const target = targets[policy.events[name]?.target ?? ''] as Target;
        const result = applied(
          views,
          evaluate(policy, { type: 'event', event: name, target: target }, { views, nowMs: now }),
        );
        for (const view of views) {
          const cell = policy.events[name]?.kinds[view.kind as HolderKind];
          const state_ = result.get(view.kind)?.state ?? '';
          if (cell !== 'release') expect(strength[state_]).toBeGreaterThanOrEqual(strength[view.state] ?? 0);
        }
      }),
    );
  });

  it('of a whole phone spares what rests on a card certificate that lives on', () => {
    const [signing, authentication, phoneSigning, phoneAuthentication] = holderWith();
    if (!signing || !authentication || !phoneSigning || !phoneAuthentication) throw new Error('no holder');
    // The card was replaced: its authentication certificate is still the old card's.
    const views = [{ ...signing, mediumId: 'card:new' }, authentication, phoneSigning, phoneAuthentication];
    const plan = evaluate(
      policy,
      { type: 'event', event: 'card-returned', target: targets.card as Target },
      { views, nowMs: now },
    );
    expect(inWords(plan, views)).toEqual({
      'card-authentication': 'revoke:cessationOfOperation',
      'phone-authentication': 'revoke:cessationOfOperation',
    });
  });

  it('names the certificate it came from', () => {
    const views = holderWith();
    const revoke: StatusChange = { action: 'revoke', reason: 'superseded', invalidityMs: null };
    const key = { authority: 'signing-1', epoch: 1, position: 1 };
    const plan = evaluate(policy, { type: 'certificate', key, change: revoke }, { views, nowMs: now });
    expect(plan.changes.map(({ cause }) => cause.cascadedFrom)).toEqual([
      null,
      { authority: 'signing-1', epoch: 1, position: 1 },
    ]);
    expect(plan.orders).toEqual([
      { type: 'remote-deletion', authority: 'signing-1', epoch: 1, position: 3, mediumId: 'phone:p' },
    ]);
  });

  it('of a hold is the operator’s choice', () => {
    const views = holderWith();
    const key = { authority: 'signing-1', epoch: 1, position: 1 };
    const plan = (cascade: 'hold' | 'none') =>
      evaluate(
        { ...policy, cascade: { hold: cascade } },
        { type: 'certificate', key, change: { action: 'hold', by: 'event' } },
        { views, nowMs: now },
      );
    expect(inWords(plan('hold'), views)).toEqual({ 'card-signing': 'hold', 'phone-signing': 'hold' });
    expect(inWords(plan('none'), views)).toEqual({ 'card-signing': 'hold' });
  });

  it('orders the deletion of each key that ceases, and of none that is only held', () => {
    const views = holderWith();
    const plan = (name: string) =>
      evaluate(
        policy,
        { type: 'event', event: name, target: targets[policy.events[name]?.target ?? ''] as Target },
        { views, nowMs: now },
      );
    expect(plan('died').orders).toHaveLength(2);
    expect(plan('moved').orders).toMatchObject([{ authority: 'signing-1' }]);
    expect(plan('card-lost').orders).toEqual([]);
  });

  it('leaves expired certificates alone', () => {
    const views = holderWith().map((view) => ({ ...view, notAfterMs: now - 1 }));
    expect(
      evaluate(
        policy,
        { type: 'event', event: 'died', target: targets.holder as Target },
        { views, nowMs: now },
      ).changes,
    ).toEqual([]);
  });

  it('never releases a card', () => {
    const key = { authority: 'authentication-1', epoch: 1, position: 2 };
    const change = { action: 'release', by: 'event' } as const;
    const views = holderWith({ 'card-authentication': 'held' });
    expect(() => evaluate(policy, { type: 'certificate', key, change }, { views, nowMs: now })).toThrow(
      expect.objectContaining({ code: 'illegal-transition' }),
    );
  });
});
