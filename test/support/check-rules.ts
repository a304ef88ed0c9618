import { checkRules } from '../../store/engine/run-rule.ts';

// Before each test file: every rule that runs in the process of a test is held to the loads and locks that it declares.
checkRules();
