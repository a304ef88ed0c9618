import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { systemClock } from '../../core/runtime/clock.ts';
import { Elsewhere } from '../../store/feed/elsewhere.ts';
import { removeScratch, scratch } from '../support/harness.ts';

// What a revocation waits for: followers in other processes that confirm what they have applied.

const answersForMs = 400;
/** Beyond what a follower may answer for, and what is added to be sure. */
const longMs = answersForMs + 350;
afterAll(removeScratch);

const fresh = (file: string | null = null) => new Elsewhere({ clock: systemClock, file });
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function timed(act: Promise<void>): Promise<number> {
  const beganMs = performance.now();
  await act;
  return performance.now() - beganMs;
}

/** A follower that has been sent all there was, and has confirmed position 1. */
function live(elsewhere: Elsewhere, key = 'a', stop: () => void = () => undefined) {
  const follower = elsewhere.begin({ key, answersForMs }, true, stop);
  follower.reads();
  follower.sent(1);
  follower.applied({ w: 1 });
  return follower;
}

it('a change is waited for until each follower has confirmed it', async () => {
  const elsewhere = fresh();
  const [a, b] = [live(elsewhere, 'a'), live(elsewhere, 'b')];
  expect(await timed(elsewhere.reached({ w: 1 }))).toBeLessThan(50);
  let isReached = false;
  const reached = elsewhere.reached({ w: 2 }).then(() => {
    isReached = true;
  });
  a.applied({ w: 2 });
  await pause(50);
  expect(isReached).toBe(false);
  b.applied({ w: 3 });
  await reached;
});

it('one that confirms nothing is waited for as long as it may answer, once, however often it connects again', async () => {
  const elsewhere = fresh();
  let follower: ReturnType<typeof live> | undefined;
  follower = live(elsewhere, 'a 1', () => follower?.end());
  const tookMs = await timed(elsewhere.reached({ w: 2 }));
  expect(tookMs).toBeGreaterThan(answersForMs);
  expect(tookMs).toBeLessThan(longMs + 200);
  // The same request may ask several times.
  expect(await timed(elsewhere.reached({ w: 2 }))).toBeLessThan(50);
  // What was sent to it before the connection ended it may still answer by.
  expect(await timed(elsewhere.reached({ w: 3 }))).toBeLessThan(longMs + 200);
  // Again, and by another process of the same client: it is sent no watermark, so that it answers nothing.
  for (const key of ['a 1', 'a 2']) {
    const again = elsewhere.begin({ key, answersForMs }, false, () => undefined);
    again.reads();
    expect(again.sent(1)).toBe(0);
    expect(await timed(elsewhere.reached({ w: 4 }))).toBeLessThan(50);
    again.end();
  }
  // Once it has confirmed what it missed it is one like the others.
  const back = elsewhere.begin({ key: 'a 3', answersForMs }, false, () => undefined);
  back.reads();
  expect(back.sent(1)).toBe(0);
  back.applied({ w: 4 });
  expect(back.sent(1)).toBe(1);
  back.end();
});

it('one that cannot be written into the file is refused, and what it had before still counts', async () => {
  const folder = scratch();
  const file = join(folder, 'followers.json');
  rmSync(folder, { recursive: true });
  const elsewhere = fresh(file);
  expect(() => live(elsewhere)).toThrow('ENOENT');
  expect(elsewhere.mayAnswer).toBe(false);
  mkdirSync(folder);
  live(elsewhere);
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({ a: answersForMs });
});

it('one whose connection has ended is waited for until it may answer no more', async () => {
  const elsewhere = fresh();
  live(elsewhere).end();
  expect(elsewhere.mayAnswer).toBe(true);
  expect(await timed(elsewhere.reached({ w: 2 }))).toBeGreaterThan(answersForMs - 50);
  await pause(20);
  expect(elsewhere.mayAnswer).toBe(false);
});

it('one that connects again is known by where it stands then', async () => {
  const elsewhere = fresh();
  live(elsewhere).end();
  const again = elsewhere.begin({ key: 'a', answersForMs }, true, () => undefined);
  again.reads();
  again.applied({ w: 2 });
  again.sent(1);
  expect(await timed(elsewhere.reached({ w: 2 }))).toBeLessThan(50);
});

