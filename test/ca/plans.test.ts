import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Answer, CaClient, Changed, Issued } from '../../ca/client/client.ts';
import { parseConfig } from '../../ca/config/config.ts';
import { addClient, removeScratch, startTestService, type TestService } from '../support/harness.ts';
import { expectRefusal, Person } from '../support/holder-rules.ts';

// For each event, in each state of a holder, alone or with an issuance: what is done is what the plan said, or it is 409.

const { policy } = parseConfig({});

/** How a holder may stand when something happens. */
const states: Readonly<Record<string, (person: Person) => Promise<unknown>>> = {
  'card and phone': async () => undefined,
  'card lost': (person) => person.report({ event: 'card-lost', cardId: person.cardId }),
  'phone lost': (person) => person.report({ event: 'phone-lost', deviceId: `${person.holderId}-p` }),
  'moved, and not issued to': (person) => person.report({ event: 'moved', holderId: person.holderId }),
  'a new card on its way': (person) => exchange(person, 'card-exchanged'),
  'a new phone on its way': (person) =>
    person.enrol(`${person.holderId}-p2`, 'change-phone', { replaces: `${person.holderId}-p` }),
  'card returned': (person) => person.report({ event: 'card-returned', cardId: person.cardId }),
};

async function exchange(person: Person, event: string): Promise<void> {
  const [old, keys] = [person.cardId, [person.cardSigning, person.card] as const];
  await person.atDesk({ ...soon(person), cardId: `${old}-2`, replacesCardId: old, event });
  [person.cardSigning, person.card] = keys;
  person.cardId = old;
}

/** The card ends soon, so that its renewal is open. */
const soon = (person: Person): Record<string, unknown> => ({ cardExpiresOn: person.day(60) });

type Standing = Map<string, string>;

async function standing(person: Person): Promise<Standing> {
  const { certificates } = await person.shown();
  return new Map(certificates.map(({ serialNumber, status }) => [serialNumber, JSON.stringify(status)]));
}

/** What a plan says that certificates become: what it does not name stays. */
function foreseen(before: Standing, plan: Changed): Standing {
  const after = new Map(before);
  for (const { serialNumber, to } of plan.changes) after.set(serialNumber, JSON.stringify(to));
  return after;
}

/** The same but for the times at which something ceased: a plan is made before it is carried out. */
const timeless = (of: Standing, within: Standing): [string, string][] =>
  [...of]
    .filter(([serialNumber]) => within.has(serialNumber))
    .map(([serialNumber, status]): [string, string] => [
      serialNumber,
      JSON.stringify({ ...JSON.parse(status), revokedAt: null }),
    ]);

afterAll(removeScratch);

const onTheirWay = ['card and phone', 'a new card on its way', 'a new phone on its way'];

