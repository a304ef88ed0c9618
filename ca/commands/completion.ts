import type { Command } from 'commander';
import { answers, type Commands } from './command.ts';

/** Words that can follow, by what was typed so far: subcommands and options. */
function wordsOf(command: Command, typed: string, found: Map<string, string[]>): void {
  const options = command.options.flatMap(({ long }) => (long ? [long] : []));
  found.set(typed, [...command.commands.map((each) => each.name()), ...options, '--help']);
  for (const each of command.commands) wordsOf(each, `${typed} ${each.name()}`.trim(), found);
}

/** A script for bash, and for zsh in its way of bash. Names of files complete what is no word of these. */
export function completionScript(program: Command): string {
  const found = new Map<string, string[]>();
  wordsOf(program, '', found);
  const cases = [...found].map(([typed, words]) => `    '${typed}') words='${words.join(' ')}' ;;`);
  return `# Completion of warifu: source <(warifu completion)
[ -n "$ZSH_VERSION" ] && autoload -U +X bashcompinit && bashcompinit
_warifu() {
  local typed='' words='' word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) ;; *) typed="\${typed:+$typed }$word" ;; esac
  done
  while :; do
    case "$typed" in
${cases.join('\n')}
    *) case "$typed" in *' '*) typed="\${typed% *}"; continue ;; *) words='' ;; esac ;;
    esac
    break
  done
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _warifu warifu
`;
}

/** What helps at a prompt. */
export const completionCommands: Commands = (program) => {
  const completion = program
    .command('completion')
    .description(
      'print a script that completes commands and options in bash and zsh: source <(warifu completion)',
    );
  answers(completion, () => {
    const script = completionScript(program);
    return { lines: [script.trimEnd()], value: { script } };
  });
};
