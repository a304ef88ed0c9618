import { flushCompileCache } from 'node:module';
import { afterAll } from 'vitest';
import { checkRules } from '../../store/engine/run-rule.ts';

// Before each test file: every rule that runs in the process of a test is held to the loads and locks that it declares.
checkRules();

// After it: what Node has made of our sources is kept for the files that come. It would be lost, since vitest kills its processes.
afterAll(() => flushCompileCache());
