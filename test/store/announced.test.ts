import { expect, it } from 'vitest';
import { systemClock } from '../../core/runtime/clock.ts';
import { type Nodes, onlyNode, type Positions } from '../../store/api/nodes.ts';
import type { RecordDatabase } from '../../store/engine/database.ts';
import { RecordFeed } from '../../store/feed/event-feed.ts';
import { memoryKeyWrapper } from '../support/key-wrapper.ts';
import { MemoryRows } from '../support/memory.ts';

// What a node says of its followers to the other nodes.

it('a node announces what all of its followers have applied, also where one read later than the other', async () => {
  const rows = new MemoryRows();
  rows.insert('meta', { name: 'incarnation', value: 'i' });
  rows.insert('meta', { name: 'writer:other', value: 'other' });
  const database = {
    read: async (body: (reader: MemoryRows) => unknown) => body(rows),
  } as unknown as RecordDatabase;
  const announced: Positions[] = [];
  let isSlow = false;
  const nodes: Nodes = {
    ...onlyNode,
    announce: (_, applied) => announced.push(applied),
    completeUntil: async (nowMs) => {
      // The first follower reads when the second has read, and another node has written in between.
      if (isSlow) {
        isSlow = false;
        await new Promise((resolve) => setTimeout(resolve, 50));
        rows.insert('event', { writer: 'other', position: 1, body: '[]' });
      }
      return nowMs;
    },
  };
  const feed = new RecordFeed({ database, keyWrapper: memoryKeyWrapper(), clock: systemClock, nodes });
  const { signal } = new AbortController();
  for (let follower = 0; follower < 2; follower += 1)
    await feed.follow({ apply: () => undefined }, undefined, signal);
  isSlow = true;
  await feed.deliver();
  expect(announced.at(-1)).toEqual({ other: 0 });
  await feed.deliver();
  expect(announced.at(-1)).toEqual({ other: 1 });
});
