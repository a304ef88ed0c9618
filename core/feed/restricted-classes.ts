import type { DeviceClass } from '../model/device.ts';
import { type ClassStatus, classStatus, type RestrictionFacts } from '../model/restriction.ts';
import type { DeviceClassEvent, RestrictionEvent } from './feed.ts';

/** A class as a follower knows it. */
interface Known {
  readonly deviceClass: string;
  /** undefined while only certificates have named it. */
  facts: DeviceClass | undefined;
  status: ClassStatus | undefined;
}

/** What a follower keeps of classes and restrictions. */
export interface RestrictedClassesState {
  /** In the order of their numbers, from 1 on. */
  readonly classes: readonly { readonly deviceClass: string; readonly facts: DeviceClass | null }[];
  readonly restrictions: readonly RestrictionFacts[];
}

/**
 * What a follower knows of the classes of phones, and what restrictions make of each. Classes have small numbers here, from 1 on, that mean
 * nothing elsewhere. Events may come in any order, and twice.
 */
export class RestrictedClasses {
  readonly #numbers = new Map<string, number>();
  readonly #classes: Known[] = [];
  readonly #restrictions = new Map<string, RestrictionFacts>();

  /** The number of a class, also of one that nothing else is known of yet. */
  numberOf(deviceClass: string): number {
    const known = this.#numbers.get(deviceClass);
    if (known !== undefined) return known;
    this.#classes.push({ deviceClass, facts: undefined, status: undefined });
    this.#numbers.set(deviceClass, this.#classes.length);
    return this.#classes.length;
  }

  /** Classes that have a number. */
  get count(): number {
    return this.#classes.length;
  }

  /** What restrictions make of a class; undefined where none is about it. */
  statusOf(number: number): ClassStatus | undefined {
    return this.#classes[number - 1]?.status;
  }

  /** Gives the numbers of the classes whose status is another from now on. */
  learn(event: DeviceClassEvent | RestrictionEvent): number[] {
    if (event.type === 'device-class') {
      const number = this.numberOf(event.deviceClass);
      const known = this.#classes[number - 1];
      if (!known || known.facts) return [];
      known.facts = event.facts;
      return this.#review(known) ? [number] : [];
    }
    const { type: _, ...restriction } = event;
    const before = this.#restrictions.get(restriction.restrictionId);
    if (before && before.version >= restriction.version) return [];
    this.#restrictions.set(restriction.restrictionId, restriction);
    return this.#classes.flatMap((known, i) => (this.#review(known) ? [i + 1] : []));
  }

  get state(): RestrictedClassesState {
    const classes = this.#classes.map(({ deviceClass, facts = null }) => ({ deviceClass, facts }));
    return { classes, restrictions: [...this.#restrictions.values()] };
  }

  /** Takes over what another has kept. Only while nothing is known yet. */
  restore({ classes, restrictions }: RestrictedClassesState): void {
    for (const restriction of restrictions) this.#restrictions.set(restriction.restrictionId, restriction);
    for (const { deviceClass, facts } of classes) {
      const known = this.#classes[this.numberOf(deviceClass) - 1];
      if (!known || !facts) continue;
      known.facts = facts;
      this.#review(known);
    }
  }

  /** Whether a class has another status than before. */
  #review(known: Known): boolean {
    const { facts, status: before } = known;
    if (!facts) return false;
    known.status = classStatus(facts, [...this.#restrictions.values()]);
    return JSON.stringify(known.status) !== JSON.stringify(before);
  }
}
