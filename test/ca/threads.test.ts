import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import {
  issueCard,
  issuePhone,
  removeScratch,
  startTestService,
  type TestService,
} from '../support/harness.ts';

afterAll(removeScratch);

let service: TestService | undefined;
afterEach(async () => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  await service?.close();
});

describe('the thread that answers', () => {
  it('never waits for a disk: not to issue, not to revoke, not to tell followers, not to renew claims', async () => {
    service = await startTestService();
    const waits = [vi.spyOn(fs, 'fsyncSync'), vi.spyOn(fs, 'fdatasyncSync')];
    syncBuiltinESMExports();
    const holder = await issueCard(service.api);
    await issuePhone(service.api, holder);
    await service.api.post('/events', { event: 'card-lost', cardId: holder.cardId });
    // A claim on the published folder is renewed every few seconds.
    await new Promise((done) => setTimeout(done, 6000));
    expect(waits.flatMap(({ mock }) => mock.calls)).toEqual([]);
    // The spies are what modules call.
    const { createDurably } = await import('../../core/runtime/durable-file.ts');
    createDurably(`${service.folder}/spied`, '');
    expect(waits[0]?.mock.calls.length).toBeGreaterThan(0);
  });
});
