import type { PkiError } from '../../core/runtime/errors.ts';

/** What a command answers: lines for a person, and the same as a value for a program (`--json`). */
export interface CommandAnswer {
  readonly lines: readonly string[];
  /** Names of its members stay as they are. */
  readonly value: object;
  /** Why the command failed in spite of what it answers: said behind it. */
  readonly failure?: PkiError;
}

/** The answer of a command that did something, and says what in words. */
export const inWords = (lines: readonly string[]): CommandAnswer => ({ lines, value: { messages: lines } });
