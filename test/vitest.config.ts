import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Files of a minute and more. They begin first: one that begins last runs alone, while a core waits. */
const longest: readonly string[] = [
  ...['ca/plans', 'processes', 'store/record', 'ca/approvals', 'ca/lanes'],
  ...['drills/torture', 'drills/restore', 'drills/altered', 'drills/nodes', 'drills/backups'],
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification): boolean =>
      longest.some((name) => moduleId.endsWith(`/test/${name}.test.ts`));
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

/** How the tests of some files run. */
export const configOf = (files: { readonly include: string[]; readonly exclude?: string[] }) =>
  defineConfig({
    test: {
      root: new URL('..', import.meta.url).pathname,
      ...files,
      // A process for each file: PKCS#11 login and SOFTHSM2_CONF belong to the process.
      setupFiles: ['test/support/check-rules.ts'],
      globalSetup: ['test/support/postgres-setup.ts'],
      pool: 'forks',
      testTimeout: 30_000,
      hookTimeout: 60_000,
      expect: { poll: { timeout: 15_000 } },
      // Node reads our sources itself: it is faster at it than the transformations of vite.
      server: { deps: { external: [/\.ts$/] } },
      // Tests wait more than they work: three at once take two thirds of the time of two, on two cores.
      maxWorkers: 3,
      sequence: { sequencer: LongestFirst },
    },
  });

export default configOf({ include: ['test/**/*.test.ts'], exclude: ['test/drills/**'] });
