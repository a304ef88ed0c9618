import { hash } from 'node:crypto';

/** Which phones a usage restriction is about: all that is named must hold, of a phone of that platform. */
export interface DeviceMatch {
  readonly platform: string;
  readonly models: readonly string[] | null;
  readonly secureElements: readonly string[] | null;
  /** Both inclusive; versions are compared number by number. */
  readonly osVersionFrom: string | null;
  readonly osVersionTo: string | null;
  /** `YYYY-MM` or `YYYY-MM-DD`: phones with an older patch level, or of which none is known. */
  readonly patchLevelBefore: string | null;
  /** Both inclusive, of phones of which the version is known; `To` also of those of which none is. Absent in older restrictions. */
  readonly appletVersionFrom?: string | null;
  readonly appletVersionTo?: string | null;
  readonly appVersionFrom?: string | null;
  readonly appVersionTo?: string | null;
}

/** The model by which a restriction names phones without an attested model. */
export const unknownModel = 'unknown';

/** What is known of a phone, as far as a match is about it; null where it is not known. */
export interface DeviceFacts {
  readonly platform: string | null;
  readonly model: string | null;
  /** Only the phone itself states its model, although evidence of it is possible. */
  readonly isModelUnknown?: boolean;
  readonly osVersion: string | null;
  readonly secureElement: string | null;
  /** `YYYY-MM` or `YYYY-MM-DD`. */
  readonly patchLevel: string | null;
  /** Of the applet in the secure element, and of the app; absent where they were never reported. */
  readonly appletVersion?: string | null;
  readonly appVersion?: string | null;
}

/**
 * Phones that no match can tell apart. `cohort`: what was issued after a restriction that revoked has ended is of a later one, so that what is
 * revoked stays so, and phones of the same kind can be enrolled again.
 */
export interface DeviceClass extends DeviceFacts {
  readonly isModelUnknown: boolean;
  readonly appletVersion: string | null;
  readonly appVersion: string | null;
  /** Since when it is one phone’s, which came into a kind that was restricted already; null of all others. */
  readonly sinceMs: number | null;
  readonly cohort: number;
}

/** What a class is called: 22 characters, the same on every node. */
export const deviceClassName = (facts: string): string =>
  Buffer.from(hash('sha256', facts, 'buffer').subarray(0, 16)).toString('base64url');

/** A class as text, always the same. */
export function deviceClassText(facts: DeviceFacts, cohort: number): string {
  const { platform, model, isModelUnknown = false, osVersion, secureElement, patchLevel } = facts;
  const { appletVersion = null, appVersion = null } = facts;
  const all: DeviceClass = {
    ...{ platform, model, isModelUnknown, osVersion, secureElement, patchLevel },
    ...{ appletVersion, appVersion, sinceMs: null, cohort },
  };
  return JSON.stringify(all);
}

export function matchesDevice(match: DeviceMatch, phone: DeviceFacts): boolean {
  if (phone.platform !== match.platform) return false;
  if (match.models && !match.models.some((model) => isOfModel(phone, model))) return false;
  if (match.secureElements && !match.secureElements.includes(phone.secureElement ?? '')) return false;
  if (!isWithin(phone.osVersion, match.osVersionFrom, match.osVersionTo)) return false;
  if (!isWithin(phone.appletVersion, match.appletVersionFrom, match.appletVersionTo)) return false;
  if (!isWithin(phone.appVersion, match.appVersionFrom, match.appVersionTo)) return false;
  // 2026-10 is before 2026-10-05: what is not known to be patched is not.
  return match.patchLevelBefore === null || (phone.patchLevel ?? '') < match.patchLevelBefore;
}

/** A version that is not known is before all others. */
function isWithin(
  version: string | null | undefined,
  from: string | null | undefined,
  to: string | null | undefined,
): boolean {
  const known = version ?? '';
  if (from != null && compareVersions(known, from) < 0) return false;
  return to == null || compareVersions(known, to) <= 0;
}

/** Whether a model is what the phone says, or is unknown as the phone's is. */
const isOfModel = ({ model, isModelUnknown = false }: DeviceFacts, named: string): boolean =>
  named === model || (named === unknownModel && isModelUnknown);

/** What can be compared: numbers separated by dots. Of anything else it would not be known whether a restriction is about it. */
export const versionPattern = '^[0-9]{1,9}(\\.[0-9]{1,9}){0,7}$';

/** Compares number by number: `16.1` is before `16.10`, and `16` is `16.0`. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => (text.match(/\d+/g) ?? []).map(Number));
  const length = Math.max(left?.length ?? 0, right?.length ?? 0);
  for (let i = 0; i < length; i++) {
    const difference = (left?.[i] ?? 0) - (right?.[i] ?? 0);
    if (difference !== 0) return Math.sign(difference);
  }
  return 0;
}
