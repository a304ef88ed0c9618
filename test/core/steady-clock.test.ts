import { describe, expect, it } from 'vitest';
import type { Clock } from '../../core/runtime/clock.ts';
import { SteadyClock } from '../../core/runtime/steady-clock.ts';

const hourMs = 3_600_000;

/** A machine's clocks, each set by hand. */
class Machine implements Clock {
  wall = 1_000_000 * hourMs;
  monotonic = 0;
  sleptMs = 0;
  hasUptime = true;
  wallMs = (): number => this.wall;
  monotonicMs = (): number => this.monotonic;
  upMs = (): number | undefined => (this.hasUptime ? this.monotonic + this.sleptMs : undefined);

  pass(ms: number): void {
    this.wall += ms;
    this.monotonic += ms;
  }
}

function begun(floorMs = 0, startStepMaxMs = Number.POSITIVE_INFINITY) {
  const machine = new Machine();
  const clock = new SteadyClock(machine);
  return { machine, clock, news: clock.begin(floorMs, startStepMaxMs) };
}

describe('a steady clock', () => {
  it('is the machine’s as long as that agrees with the monotonic one', () => {
    const { machine, clock } = begun();
    for (const ms of [0, 10, hourMs, 100 * hourMs]) {
      machine.pass(ms);
      expect(clock.wallMs()).toBe(machine.wall);
      expect(clock.whyUnreliable()).toBeUndefined();
    }
    machine.wall += 3000;
    expect(clock.wallMs()).toBe(machine.wall);
    machine.wall -= 2000;
    expect(clock.wallMs()).toBe(machine.wall + 2000);
    expect(clock.whyUnreliable()).toBeUndefined();
  });

  it.each([
    ['ahead', hourMs, /stepped 3600 s ahead while the service ran/],
    ['back', -hourMs, /3600 s behind what is on record/],
  ])(
    'goes on by the monotonic clock where the machine’s steps %s, until it is right',
    (_what, stepMs, why) => {
      const { machine, clock } = begun();
      const before = clock.wallMs();
      machine.wall += stepMs;
      expect(clock.wallMs()).toBe(before);
      expect(clock.whyUnreliable()).toMatch(why);
      expect(clock.news()).toMatchObject({ level: 'error' });
      machine.pass(hourMs / 2);
      expect(clock.wallMs()).toBe(before + hourMs / 2);
      expect(clock.news()).toBeUndefined();
      machine.wall -= stepMs;
      expect(clock.whyUnreliable()).toBeUndefined();
      expect(clock.wallMs()).toBe(machine.wall);
      expect(clock.news()).toMatchObject({ level: 'warn', message: 'the clock is right again' });
    },
  );

  it('never goes back, whatever the machine’s does', () => {
    const { machine, clock } = begun();
    let last = clock.wallMs();
    for (let turn = 0; turn < 1000; turn += 1) {
      machine.wall += Math.round((Math.random() - 0.5) * 10 * hourMs);
      machine.pass(Math.round(Math.random() * 1000));
      const now = clock.wallMs();
      expect(now).toBeGreaterThanOrEqual(last);
      // It gains no more than what the monotonic clock and slewing allow.
      expect(now - last).toBeLessThanOrEqual(1000 + 5000 + 1000);
      last = now;
    }
  });

  it('cannot be led ahead by many small steps', () => {
    const { machine, clock } = begun();
    const start = clock.wallMs();
    for (let turn = 0; turn < 1000; turn += 1) {
      machine.wall += 4000;
      machine.pass(1000);
      clock.wallMs();
    }
    expect(clock.wallMs() - start).toBeLessThan(1000 * 1000 * 1.001 + 5000 + 1000);
    expect(clock.whyUnreliable()).toMatch(/ahead/);
  });

  it('believes a machine that slept, where the kernel says so', () => {
    const { machine, clock } = begun();
    machine.wall += 10 * hourMs;
    machine.sleptMs += 10 * hourMs;
    expect(clock.wallMs()).toBe(machine.wall);
    expect(clock.whyUnreliable()).toBeUndefined();
    machine.hasUptime = false;
    machine.wall += 10 * hourMs;
    expect(clock.whyUnreliable()).toMatch(/ahead/);
  });

  it('begins no earlier than the highest time on record, and waits for a clock that is behind', () => {
    const machine = new Machine();
    const floor = machine.wall + hourMs;
    const clock = new SteadyClock(machine);
    expect(clock.begin(floor, Number.POSITIVE_INFINITY)).toBeUndefined();
    expect(clock.wallMs()).toBe(floor);
    expect(clock.whyUnreliable()).toMatch(/3600 s behind/);
    machine.pass(1000);
    expect(clock.wallMs()).toBe(floor + 1000);
    // Set right while running: as at the start.
    machine.wall += 5 * hourMs;
    expect(clock.whyUnreliable()).toBeUndefined();
    expect(clock.wallMs()).toBe(machine.wall);
  });

  it('believes any later time at the start, and says how long it was away', () => {
    const machine = new Machine();
    const clock = new SteadyClock(machine);
    expect(clock.begin(machine.wall - 1000 * hourMs, Number.POSITIVE_INFINITY)).toMatchObject({
      level: 'warn',
      message: expect.stringMatching(/60000 min ago/),
    });
    expect(clock.wallMs()).toBe(machine.wall);
    expect(clock.whyUnreliable()).toBeUndefined();
  });

  it('issues nothing after a start beyond the limit, and binds the record to nothing', () => {
    const machine = new Machine();
    const floor = machine.wall - 1000 * hourMs;
    const clock = new SteadyClock(machine);
    clock.begin(floor, 24 * hourMs);
    expect(clock.wallMs()).toBe(floor);
    expect(clock.whyUnreliable()).toMatch(/beyond clock.startStepMax/);
    machine.wall -= 990 * hourMs;
    expect(clock.whyUnreliable()).toBeUndefined();
  });

  it('is taken back to the machine’s, and as it was where that fails', () => {
    const machine = new Machine();
    const clock = new SteadyClock(machine);
    const floor = machine.wall + hourMs;
    clock.begin(floor, Number.POSITIVE_INFINITY);
    const undo = clock.takeBack();
    expect(clock.wallMs()).toBe(machine.wall);
    undo();
    expect(clock.wallMs()).toBe(floor);
    expect(clock.whyUnreliable()).toMatch(/behind/);
    clock.takeBack();
    expect(clock.wallMs()).toBe(machine.wall);
    expect(clock.whyUnreliable()).toBeUndefined();
    machine.pass(hourMs);
    expect(clock.wallMs()).toBe(machine.wall);
  });
});
