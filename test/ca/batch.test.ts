import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ChipKey, cardRequest } from '../../bench/actors.ts';
import { KeyFactory } from '../../bench/keys.ts';
import type { BatchAnswer, BatchLine } from '../../ca/client.ts';
import { removeScratch, startTestService, type TestService } from '../harness.ts';

let test: TestService;
const keys = new KeyFactory(20);

beforeAll(async () => {
  test = await startTestService();
});

afterAll(async () => {
  console.log(
    test
      .log()
      .split('\n')
      .filter((l) => l.includes('internal error'))
      .slice(0, 2),
  );
  await test.close();
  removeScratch();
});

let cards = 0;
function line(overrides: object = {}, pair: { signing?: ChipKey; authentication?: ChipKey } = {}): BatchLine {
  cards += 1;
  const chip = { signing: keys.next(), authentication: keys.next(), ...pair };
  const card = cardRequest(chip, { holderId: `batch-${cards}`, cardId: `batch-${cards}`, ...overrides });
  return { idempotencyKey: `line-${cards}`, card: card as BatchLine['card'] };
}

async function answersTo(lines: Iterable<BatchLine>, client = test.api): Promise<BatchAnswer[]> {
  const answers: BatchAnswer[] = [];
  for await (const answer of client.issueToCards(lines)) answers.push(answer);
  return answers.sort((a, b) => a.line - b.line);
}

describe('a batch', () => {
  it('answers each line with the certificates it asked for', async () => {
    const lines = [line(), line(), line()];
    const answers = await answersTo(lines);
    expect(answers.map(({ status, idempotencyKey }) => [status, idempotencyKey])).toEqual(
      lines.map(({ idempotencyKey }) => [201, idempotencyKey]),
    );
    expect(answers[0]?.issued?.certificates.map(({ kind }) => kind)).toEqual([
      'card-signing',
      'card-authentication',
    ]);
    expect(answers[2]?.issued?.holderId).toBe(lines[2]?.card.holderId);
  });
});
