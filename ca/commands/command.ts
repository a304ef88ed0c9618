import type { Command } from 'commander';
import { defaultDataFolder } from '../../core/runtime/data-folder.ts';
import type { CommandAnswer } from '../node/command-answer.ts';

/** Adds commands to the program. */
export type Commands = (program: Command) => void;

/** A command on a data folder. */
export const commandOn = (program: Command, name: string, description: string): Command =>
  withData(program.command(name).description(description));

/** Names the data folder. */
export const withData = (command: Command): Command =>
  command.option('--data <folder>', 'data folder; also WARIFU_DATA', defaultDataFolder);

/** Has a command print what `act` answers: lines, or with `--json` one object. `act` gets what commander gives an action. */
export function answers<Given extends unknown[]>(
  command: Command,
  act: (...given: Given) => CommandAnswer | Promise<CommandAnswer>,
): Command {
  return command.option('--json', 'print one JSON object').action(async (...given) => {
    const { json } = command.opts<{ json?: true }>();
    const { lines, value, failure } = await act(...(given as unknown as Given));
    const text = json ? `${JSON.stringify(value)}\n` : lines.map((line) => `${line}\n`).join('');
    process.stdout.write(text);
    if (failure) throw failure;
  });
}

/** An act that two administrators sign for in production. */
export const signedBy = [
  '--approved-by <file...>',
  'the plan, as two administrators have signed it; without, production writes the plan to a file, and does nothing',
] as const;

export interface Approvable {
  readonly data: string;
  readonly approvedBy?: string[];
}
