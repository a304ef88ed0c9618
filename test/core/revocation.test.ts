import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  changeStatus,
  type RecordedStatus,
  type StatusChange,
  statusIn,
} from '../../core/model/revocation.ts';

const good: RecordedStatus = { state: 'good', reason: null, revokedMs: null, invalidityMs: null, heldBy: [] };
const revoke = (
  reason: 'superseded' | 'keyCompromise',
  invalidityMs: number | null = null,
): StatusChange => ({
  action: 'revoke',
  reason,
  invalidityMs,
});
const mustChange = (status: RecordedStatus, change: StatusChange, nowMs: number): RecordedStatus => {
  const changed = changeStatus(status, change, nowMs);
  if (!changed) throw new Error(`${change.action} is illegal on ${status.state}`);
  return changed;
};

const anyChange: fc.Arbitrary<StatusChange> = fc.oneof(
  fc.constant<StatusChange>({ action: 'hold', by: 'event' }),
  fc.constant<StatusChange>({ action: 'release', by: 'event' }),
  fc.constant(revoke('superseded')),
  fc.option(fc.nat(), { nil: null }).map((at) => revoke('keyCompromise', at)),
);

describe('a status in columns', () => {
  it.each([
    ['revoked', 'nonsense', 5],
    ['revoked', 'superseded', null],
    ['revoked', null, null],
    ['held', null, 5],
    ['held', 'certificateHold', null],
    ['good', 'superseded', null],
    ['reserved', null, 5],
    ['lost', null, null],
  ])('is refused where it is %s with reason %s and time %s', (state, reason, revokedMs) => {
    const read = () => statusIn({ state, reason, revokedMs, invalidityMs: null });
    expect(read).toThrow(/the status of a certificate is inconsistent/);
  });
});

describe('status changes', () => {
  it('never make a revoked certificate anything else, whatever is tried', () => {
    fc.assert(
      fc.property(fc.array(anyChange, { maxLength: 12 }), (changes) => {
        let status = mustChange(good, revoke('superseded'), 1000);
        for (const [i, change] of changes.entries()) {
          status = changeStatus(status, change, 2000 + i) ?? status;
          expect(status.state).toBe('revoked');
          expect(status.revokedMs).toBe(1000);
        }
      }),
    );
  });

  it('change nothing when repeated', () => {
    fc.assert(
      fc.property(fc.array(anyChange, { maxLength: 8 }), anyChange, (before, change) => {
        const status = before.reduce<RecordedStatus>(
          (state, step, i) => changeStatus(state, step, i) ?? state,
          good,
        );
        const once = changeStatus(status, change, 100);
        if (once) expect(changeStatus(once, change, 200)).toBe(once);
      }),
    );
  });

  it('keep the date of the hold when a held certificate is revoked', () => {
    const held = mustChange(good, { action: 'hold', by: 'event' }, 5);
    expect(mustChange(held, revoke('superseded'), 9)).toMatchObject({
      state: 'revoked',
      reason: 'superseded',
      revokedMs: 5,
    });
  });

  it('let a reason be worsened to keyCompromise only, and invalidityDate be moved earlier only', () => {
    const revoked = mustChange(good, revoke('superseded'), 10);
    const worse = mustChange(revoked, revoke('keyCompromise', 7), 20);
    expect(worse).toMatchObject({ reason: 'keyCompromise', invalidityMs: 7, revokedMs: 10 });
    expect(changeStatus(worse, revoke('keyCompromise', 8), 30)).toBe(worse);
    expect(changeStatus(worse, revoke('keyCompromise', 3), 30)).toMatchObject({ invalidityMs: 3 });
    expect(changeStatus(worse, revoke('superseded'), 30)).toBe(worse);
  });

  it('refuse to hold or release what is revoked', () => {
    const revoked = mustChange(good, revoke('superseded'), 10);
    expect(changeStatus(revoked, { action: 'hold', by: 'event' }, 20)).toBeUndefined();
    expect(changeStatus(revoked, { action: 'release', by: 'event' }, 20)).toBeUndefined();
  });
});
