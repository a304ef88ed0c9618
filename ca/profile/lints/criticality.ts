import { extensionIds, type Lint } from './lint.ts';

const critical = new Set([
  extensionIds.keyUsage,
  extensionIds.basicConstraints,
  extensionIds.certificatePolicies,
]);

export const criticality: Lint = {
  rule: 'only the extensions that must be critical are (RFC 5280 §4.2, scheme profile)',
  check: ({ tbs }) => tbs.extensions.find((found) => found.critical !== critical.has(found.id))?.id,
};
