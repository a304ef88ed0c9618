import fc from 'fast-check';
import { afterAll, expect, it } from 'vitest';
import { removeScratch, scratch } from '../support/harness.ts';
import {
  type Certificate,
  combined,
  dayMs,
  hourMs,
  Press,
  type ReadCrl,
  readCrl,
  relyOn,
} from '../support/press.ts';

afterAll(removeScratch);

type Step =
  | { readonly do: 'issue'; readonly kind: string; readonly lifeHours: number }
  | { readonly do: 'revoked' | 'held' | 'good'; readonly which: number }
  | { readonly do: 'wait'; readonly hours: number }
  | { readonly do: 'restrict'; readonly model: string; readonly action: 'hold' | 'end' | 'revoke' }
  | { readonly do: 'restart' | 'generation' }
  | { readonly do: 'crash'; readonly what: 'state' | 'state and delta' };

const which = fc.nat(30);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('issue' as const),
      kind: fc.constantFrom('card-signing', 'phone-signing'),
      lifeHours: fc.constantFrom(20, 30, 60, 24 * 365),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('revoked' as const), which }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('held' as const), which }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('good' as const), which }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('wait' as const), hours: fc.constantFrom(0.3, 5, 13, 25, -2) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('restrict' as const),
      model: fc.constantFrom('M0', 'M1'),
      action: fc.constantFrom(
        'hold' as const,
        'end' as const,
        'hold' as const,
        'end' as const,
        'revoke' as const,
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('crash' as const),
      what: fc.constantFrom('state' as const, 'state and delta' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('restart' as const, 'generation' as const) }) },
);

/** What relying parties have fetched over time, by the shard's path. */
class Archive {
  readonly completes = new Map<string, ReadCrl[]>();
  readonly scheduled = new Map<string, ReadCrl[]>();

  /** Looks at everything that is published, and holds it against everything that was. */
  inspect(press: Press): void {
    for (const { path, base } of press.folder.all()) {
      const complete = readCrl(press.fetch(`http://x/${path}`) ?? new Uint8Array());
      const delta = readCrl(
        press.fetch(`http://x/${path.replace('.crl', '-delta.crl')}`) ?? new Uint8Array(),
      );
      const earlier = this.completes.get(path) ?? [];
      this.completes.set(path, earlier);
      const last = earlier.at(-1);
      if (last?.number !== complete.number) {
        if (last) expect(complete.number).toBeGreaterThan(last.number);
        earlier.push(complete);
        if (BigInt(base.number) === complete.number) {
          this.scheduled.set(path, [...(this.scheduled.get(path) ?? []), complete]);
        }
      } else expect(Buffer.from(complete.der).equals(last.der)).toBe(true);
      // Anyone who has a complete CRL that is not older than the delta's base comes to the same list by the delta.
      const full = press.onEvent === 'event' ? complete : undefined;
      const lists = earlier
        .filter(({ number }) => number >= (delta.baseNumber ?? 0n) && number <= delta.number)
        .map((each) => [...combined(each, delta)].sort());
      for (const list of lists) expect(list).toEqual(lists[0]);
      if (full && delta.number === full.number) expect(lists[0]).toEqual([...full.entries].sort());
    }
  }

  /** Whether a certificate has stood on a scheduled CRL that was issued after its end (RFC 5280 §3.3). */
  hasBeenShown({ shard, serial, notAfterMs }: Certificate): boolean {
    return (this.scheduled.get(`crl/${shard}.crl`) ?? []).some(
      ({ entries, thisUpdateMs }) =>
        thisUpdateMs > notAfterMs && entries.has(Buffer.from(serial).toString('hex')),
    );
  }
}

async function take(press: Press, generations: { newest: number }, action: Step): Promise<void> {
  if (action.do === 'crash') return;
  if (action.do === 'issue') await press.issue(generations.newest, action.kind, action.lifeHours * hourMs);
  else if (action.do === 'restrict') await press.restrict(action.model, action.action);
  else if (action.do === 'wait') {
    press.nowMs += action.hours * hourMs;
    await press.apply([]);
  } else if (action.do === 'restart') press.restart();
  else if (action.do === 'generation') {
    generations.newest += 1;
    await press.openGeneration(generations.newest);
  } else if ('which' in action) {
    const certificate = press.certificates[action.which % Math.max(1, press.certificates.length)];
    if (certificate) await press.change(certificate, action.do, 'affiliationChanged');
  }
}

