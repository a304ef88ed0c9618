import type { Command } from 'commander';

/** Adds commands to the program. */
export type Commands = (program: Command) => void;

/** A command on a data folder. */
export const commandOn = (program: Command, name: string, description: string): Command =>
  program.command(name).description(description).option('--data <folder>', 'data folder', 'data');

/** An act that two administrators sign for in production. */
export const signedBy = [
  '--approved-by <file...>',
  'the plan, as two administrators have signed it; without, production writes the plan to a file, and does nothing',
] as const;

export interface Approvable {
  readonly data: string;
  readonly approvedBy?: string[];
}
