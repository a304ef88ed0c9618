import { describe, expect, it } from 'vitest';
import { Progress, progressBar } from '../../core/runtime/progress.ts';

/** What a long command has written, on a terminal or not. */
function shown(isTTY: boolean) {
  let nowMs = 0;
  const advance = (ms: number): void => {
    nowMs += ms;
  };
  const clock = { monotonicMs: () => nowMs, advance };
  const written: string[] = [];
  const out = { isTTY, write: (text: string) => written.push(text) > 0 };
  return { clock, bar: new Progress(out, clock), text: () => written.join('') };
}

describe('progress of a long command', () => {
  it('is a bar with a rate and what is left; a count where the end is not known', () => {
    expect(progressBar(15, 30, 99.6)).toBe(
      '[###############...............] 15 of 30, 100 a second, 1 s left',
    );
    expect(progressBar(15, undefined, 3)).toBe('15, 3 a second');
    expect(progressBar(0, 0, 0)).toBe(`[${'#'.repeat(30)}] 0 of 0, 0 a second`);
    expect(progressBar(31, 30, 0)).toContain(`[${'#'.repeat(30)}]`);
  });

  it('is drawn over itself on a terminal, five times a second at most, to its end', () => {
    const { clock, bar, text } = shown(true);
    const tell = bar.of('rows');
    for (let done = 0; done <= 1000; done += 1) {
      tell(done, 1000);
      clock.advance(1);
    }
    bar.end();
    const lines = text().split('\r').slice(1);
    expect(lines).toHaveLength(5);
    expect(lines.at(-1)).toMatch(/^rows \[#{30}\] 1000 of 1000, 1000 a second.*\n$/s);
  });

  it('is a line each half minute in a log, and nothing of what is short', () => {
    const { clock, bar, text } = shown(false);
    const tell = bar.of('rows');
    for (let second = 0; second < 65; second++) {
      tell(second, 100);
      clock.advance(1000);
    }
    bar.end();
    expect(text().trim().split('\n')).toHaveLength(2);
    const short = shown(false);
    short.bar.of('rows')(1, 1);
    short.bar.end();
    expect(short.text()).toBe('');
  });
});