/** What holds of a certificate, by itself and by the restrictions of its phone’s model. */
function reasonOf({ restrictions }: Press, { model, state, reason, notAfterMs }: Certificate): string | null {
  if (state === 'revoked') return reason;
  const about = restrictions.filter(
    ({ match, heldMs, endedMs }) => match.models?.[0] === model && heldMs <= notAfterMs && endedMs === null,
  );
  if (about.some(({ revokedMs }) => revokedMs !== null)) return 'affiliationChanged';
  return state === 'held' || about.length > 0 ? 'certificateHold' : null;
}

const reasonNumbers = { certificateHold: 6, affiliationChanged: 3 } as const;

it.each(['event', 'event-delta'] as const)(
  'through any history a client that follows a certificate’s own distribution point learns what holds of it, and base and delta make the complete list (%s)',
  async (onEvent) => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async (steps) => {
        const press = new Press({ folder: scratch(), onEvent });
        const generations = { newest: 1 };
        const archive = new Archive();
        try {
          await press.openGeneration(1);
          for (const action of steps) {
            await take(press, generations, action);
            if (action.do === 'crash') await press.publishAndCrash(action.what);
            else await press.publish();
            for (const { type } of press.results) expect(['published', 'unchanged']).toContain(type);
            archive.inspect(press);
            for (const certificate of press.certificates) {
              const { notAfterMs } = certificate;
              const reason = reasonOf(press, certificate);
              const found = relyOn(certificate, (uri) => press.fetch(uri), press.nowMs);
              if (reason === null) expect(found).toBeNull();
              else if (found === null) {
                expect(notAfterMs).toBeLessThan(press.nowMs);
                expect(archive.hasBeenShown(certificate)).toBe(true);
              } else expect(found).toBe(reasonNumbers[reason as keyof typeof reasonNumbers]);
            }
          }
        } finally {
          press.close();
        }
      }),
      { numRuns: 25 },
    );
  },
  120_000,
);

it('a relying party that has a complete CRL between two equal holds learns the second from the delta, also after a crash (RFC 5280 §5.2.4)', async () => {
  for (const crash of [undefined, 'state', 'state and delta'] as const) {
    const press = new Press({ folder: scratch() });
    const archive = new Archive();
    await press.openGeneration(1);
    await press.issue(1, 'phone-signing', 60 * hourMs);
    await press.restrict('M0', 'hold');
    const phone = await press.issue(1, 'phone-signing', 60 * hourMs);
    await press.publish();
    archive.inspect(press);
    await press.restrict('M0', 'end');
    if (crash) await press.publishAndCrash(crash);
    else await press.publish();
    archive.inspect(press);
    // Within the same second: the entry is the base’s, octet for octet.
    await press.change(phone, 'held');
    await press.publish();
    archive.inspect(press);
    expect(relyOn(phone, (uri) => press.fetch(uri), press.nowMs)).toBe(reasonNumbers.certificateHold);
    press.close();
  }
});

it('an entry leaves with the second scheduled CRL after the end of its certificate, and not before (RFC 5280 §3.3)', async () => {
  const press = new Press({ folder: scratch() });
  await press.openGeneration(1);
  const certificate = await press.issue(1, 'card-signing', 30 * hourMs);
  await press.change(certificate, 'revoked');
  const seen: boolean[] = [];
  for (let day = 0; day <= 4; day++) {
    await press.publish();
    seen.push(relyOn(certificate, (uri) => press.fetch(uri), press.nowMs) !== null);
    press.nowMs += dayMs;
    await press.apply([]);
  }
  // It ends within the second day: the third day's CRL shows it once more.
  expect(seen).toEqual([true, true, true, false, false]);
  press.close();
});
