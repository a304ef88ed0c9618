import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    include: ['test/**/*.test.ts'],
    // A process for each file: PKCS#11 login and SOFTHSM2_CONF belong to the process.
    setupFiles: ['test/support/check-rules.ts'],
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 15_000 } },
    // Node reads our sources itself: it is faster at it than the transformations of vite.
    server: { deps: { external: [/\.ts$/] } },
    // Tests wait more than they work: three at once take two thirds of the time of two, on two cores.
    maxWorkers: 3,
  },
});
