import { type Commands, commandOn } from './command.ts';

/** Further nodes of a service. */
export const nodeCommands: Commands = (program) => {
  commandOn(
    program,
    'join',
    'make a data folder that of a further node of a service whose record is in PostgreSQL',
  )
    .option('--replace', 'although a node of that name has written the record: its machine is gone for good')
    .action(async ({ data, replace = false }: { data: string; replace?: boolean }) => {
      const { joinService } = await import('../node/join.ts');
      const lines = await joinService(data, replace);
      process.stdout.write(lines.map((line) => `${line}\n`).join(''));
    });
};