describe.each([
  ['at once', { card: 'at-once', phone: 'at-once' }, Object.keys(states)],
  ['on arrival', { card: 'when-delivered', phone: 'when-stored' }, onTheirWay],
])('a plan, where what is new is good %s', (_when, activation, stated) => {
  let test: TestService;
  let tsm: CaClient;
  beforeAll(async () => {
    const notices = { tsm: 'http://127.0.0.1:9/orders' };
    test = await startTestService({ overrides: { activation, notices } });
    tsm = (await addClient(test, 'sp-tsm', { roles: ['tsm'] })).client;
  });
  afterAll(async () => {
    await tsm.close();
    await test.close();
  });

  async function inState(state: string): Promise<Person> {
    const person = new Person(test);
    await person.atDesk(soon(person));
    await person.enrolStored(tsm, `${person.holderId}-p`);
    await states[state]?.(person);
    return person;
  }

  /** Asks for the plan, has it carried out, and compares what there is then with what was foreseen. */
  async function compare(
    person: Person,
    act: (manner: object) => Promise<Answer<unknown>>,
    isAwaited = false,
  ): Promise<'done' | 'refused'> {
    const before = await standing(person);
    const plan = (await act({ dryRun: true })) as Answer<Changed>;
    expect(await standing(person)).toEqual(before);
    const done = await act(plan.status === 200 ? { planHash: plan.body.planHash } : {});
    if (done.status >= 400) {
      expect([400, 409], JSON.stringify(done.body)).toContain(done.status);
      expect(plan.status === done.status || done.status === 409).toBe(true);
      expect(await standing(person)).toEqual(before);
      return 'refused';
    }
    expect(plan.status, JSON.stringify(plan.body)).toBe(200);
    const after = await standing(person);
    // What waits for its arrival ends nothing yet.
    const expected = isAwaited ? before : foreseen(before, plan.body);
    expect(timeless(after, before)).toEqual(timeless(expected, before));
    return 'done';
  }

  it.each(stated)(
    'is what happens, for every event, in the state: %s',
    async (state) => {
      const results = new Map<string, string>();
      for (const [event, { target, lastDay }] of Object.entries(policy.events)) {
        const person = await inState(state);
        const on =
          target === 'holder'
            ? { holderId: person.holderId }
            : target === 'card'
              ? { cardId: state === 'a new card on its way' ? `${person.cardId}-2` : person.cardId }
              : { deviceId: `${person.holderId}-p` };
        const moves = lastDay === 'moves' ? { cardExpiresOn: person.day(40) } : {};
        results.set(
          event,
          await compare(person, (manner) => person.report({ event, ...on, ...moves, ...manner })),
        );
      }
      expect([...results.values()].filter((result) => result === 'done').length).toBeGreaterThan(20);
    },
    60_000,
  );

  it.each(stated)(
    'is what happens, for every issuance with an event, in the state: %s',
    async (state) => {
      let done = 0;
      for (const [event, { reissue, target }] of Object.entries(policy.events)) {
        if (reissue.length === 0 || target === 'phone') continue;
        for (const isNew of [false, true]) {
          const person = await inState(state);
          const old = person.cardId;
          const card = isNew
            ? { cardId: `${old}-n`, ...(target === 'card' ? { replacesCardId: old } : {}) }
            : {};
          const slots = target === 'holder' && !isNew ? (['signing'] as const) : undefined;
          const awaited = isNew && activation.card === 'when-delivered';
          const act = (manner: object) =>
            person.atDesk({ ...soon(person), ...card, event, ...manner }, slots);
          if ((await compare(person, act as never, awaited)) === 'done') done += 1;
        }
      }
      if (state === 'card and phone') expect(done).toBeGreaterThanOrEqual(10);
    },
    60_000,
  );

  it.each(['change-phone', 'renew-phone'] as const)(
    'is what happens when a phone asks for %s',
    async (operation) => {
      for (const state of stated) {
        const person = await inState(state);
        const deviceId = `${person.holderId}-p`;
        const next = operation === 'change-phone' ? `${deviceId}-n` : deviceId;
        const replaces = operation === 'change-phone' ? { replaces: deviceId } : {};
        const act = (manner: object) => person.enrol(next, operation, { ...replaces, request: manner });
        await compare(
          person,
          act as (manner: object) => Promise<Answer<Issued>>,
          activation.phone === 'when-stored',
        );
      }
    },
    60_000,
  );

  it('that is not the present one any more is refused with 409, and nothing is issued', async () => {
    const person = await inState('card and phone');
    const old = person.cardId;
    const exchanged = { ...soon(person), cardId: `${old}-2`, replacesCardId: old, event: 'card-exchanged' };
    const plan = (await person.atDesk({ ...exchanged, dryRun: true })) as unknown as Answer<Changed>;
    expect(plan.body).toMatchObject({ dryRun: true });
    await person.report({ event: 'phone-given-up', deviceId: `${person.holderId}-p` });
    const late = await person.atDesk({ ...exchanged, planHash: plan.body.planHash });
    expectRefusal(late, 409, 'plan-changed');
    expect(await person.onCard(`${old}-2`)).toEqual([]);
    const without = await person.atDesk({ ...soon(person), dryRun: true });
    expectRefusal(without, 400, 'bad-request', /nothing ends without an event/);
  });
});
