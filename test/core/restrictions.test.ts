import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DeviceClassEvent, RestrictionEvent } from '../../core/feed/feed.ts';
import { RestrictedClasses } from '../../core/feed/restricted-classes.ts';
import { type DeviceClass, deviceClassName, deviceClassText } from '../../core/model/device.ts';
import {
  classStatus,
  effectiveStatus,
  ownStatus,
  type RestrictionFacts,
} from '../../core/model/restriction.ts';
import { goodStatus, type RecordedStatus } from '../../core/model/revocation.ts';

// What restrictions make of a certificate: one pure function, by which record, OCSP and CRL agree.

const match = {
  platform: 'android',
  models: null,
  secureElements: null,
  osVersionFrom: null,
  osVersionTo: null,
  patchLevelBefore: null,
};
const phone: DeviceClass = {
  platform: 'android',
  model: 'A',
  isModelUnknown: false,
  osVersion: '16',
  secureElement: 'S',
  patchLevel: '2026-01',
  appletVersion: null,
  appVersion: null,
  sinceMs: null,
  cohort: 0,
};
const restriction = (over: Partial<RestrictionFacts>): RestrictionFacts => ({
  restrictionId: 'r1',
  version: 1,
  match,
  heldMs: 1000,
  endedMs: null,
  revokedMs: null,
  reason: null,
  lastCohort: null,
  ...over,
});
const held: RecordedStatus = {
  state: 'held',
  reason: 'certificateHold',
  revokedMs: 500,
  invalidityMs: null,
  heldBy: ['event:phone-lost'],
};

describe('a class of phones', () => {
  it('is held since the earliest of the restrictions that match and have not ended', () => {
    const [first, second] = [
      restriction({ restrictionId: 'a', heldMs: 2000 }),
      restriction({ restrictionId: 'b', heldMs: 3000 }),
    ];
    const over = restriction({ restrictionId: 'c', heldMs: 1000, endedMs: 1500 });
    const other = restriction({ restrictionId: 'd', heldMs: 10, match: { ...match, models: ['B'] } });
    expect(classStatus(phone, [second, over, other, first])).toEqual({
      state: 'held',
      heldMs: 2000,
      heldBy: ['restriction:a', 'restriction:b'],
    });
    expect(classStatus(phone, [over, other])).toBeUndefined();
  });

  it('is revoked by the first restriction that revokes, with the time of the earliest hold of that moment', () => {
    const early = restriction({ restrictionId: 'early', heldMs: 1000 });
    const revoking = restriction({ restrictionId: 'x', heldMs: 2000, revokedMs: 5000, reason: 'superseded' });
    const later = restriction({ restrictionId: 'y', heldMs: 1, revokedMs: 6000, reason: 'keyCompromise' });
    const revoked = { state: 'revoked', heldMs: 1000, reason: 'superseded', restrictionId: 'x' };
    expect(classStatus(phone, [early, revoking])).toEqual(revoked);
    // What ends afterwards changes nothing of what was published.
    expect(classStatus(phone, [{ ...early, endedMs: 7000 }, revoking])).toEqual(revoked);
    expect(classStatus(phone, [{ ...early, endedMs: 4000 }, revoking])).toEqual({ ...revoked, heldMs: 2000 });
    expect(classStatus(phone, [later, revoking])).toMatchObject({ reason: 'superseded', heldMs: 1 });
  });

  it('of a later cohort is not restricted by a restriction that has revoked and ended', () => {
    const past = restriction({ revokedMs: 2000, endedMs: 3000, lastCohort: 0 });
    expect(classStatus(phone, [past])).toMatchObject({ state: 'revoked' });
    expect(classStatus({ ...phone, cohort: 1 }, [past])).toBeUndefined();
    const names = [0, 1].map((cohort) => deviceClassName(deviceClassText(phone, cohort)));
    expect(new Set(names).size).toBe(2);
    expect(names[0]).toMatch(/^[\w-]{22}$/);
  });
});

