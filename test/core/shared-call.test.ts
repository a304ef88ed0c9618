import { describe, expect, it } from 'vitest';
import type { Clock } from '../../core/runtime/clock.ts';
import { sharedCall } from '../../core/runtime/shared-call.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A clock that stands still until the test moves it. */
function standingClock(): Clock & { passMs(ms: number): void } {
  let nowMs = 1000;
  return {
    wallMs: () => nowMs,
    monotonicMs: () => nowMs,
    passMs: (ms) => {
      nowMs += ms;
    },
  };
}

describe('a shared call', () => {
  it('is made once for all that come while it is under way, and for a time after it', async () => {
    const clock = standingClock();
    let calls = 0;
    const ends: (() => void)[] = [];
    const call = sharedCall(
      async () => {
        calls += 1;
        const mine = calls;
        await new Promise<void>((resolve) => ends.push(resolve));
        return mine;
      },
      { freshMs: 200, clock },
    );
    const all = Array.from({ length: 1000 }, () => call());
    // A call that takes long is shared all that time.
    clock.passMs(10_000);
    all.push(call());
    expect(calls).toBe(1);
    ends.shift()?.();
    expect(new Set(await Promise.all(all))).toEqual(new Set([1]));
    clock.passMs(199);
    expect(await call()).toBe(1);
    clock.passMs(1);
    const next = call();
    ends.shift()?.();
    expect(await next).toBe(2);
    expect(calls).toBe(2);
  });

  it('that fails fails for those that share it, and is made again after that time', async () => {
    const clock = standingClock();
    let calls = 0;
    const call = sharedCall(
      async () => {
        calls += 1;
        await turn();
        if (calls === 1) throw new Error('once');
        return calls;
      },
      { freshMs: 200, clock },
    );
    const outcomes = await Promise.allSettled([call(), call()]);
    outcomes.push(...(await Promise.allSettled([call()])));
    for (const outcome of outcomes)
      expect(outcome).toMatchObject({ status: 'rejected', reason: { message: 'once' } });
    clock.passMs(200);
    expect(await call()).toBe(2);
  });
});