it('one that has nothing yet, and one that catches up for long, hold up nothing', async () => {
  const elsewhere = fresh();
  const fromNothing = elsewhere.begin({ key: 'a', answersForMs }, false, () => undefined);
  let stopped = 0;
  const behind = elsewhere.begin({ key: 'b', answersForMs }, true, () => {
    stopped += 1;
  });
  for (const follower of [fromNothing, behind]) {
    follower.reads();
    follower.sent(0);
  }
  await pause(longMs);
  expect(await timed(elsewhere.reached({ w: 9 }))).toBeLessThan(50);
  expect(await elsewhere.least()).toBeUndefined();
  expect(stopped).toBe(0);
});

it('what is being read for one that catches up is waited for: it may be complete, and lack what was committed since', async () => {
  const elsewhere = fresh();
  const follower = elsewhere.begin({ key: 'a', answersForMs }, false, () => undefined);
  follower.reads();
  let isReached = false;
  const reached = elsewhere.reached({ w: 2 }).then(() => {
    isReached = true;
  });
  await pause(50);
  expect(isReached).toBe(false);
  follower.sent(1);
  await pause(50);
  expect(isReached).toBe(false);
  follower.applied({ w: 2 });
  await reached;
});

it('after a restart those that were connected are waited for until they are here again, or may answer no more', async () => {
  const file = join(scratch(), 'followers.json');
  live(fresh(file));
  expect(existsSync(file)).toBe(true);
  const after = fresh(file);
  expect(await after.least()).toEqual({});
  expect(await timed(after.reached({ w: 2 }))).toBeGreaterThan(answersForMs - 50);
  const again = fresh(file);
  setTimeout(() => live(again).applied({ w: 2 }), 50);
  expect(await timed(again.reached({ w: 2 }))).toBeLessThan(answersForMs);
  // Those that are gone are forgotten, on the disk too.
  const gone = fresh(file);
  await pause(longMs);
  expect(gone.mayAnswer).toBe(false);
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({});
});

it('a file that is damaged is named, with what to do', () => {
  const file = join(scratch(), 'followers.json');
  writeFileSync(file, '{"a":');
  expect(() => fresh(file)).toThrow(`${file} is damaged: delete it`);
});

it('no more followers are known than 1024, and 16 of one client', () => {
  const elsewhere = fresh();
  for (let i = 0; i < 16; i += 1) live(elsewhere, `client ${i}`);
  expect(() => live(elsewhere, 'client 16')).toThrow(/16 followers of this client are known/);
  live(elsewhere, 'client 7');
  for (let i = 0; i < 1008; i += 1) live(elsewhere, `f${i} 0`);
  expect(() => live(elsewhere, 'another 0')).toThrow(/1024 followers are known/);
});

it('no revocation fails where the file cannot be written any more', async () => {
  const folder = scratch();
  const failed: string[] = [];
  const file = join(folder, 'followers.json');
  const elsewhere = new Elsewhere({
    ...{ clock: systemClock, file },
    failed: ({ message }) => void failed.push(message),
  });
  live(elsewhere).end();
  rmSync(folder, { recursive: true });
  await pause(longMs);
  await elsewhere.reached({ w: 9 });
  expect(failed).toEqual([expect.stringContaining('ENOENT')]);
});

it('a follower that names ever other writers takes no more memory for it', async () => {
  const elsewhere = fresh();
  const follower = live(elsewhere);
  for (let i = 0; i < 1000; i += 1) follower.applied({ [`w${i}`]: 1 });
  expect(Object.keys((await elsewhere.least()) ?? {})).toEqual(['w999']);
});

it('all that may answer are as far as the one that is least far', async () => {
  const elsewhere = fresh();
  live(elsewhere, 'a').applied({ w: 7, v: 2 });
  live(elsewhere, 'b').applied({ w: 3, v: 9 });
  expect(await elsewhere.least()).toEqual({ w: 3, v: 2 });
});
