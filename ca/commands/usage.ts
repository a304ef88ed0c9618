import { type Command, CommanderError } from 'commander';
import { PkiError } from '../../core/runtime/errors.ts';
import { fail } from '../../core/runtime/process.ts';

/** Has what is wrong with a command line thrown, so that it is said as every other error. */
export function throwing(command: Command): Command {
  command.exitOverride().configureOutput({ outputError: () => undefined });
  for (const each of command.commands) throwing(each);
  return command;
}

/** Ends with what was thrown: as one object where the command was asked for one, and without a word behind help and version. */
export function endWith(error: unknown): void {
  const json = process.argv.includes('--json');
  if (!(error instanceof CommanderError)) fail(error, { json });
  else if (/^commander\.(help|version)/.test(error.code)) process.exitCode = error.exitCode;
  else {
    const said = error.message.replace(/^error: /, '');
    fail(new PkiError('bad-request', `${said}; --help lists commands and options`), { json });
  }
}