describe('a certificate', () => {
  const ofClass = classStatus(phone, [restriction({})]);
  const revoked = classStatus(phone, [restriction({ revokedMs: 2000, reason: 'keyCompromise' })]);

  it('is held by what holds it itself, and by its class, since the earlier of both', () => {
    expect(effectiveStatus(goodStatus, ofClass, 9_000_000)).toMatchObject({ state: 'held', revokedMs: 1000 });
    expect(effectiveStatus(held, ofClass, 9_000_000)).toMatchObject({
      state: 'held',
      revokedMs: 500,
      heldBy: ['event:phone-lost', 'restriction:r1'],
    });
    expect(effectiveStatus(held, revoked, 9_000_000)).toMatchObject({ state: 'revoked', revokedMs: 500 });
    expect(effectiveStatus(goodStatus, undefined, 9_000_000)).toBe(goodStatus);
  });

  it('that was revoked by itself stays as it was', () => {
    const own: RecordedStatus = { ...held, state: 'revoked', reason: 'superseded', heldBy: [] };
    for (const status of [ofClass, revoked]) expect(effectiveStatus(own, status, 9_000_000)).toBe(own);
  });

  it('keeps on record only what holds it itself, since when it does', () => {
    const both = effectiveStatus(goodStatus, ofClass, 9_000_000);
    expect(ownStatus(both, goodStatus, 9000)).toBe(goodStatus);
    const lost: RecordedStatus = { ...held, revokedMs: 1000, heldBy: ['restriction:r1', 'event:phone-lost'] };
    expect(ownStatus(lost, goodStatus, 9000)).toEqual({ ...held, revokedMs: 9000 });
    expect(ownStatus(lost, held, 9000)).toEqual(held);
  });
});

describe('a follower', () => {
  const classes = [0, 1, 2].map((i) => ({ ...phone, model: `M${i}` }));
  const classEvent = (facts: DeviceClass): DeviceClassEvent => ({
    type: 'device-class',
    deviceClass: facts.model ?? '',
    facts,
  });
  const event = fc.record({
    restrictionId: fc.constantFrom('a', 'b'),
    version: fc.integer({ min: 1, max: 4 }),
    models: fc.subarray(['M0', 'M1', 'M2'], { minLength: 1 }),
    action: fc.constantFrom('hold', 'revoke', 'end'),
  });

  it('makes the same of events in whatever order they come, and however often', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 8 }), fc.infiniteStream(fc.nat()), (drawn, picks) => {
        // One event for each version: what a version says is never changed.
        const unique = new Map(drawn.map((each) => [`${each.restrictionId}${each.version}`, each]));
        const events: (DeviceClassEvent | RestrictionEvent)[] = [
          ...classes.map(classEvent),
          ...[...unique.values()].map(({ action, models, ...of }): RestrictionEvent => {
            const atMs = of.version * 1000;
            const ends = {
              revokedMs: action === 'revoke' ? atMs : null,
              endedMs: action === 'end' ? atMs : null,
            };
            return { type: 'restriction', ...restriction({ ...of, ...ends, match: { ...match, models } }) };
          }),
        ];
        const shuffled = events
          .flatMap((each) => [each, each])
          .map((each) => ({ each, rank: picks.next().value ?? 0 }))
          .sort((a, b) => a.rank - b.rank)
          .map(({ each }) => each);
        const statuses = (all: readonly (DeviceClassEvent | RestrictionEvent)[]) => {
          const known = new RestrictedClasses();
          for (const each of all) known.learn(each);
          return classes.map(({ model }) => known.statusOf(known.numberOf(model ?? '')));
        };
        expect(statuses(shuffled)).toEqual(statuses(events));
      }),
      { numRuns: 300 },
    );
  });

  it('restricts a class that is made known after its restriction, and says which classes changed', () => {
    const known = new RestrictedClasses();
    const number = known.numberOf('M0');
    expect(known.learn({ type: 'restriction', ...restriction({}) })).toEqual([]);
    expect(known.learn(classEvent(classes[0] as DeviceClass))).toEqual([number]);
    expect(known.statusOf(number)).toMatchObject({ state: 'held' });
    expect(known.learn({ type: 'restriction', ...restriction({ version: 2, endedMs: 3000 }) })).toEqual([
      number,
    ]);
    expect(known.statusOf(number)).toBeUndefined();
    const again = new RestrictedClasses();
    again.restore(known.state);
    expect(again.state).toEqual(known.state);
  });
});
