import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../ca/config/config.ts';
import { drawPolicy, printPolicy } from '../../ca/policy/policy-print.ts';
import { type HolderKind, holderKinds, slotOf } from '../../core/model/kinds.ts';
import type { Target } from '../../core/model/plan.ts';
import { changeStatus, statusIn } from '../../core/model/revocation.ts';
import type { CertificateView } from '../../store/api/certificate-store.ts';
import { evaluate } from '../../store/rules/policy/evaluate.ts';

// The rules of the scheme, stated once more and independently of the table and of the code that carries it out: what is
// left of each certificate after each event, whatever the four were before.

/** Columns: card signing, card authentication, phone signing, phone authentication. `–` says nothing of a kind. */
const scheme = `
moved                          holder  affiliationChanged   –                    affiliationChanged   –
renamed                        holder  affiliationChanged   –                    affiliationChanged   –
register-corrected             holder  affiliationChanged   –                    affiliationChanged   –
died                           holder  cessationOfOperation cessationOfOperation cessationOfOperation cessationOfOperation
left-register                  holder  cessationOfOperation cessationOfOperation cessationOfOperation cessationOfOperation
returned-to-register           holder  –                    –                    –                    –
guardianship-began             holder  cessationOfOperation –                    cessationOfOperation –
guardianship-ended             holder  –                    –                    –                    –
moved-abroad                   holder  affiliationChanged   –                    affiliationChanged   –
my-number-changed              holder  cessationOfOperation cessationOfOperation cessationOfOperation cessationOfOperation
holder-request                 holder  cessationOfOperation cessationOfOperation cessationOfOperation cessationOfOperation
key-leaked                     holder  keyCompromise        keyCompromise        keyCompromise        keyCompromise
card-lost                      card    hold                 hold                 hold                 hold
card-found                     card    superseded           superseded           superseded           superseded
card-returned                  card    cessationOfOperation cessationOfOperation cessationOfOperation cessationOfOperation
card-expired                   card    cessationOfOperation cessationOfOperation cessationOfOperation cessationOfOperation
card-renewed                   card    superseded           superseded           superseded           superseded
card-exchanged                 card    superseded           superseded           superseded           superseded
card-extended                  card    –                    –                    –                    –
card-last-day-corrected        card    superseded           superseded           –                    –
card-delivered                 card    –                    –                    –                    –
card-discarded-before-delivery card    unspecified          unspecified          –                    –
phone-changed                  phone   –                    –                    superseded           superseded
phone-renewed                  phone   –                    –                    superseded           superseded
phone-given-up                 phone   –                    –                    cessationOfOperation cessationOfOperation
phone-lost                     phone   –                    –                    hold                 hold
phone-found                    phone   –                    –                    superseded           release
`
  .trim()
  .split('\n')
  .map((line) => line.split(/\s+/));

type Before = 'reserved' | 'good' | 'held' | 'revoked' | 'expired';
const befores: readonly Before[] = ['reserved', 'good', 'held', 'revoked', 'expired'];
const wholeCards = ['card-discarded-before-delivery', 'card-last-day-corrected'];
/** Concern what a loss holds, and nothing else. */
const found = ['card-found', 'phone-found'];

/** `good`, `held`, `reserved`, `expired`, or the reason for which it is revoked, after what was said of it. */
function after(said: string, before: Before, cardIsGood: boolean): string {
  if (before === 'expired') return 'expired';
  if (before === 'revoked') return said === 'keyCompromise' ? 'keyCompromise' : 'revoked before';
  if (said === '–') return before;
  if (said === 'hold') return 'held';
  if (said === 'release') return before === 'held' && cardIsGood ? 'good' : before;
  return said;
}

const alive = (before: Before): boolean => before !== 'revoked' && before !== 'expired';

function expected(event: string, says: readonly string[], befores: readonly Before[]): string[] {
  const concerned = (i: number): boolean => !found.includes(event) || befores[i] === 'held';
  const result = says.map((said, i) =>
    after(concerned(i) ? said : '–', befores[i] ?? 'good', befores[i % 2] === 'good'),
  );
  if (found.includes(event)) return result;
  // What a card's ceasing certificate carries along: the phone's of the same purpose, or all of the phone.
  for (const card of [0, 1]) {
    const said = says[card] ?? '';
    const ceased = alive(befores[card] ?? 'good') && said !== '–' && said !== 'hold' && said !== 'release';
    if (!ceased) continue;
    const isWhole = wholeCards.includes(event) && alive(befores[card + 2] ?? 'good');
    const reached = isWhole ? [2, 3] : [card + 2];
    for (const phone of reached)
      if (alive(befores[phone] ?? 'good') && says[phone] === '–') result[phone] = said;
  }
  return result;
}

const { policy } = parseConfig({});
const now = 1_000_000;

