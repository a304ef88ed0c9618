import { describe, expect, it } from 'vitest';
import { sharedCall } from '../../core/runtime/shared-call.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('a shared call', () => {
  it('gives each caller the outcome of a call that began after it came, and makes no more calls than that needs', async () => {
    let calls = 0;
    const ends: (() => void)[] = [];
    const call = sharedCall(async () => {
      calls += 1;
      const mine = calls;
      await new Promise<void>((resolve) => ends.push(resolve));
      return mine;
    });
    const first = call();
    const waiting = Array.from({ length: 1000 }, () => call());
    await turn();
    expect(calls).toBe(1);
    ends.shift()?.();
    expect(await first).toBe(1);
    await turn();
    expect(calls).toBe(2);
    const later = call();
    ends.shift()?.();
    expect(new Set(await Promise.all(waiting))).toEqual(new Set([2]));
    await turn();
    ends.shift()?.();
    expect(await later).toBe(3);
    expect(calls).toBe(3);
  });

  it('that fails fails for those that share it, and for no one else', async () => {
    let calls = 0;
    const call = sharedCall(async () => {
      calls += 1;
      await turn();
      if (calls === 1) throw new Error('once');
      return calls;
    });
    const [failed, shared] = await Promise.allSettled([call(), call()]);
    expect(failed).toMatchObject({ status: 'rejected', reason: { message: 'once' } });
    expect(shared).toEqual({ status: 'fulfilled', value: 2 });
    expect(await call()).toBe(3);
  });
});
