import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Changed, Issued } from '../../ca/client/client.ts';
import { parseConfig } from '../../ca/config/config.ts';
import { cardRequest, makeChipKey } from '../support/actors.ts';
import { removeScratch, startTestService, type TestService } from '../support/harness.ts';
import { expectRefusal, Person } from '../support/holder-rules.ts';

// docs/EVENTS.md has each event of the table, with an example that runs.

const document = readFileSync(new URL('../../docs/EVENTS.md', import.meta.url), 'utf8');
const { policy } = parseConfig({});
const sections = document
  .split(/^### /m)
  .slice(1)
  .map((text) => ({ event: text.slice(0, text.indexOf('\n')), text }));

describe('the document of events', () => {
  let test: TestService;
  let holder: Partial<Person>;
  beforeAll(async () => {
    test = await startTestService();
    const person = Object.assign(new Person(test, 'pseudonym-4711'), { cardId: 'card-0001' });
    const { status } = await person.atDesk({ cardExpiresOn: person.day(60) });
    expect(status).toBe(201);
    const { card, cardSigning, cardId } = person;
    holder = { card, cardSigning, cardId };
    expect((await person.enrol('phone-0001')).status).toBe(201);
  });
  afterAll(async () => {
    await test.close();
    removeScratch();
  });

  it('has every event of the table, in its order, with when, what and what never', () => {
    expect(sections.map(({ event }) => event)).toEqual(Object.keys(policy.events));
    for (const { text } of sections)
      for (const word of ['When', 'Does', 'Never']) expect(text).toContain(`*${word}*:`);
  });

  it.each(sections)('has an example of $event that runs', async ({ event, text }) => {
    if (text.includes('POST /v1/phone-certificates')) {
      // Signed by the card, and refused: the phone's certificates end with the card's.
      const person = Object.assign(new Person(test, 'pseudonym-4711'), holder);
      expectRefusal(await person.enrol('phone-0001', 'renew-phone'), 409, 'not-due');
      return;
    }
    const sample = JSON.parse(/```json event\n([\s\S]*?)```/.exec(text)?.[1] ?? '') as { event: string };
    expect(sample.event).toBe(event);
    if (text.includes('POST /v1/card-certificates')) {
      const keys = { signing: await makeChipKey(), authentication: await makeChipKey() };
      const cardExpiresOn = new Person(test).day(60);
      const common = { holderId: 'pseudonym-4711', cardExpiresOn };
      const request = cardRequest(keys, { ...common, ...sample, dryRun: true });
      const answer = await test.api.post<Issued>('/card-certificates', request);
      expect(answer.status, JSON.stringify(answer.body)).toBe(200);
      return;
    }
    const answer = await test.api.post<Changed>('/events', { ...sample, dryRun: true });
    expect(answer.status, JSON.stringify(answer.body)).toBe(200);
  });
});