function viewsOf(befores: readonly Before[]): CertificateView[] {
  return holderKinds.map((kind, i) => {
    const before = befores[i] ?? 'good';
    const restsOn = i < 2 ? null : { authority: `${slotOf(kind)}-1`, epoch: 1, position: i - 1 };
    return {
      authority: `${slotOf(kind)}-1`,
      epoch: 1,
      position: i + 1,
      kind,
      ...statusIn({
        state: before === 'expired' ? 'good' : before,
        reason: before === 'revoked' ? 'superseded' : before === 'held' ? 'certificateHold' : null,
        revokedMs: before === 'revoked' || before === 'held' ? 5 : null,
        invalidityMs: null,
      }),
      heldBy: before === 'held' ? ['event'] : [],
      holderId: 'h',
      mediumId: i < 2 ? 'card:c' : 'phone:p',
      issuanceId: 'i',
      version: 1,
      notBeforeMs: 0,
      notAfterMs: before === 'expired' ? now - 1 : now * 2,
      shard: null,
      restsOn,
    };
  });
}

function done(event: string, target: Target, befores: readonly Before[]): string[] {
  const views = viewsOf(befores);
  const plan = evaluate(policy, { type: 'event', event: event, target: target }, { views, nowMs: now });
  return views.map((view, i) => {
    const planned = plan.changes.find((change) => change.position === view.position);
    const status = (planned && changeStatus(view, planned.change, now)) ?? view;
    if (befores[i] === 'expired' && !planned) return 'expired';
    if (status.state !== 'revoked') return status.state;
    return befores[i] === 'revoked' && status.reason === 'superseded'
      ? 'revoked before'
      : String(status.reason);
  });
}

function* states(): Iterable<readonly Before[]> {
  for (const a of befores)
    for (const b of befores) for (const c of befores) for (const d of befores) yield [a, b, c, d];
}

const targets: Readonly<Record<string, Target>> = {
  holder: { type: 'holder', holderId: 'h' },
  card: { type: 'medium', mediumId: 'card:c' },
  phone: { type: 'medium', mediumId: 'phone:p' },
};

describe('the table of life events', () => {
  it.each(scheme)(
    '%s, of a %s: all four kinds in every state end as the scheme says',
    (event, on, ...says) => {
      const target = targets[on ?? ''] as Target;
      const wrong: unknown[] = [];
      for (const befores of states()) {
        const [is, ought] = [done(event ?? '', target, befores), expected(event ?? '', says, befores)];
        if (is.join() !== ought.join()) wrong.push({ befores, is, ought });
      }
      expect(wrong.slice(0, 3)).toEqual([]);
    },
  );

  it('has no event that is not stated here', () => {
    expect(Object.keys(policy.events).sort()).toEqual(scheme.map(([event]) => event).sort());
  });

  it('says what is to be reissued: what was revoked, where holder and medium go on', () => {
    const views = viewsOf(['good', 'good', 'held', 'good']);
    const reissue = (event: string, on: string) =>
      evaluate(
        policy,
        { type: 'event', event: event, target: targets[on] as Target },
        { views, nowMs: now },
      ).reissue.map(({ kind }) => kind);
    expect(reissue('moved', 'holder')).toEqual(['card-signing', 'phone-signing']);
    expect(reissue('phone-found', 'phone')).toEqual(['phone-signing']);
    expect(reissue('card-renewed', 'card')).toEqual([...holderKinds]);
    expect(reissue('died', 'holder')).toEqual([]);
  });

  it('orders the deletion of exactly the phone keys that cease', () => {
    for (const [event = '', on = ''] of scheme) {
      for (const befores of states()) {
        const views = viewsOf(befores);
        const plan = evaluate(
          policy,
          { type: 'event', event: event, target: targets[on] as Target },
          { views, nowMs: now },
        );
        const ceased = done(event, targets[on] as Target, befores)
          .map((state, i) => ({ state, kind: holderKinds[i] as HolderKind, position: i + 1, i }))
          .filter(({ kind }) => kind.startsWith('phone'))
          .filter(({ i }) => alive(befores[i] ?? 'good'))
          .filter(({ state }) => !['reserved', 'good', 'held'].includes(state));
        const ordered = plan.orders.map(({ position }) => position).sort();
        expect(ordered).toEqual(ceased.map(({ position }) => position));
      }
    }
  });
});

describe('the table is shown', () => {
  it('by a command, row for row', () => {
    const main = new URL('../../ca/main.ts', import.meta.url).pathname;
    const printed = execFileSync(process.execPath, [main, 'policy'], { encoding: 'utf8', stdio: 'pipe' });
    expect(printed).toBe(printPolicy(policy));
    for (const [event = '', on = '', ...says] of scheme)
      expect(printed).toContain(`| ${[event, on, ...says].join(' | ')} | `);
  });

  it('in docs/policy.svg, as it is (npm run policy-picture)', () => {
    const picture = readFileSync(new URL('../../docs/policy.svg', import.meta.url), 'utf8');
    expect(picture).toBe(drawPolicy(policy));
  });
});
