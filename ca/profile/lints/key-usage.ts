import { namedBits } from '../../../core/asn1/der-writer.ts';
import { equal } from '../../../core/runtime/bytes.ts';
import { type Profile, profiles } from '../profiles.ts';
import type { Lint } from './lint.ts';

const wanted = new Map<readonly number[], Uint8Array>(
  Object.values<Profile>(profiles).map(({ keyUsage: bits }) => [bits, namedBits(...bits)]),
);

export const keyUsage: Lint = {
  rule: 'keyUsage has the profile’s bits and no others (RFC 5280 §4.2.1.3)',
  check: ({ extension, profile }) => {
    const [found, bits] = [extension('keyUsage'), wanted.get(profile.keyUsage)];
    return found && bits && equal(found, bits) ? undefined : 'keyUsage';
  },
};
