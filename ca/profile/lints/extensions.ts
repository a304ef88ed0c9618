import { extensionIds, type Lint } from './lint.ts';

export const extensions: Lint = {
  rule: 'extensions are the profile’s, each once, in its order (RFC 5280 §4.2, scheme profile)',
  check: ({ tbs, profile }) =>
    tbs.extensions.length === profile.extensions.length &&
    profile.extensions.every((name, i) => tbs.extensions[i]?.id === extensionIds[name])
      ? undefined
      : 'extensions',
};
