import { inWords } from '../node/command-answer.ts';
import { answers, type Commands, commandOn } from './command.ts';

/** Further nodes of a service. */
export const nodeCommands: Commands = (program) => {
  const join = commandOn(
    program,
    'join',
    'make a data folder that of a further node of a service whose record is in PostgreSQL',
  );
  answers(join, async ({ data }: { data: string }) => {
    const { joinService } = await import('../node/join.ts');
    return inWords(await joinService(data));
  });
};
