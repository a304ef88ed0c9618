import { describe, expect, it } from 'vitest';
import { timeOfUuid } from '../../core/runtime/uuid.ts';
import { idSource, newSeed } from '../../store/engine/ids.ts';

describe('the ids of a command', () => {
  it('are the same, in the same order, each time that it is decided', () => {
    const seed = newSeed();
    const [first, again, other] = [idSource(seed), idSource(seed), idSource(newSeed())];
    const drawn = [first(5), first(5), first(7)];
    expect([again(5), again(5), again(7)]).toEqual(drawn);
    expect(other(5)).not.toBe(drawn[0]);
    expect(drawn.map(timeOfUuid)).toEqual([5, 5, 7]);
  });

  it('differ, however many a command draws', () => {
    const draw = idSource(newSeed());
    const count = 70_000;
    expect(new Set(Array.from({ length: count }, () => draw(1))).size).toBe(count);
  });
});
